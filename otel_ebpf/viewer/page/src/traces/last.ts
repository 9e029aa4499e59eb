// Where "back to the search" leads: the last search of this page's life.

import { href } from "../url";

let address: string | null = null;

export function rememberSearch(): void { address = window.location.pathname + window.location.search; }
export function lastSearch(): string { return address ?? href("/traces"); }
