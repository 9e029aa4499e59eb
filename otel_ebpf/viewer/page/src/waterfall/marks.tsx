// Words and marks for what a span is.

import type { Kind } from "../api";
import { duration } from "../format";
import type { Node } from "./tree";

/** As the live lines have them: ← serves, → calls. */
export const KIND_ARROWS: Record<Kind, string> = { server: "←", consumer: "⇠", client: "→", producer: "⇢", internal: "·", unspecified: "·" };
export const KIND_WORDS: Record<Kind, string> = {
  server: "serves", consumer: "takes a message", client: "calls", producer: "sends a message", internal: "does", unspecified: "does",
};

/** ◆; label "": words beside it say the same. */
export function Failed({ label }: { label: string }) {
  const told = label ? { role: "img" as const, "aria-label": label } : { "aria-hidden": true as const };
  return <svg class="bad failed-mark" width="10" height="10" viewBox="0 0 10 10" {...told}><path d="M5 0 10 5 5 10 0 5z" fill="currentColor" /></svg>;
}

/** Why a server span is outside its client's. */
export function outsideText(node: Node): string {
  return node.sameClock
    ? `It is ${duration(node.outside)} outside its client's span, on the same host: the server went on after the client had its answer, or one of the two ends was not seen right.`
    : `It is ${duration(node.outside)} outside its client's span: the clocks of the two hosts differ by at least that.`;
}

/** What a client waited for beyond its server's span: on one host hardly ever a network. */
export function betweenWords(node: Node): { short: string; long: string } {
  return node.oneHost
    ? { short: "between ends", long: "between the two ends on this host: queues, scheduling, loopback" }
    : { short: "network", long: "between the two ends: network, queues, scheduling" };
}

export function orphanText(node: Node): string {
  return node.orphan === "loop"
    ? `Parent ${node.span.parent_id ?? ""} is below this span itself: one of the two is wrong.`
    : `Parent ${node.span.parent_id ?? ""} is not here (sampled out, not yet arrived, or lost).`;
}
