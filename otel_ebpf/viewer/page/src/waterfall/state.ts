// What of a trace is looked at: all of it in the address.

import { param, setQuery } from "../url";
import type { Node, Tree } from "./tree";

export interface View { from: number; to: number }

/** How many folded spans the address keeps; beyond that the oldest are unfolded again. */
const FOLDS = 60;

/** The part of the trace that is shown, Unix ms; `from` and `to` in the address count from the trace's start. */
export function viewOf(tree: Tree): View {
  const whole = { from: tree.start, to: Math.max(tree.end, tree.start + 0.001) };
  const from = tree.start + Number(param("from", "0"));
  const to = tree.start + Number(param("to", "NaN"));
  return Number.isFinite(from) && Number.isFinite(to) && to > from && to > whole.from && from < whole.to ? { from, to } : whole;
}

export function zoomed(): boolean { return param("to") !== ""; }

export function zoom(tree: Tree, from: number, to: number): void {
  const least = Math.max((tree.end - tree.start) / 1e5, 0.001);
  const middle = (from + to) / 2;
  const half = Math.max(to - from, least) / 2;
  setQuery({ from: round(middle - half - tree.start), to: round(middle + half - tree.start) });
}

export function unzoom(): void { setQuery({ from: null, to: null }); }

const round = (ms: number): number => Number(ms.toFixed(4));

export function closedOf(): ReadonlySet<string> {
  return new Set(param("closed").split(".").filter((id) => id !== ""));
}

/** Fold or unfold a span. */
export function fold(node: Node, closed: boolean): void {
  const ids = new Set(closedOf());
  if (closed) ids.add(node.span.span_id);
  else ids.delete(node.span.span_id);
  setQuery({ closed: [...ids].slice(-FOLDS).join(".") }, { replace: true });
}

/** The span that the address names; of several with its id, the first. */
export function selectedOf(tree: Tree): Node | null {
  const id = param("span");
  return id === "" ? null : tree.nodes.find((node) => node.span.span_id === id) ?? null;
}

/** Select a span, and unfold what hides it. */
export function select(node: Node | null): void {
  const closed = new Set(closedOf());
  for (let above = node?.parent; above; above = above.parent) closed.delete(above.span.span_id);
  setQuery({ span: node?.span.span_id ?? null, closed: [...closed].join(".") }, { replace: true });
}
