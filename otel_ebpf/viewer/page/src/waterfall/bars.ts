// Where the parts of a span's bar stand, in percent of the part of the trace that is shown.

import type { Interval } from "./intervals";
import type { View } from "./state";
import type { Node } from "./tree";

export interface Bar { left: number; width: number }

/** Narrower gaps than this part of the view are not drawn: they would be less than about a pixel. */
const FINEST = 1 / 800;

export function barOf([start, end]: Interval, view: View): Bar | null {
  const length = view.to - view.from;
  const left = (Math.max(start, view.from) - view.from) / length;
  const right = (Math.min(end, view.to) - view.from) / length;
  return right < left || end < view.from || start > view.to ? null : { left: 100 * left, width: 100 * (right - left) };
}

/** The bars of `intervals`, joined where nobody could tell them apart: never more than 800. */
export function barsOf(intervals: readonly Interval[], view: View): Bar[] {
  const finest = (view.to - view.from) * FINEST;
  const joined: [number, number][] = [];
  for (const [start, end] of intervals) {
    if (end < view.from || start > view.to) continue;
    const last = joined.at(-1);
    if (last && start - last[1] < finest) last[1] = end;
    else joined.push([start, end]);
  }
  return joined.map((one) => barOf(one, view)).filter((bar): bar is Bar => bar !== null && bar.width > 0);
}

/** Where the network's part of a client span is: around its server's span, or halves where clocks do not agree. */
export function networkOf(node: Node): Interval[] {
  if (node.network === null || node.network <= 0) return [];
  const server = node.children.find((child) => child.span.kind === "server");
  if (server && server.outside === 0) return [[node.start, Math.max(node.start, server.start)], [Math.min(server.end, node.end), node.end]];
  return [[node.start, node.start + node.network / 2], [node.end - node.network / 2, node.end]];
}

/** Where there is room for a bar's text, `room` percent wide: behind it, before it, or in it. */
export function labelPlace(bar: Bar, room: number): "after" | "before" | "inside" {
  if (bar.left + bar.width < 100 - room) return "after";
  return bar.left > room ? "before" : "inside";
}
