// Words and marks for what a span is.

import type { Kind } from "../api";
import type { Node } from "./tree";

/** As the live lines have them: ← serves, → calls. */
export const KIND_ARROWS: Record<Kind, string> = { server: "←", consumer: "⇠", client: "→", producer: "⇢", internal: "·", unspecified: "·" };
export const KIND_WORDS: Record<Kind, string> = {
  server: "serves", consumer: "takes a message", client: "calls", producer: "sends a message", internal: "does", unspecified: "does",
};

export function Failed({ label }: { label: string }) {
  return <svg class="bad failed-mark" width="10" height="10" viewBox="0 0 10 10" role="img" aria-label={label}><path d="M5 0 10 5 5 10 0 5z" fill="currentColor" /></svg>;
}

export function orphanText(node: Node): string {
  return node.orphan === "loop"
    ? `Parent ${node.span.parent_id ?? ""} is below this span itself: one of the two is wrong.`
    : `Parent ${node.span.parent_id ?? ""} is not here (sampled out, not yet arrived, or lost).`;
}
