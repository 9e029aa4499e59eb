// The critical path: what would have had to be faster for the trace to be faster. Seen from the root's end backwards,
// time belongs to the child that finished last, and before that child's start again to the span that waited for it.

import { rest, type Interval } from "./intervals";
import type { Node } from "./tree";

/** For each span on the path, the stretches in which it (and none of its children) was what all waited for. */
export function criticalPath(root: Node): Map<Node, Interval[]> {
  const path = new Map<Node, Interval[]>();
  const open: { node: Node; until: number }[] = [{ node: root, until: root.end }];
  for (let next = open.pop(); next; next = open.pop()) {
    const { node } = next;
    const until = Math.min(next.until, node.end);
    const taken: Interval[] = [];
    let at = until;
    // Children that end later were not waited for: they run on by themselves.
    for (const child of [...node.children].sort((one, other) => other.end - one.end)) {
      if (child.end > at || child.end <= node.start || child.end <= child.start) continue;
      const start = Math.max(child.start, node.start);
      taken.unshift([start, child.end]);
      open.push({ node: child, until: child.end });
      at = start;
    }
    path.set(node, rest([node.start, until], taken));
  }
  return path;
}
