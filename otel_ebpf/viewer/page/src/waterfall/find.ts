// Spans of a trace that have a text somewhere.

import type { Node, Tree } from "./tree";
import { valueText } from "./values";

/** Those whose service, name, message or attributes have `text` (case does not count); null: nothing is looked for. */
export function findSpans(tree: Tree, text: string): Set<Node> | null {
  const wanted = text.trim().toLowerCase();
  if (wanted === "") return null;
  const has = (value: string): boolean => value.toLowerCase().includes(wanted);
  return new Set(tree.nodes.filter(({ span }) => has(span.service) || has(span.name) || has(span.message) || has(span.span_id)
    || Object.entries(span.attributes).some(([key, value]) => has(key) || has(valueText(value)))));
}
