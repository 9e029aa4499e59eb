// The address is the page's state: what a view shows follows from path and query alone, so a copied link shows the same.
// The server answers index.html for every path of a view; within the page the history API changes it.

import { computed, signal } from "@preact/signals";

export type Params = Record<string, string | number | boolean | null | undefined | readonly string[]>;

export interface Place { path: string; query: URLSearchParams }

const read = (): Place => ({ path: window.location.pathname, query: new URLSearchParams(window.location.search) });

/** Where we are; everything that shows state reads it here. */
export const place = signal<Place>(read());

/** The path's parts, decoded: "/service/a%2Fb" → ["service", "a/b"]. */
export const parts = computed(() => split(place.value.path));

export function split(path: string): string[] {
  return path.split("/").filter((part) => part !== "").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part; // not percent-encoded text: itself
    }
  });
}

/** Parameters that go with the user from view to view. */
const KEPT = ["start", "end"] as const;

/** A query with `changes` made: null, undefined, "" and false take a key out, a list repeats it. */
export function changed(query: URLSearchParams, changes: Params): URLSearchParams {
  const result = new URLSearchParams(query);
  for (const [key, value] of Object.entries(changes)) {
    result.delete(key);
    if (Array.isArray(value)) for (const one of value as readonly string[]) result.append(key, one);
    else if (value !== null && value !== undefined && value !== "" && value !== false) {
      result.set(key, value === true ? "1" : String(value));
    }
  }
  return result;
}

/** The address of a view, with the time window that is looked at now: href("/traces", {service: "shop"}). */
export function href(path: string, params: Params = {}): string {
  const query = new URLSearchParams();
  for (const key of KEPT) {
    const value = place.value.query.get(key);
    if (value !== null) query.set(key, value);
  }
  const text = changed(query, params).toString();
  return text ? `${path}?${text}` : path;
}

/** The path of a thing by its name: at("service", "a/b") → "/service/a%2Fb". */
export function at(...names: string[]): string {
  return `/${names.map(encodeURIComponent).join("/")}`;
}

export function go(address: string, options: { replace?: boolean } = {}): void {
  if (options.replace) window.history.replaceState(null, "", address);
  else window.history.pushState(null, "", address);
  const before = place.value.path;
  place.value = read();
  if (!options.replace && before !== place.value.path) window.scrollTo(0, 0);
}

/** Change parameters of the view that is shown. `replace`: the back button does not undo it (typing, panning). */
export function setQuery(changes: Params, options: { replace?: boolean } = {}): void {
  const text = changed(place.value.query, changes).toString();
  go(text ? `${place.value.path}?${text}` : place.value.path, options);
}

export function param(key: string, otherwise = ""): string {
  return place.value.query.get(key) ?? otherwise;
}

/** Follow links within the page without loading it again, and the back and forward buttons. */
export function listen(): void {
  window.addEventListener("popstate", () => { place.value = read(); });
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.target || link.hasAttribute("download") || link.origin !== window.location.origin) return;
    if (link.pathname.startsWith("/api/") || link.hash) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
