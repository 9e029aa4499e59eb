// Curves of edges: where they leave and enter nodes, how they run, and what lies under the pointer.

import type { GraphEdge } from "./graph";
import type { Box, Point } from "./layout";

/** A chain of cubic Béziers: start, then (control, control, end) again and again. */
export interface Curve { points: Point[]; middle: Point; angle: number; samples: Float64Array; box: { x0: number; y0: number; x1: number; y1: number } }

export interface Ports { start: Point; end: Point }
export type Placed = Box & Point;

/** Offsets along the side of a node, so that edges do not all meet in one point. */
function spread(count: number, height: number): number[] {
  const step = count > 1 ? Math.min(9, (height - 14) / (count - 1)) : 0;
  return Array.from({ length: count }, (_, index) => (index - (count - 1) / 2) * step);
}

/** Where each of the edges starts and ends. Backward edges leave at the left side and enter at the right one. */
export function portsOf(edges: readonly GraphEdge[], nodes: ReadonlyMap<string, Placed>): Map<string, Ports> {
  const sides = new Map<string, { edge: GraphEdge; start: boolean; other: number }[]>();
  const result = new Map<string, Ports>();
  for (const edge of edges) {
    const from = nodes.get(edge.client);
    const to = nodes.get(edge.server);
    if (!from || !to) continue;
    const forward = to.x - to.w / 2 > from.x + from.w / 2 - 20;
    const back = to.x + to.w / 2 < from.x - from.w / 2 + 20;
    const startSide = back ? "left" : "right";
    const endSide = forward ? "left" : "right";
    const add = (key: string, start: boolean, other: number): void => {
      (sides.get(key) ?? sides.set(key, []).get(key))?.push({ edge, start, other });
    };
    add(`${startSide}\u0000${from.id}`, true, to.y);
    add(`${endSide}\u0000${to.id}`, false, from.y);
    result.set(edge.id, {
      start: { x: from.x + (startSide === "left" ? -1 : 1) * from.w / 2, y: from.y },
      end: { x: to.x + (endSide === "left" ? -1 : 1) * to.w / 2, y: to.y },
    });
  }
  for (const [key, ends] of sides) {
    const node = nodes.get(key.slice(key.indexOf("\u0000") + 1));
    if (!node) continue;
    ends.sort((one, other) => one.other - other.other);
    const offsets = spread(ends.length, node.h);
    ends.forEach(({ edge, start }, index) => {
      const ports = result.get(edge.id);
      if (ports) (start ? ports.start : ports.end).y += offsets[index] ?? 0;
    });
  }
  return result;
}

/** The curve through `via`, level where it passes them, so that it runs like a cable in a duct. */
export function curveOf({ start, end }: Ports, via: readonly Point[], loop: boolean): Curve {
  const points: Point[] = [start];
  const stops = [...via, end];
  let at = start;
  if (loop) {
    points.push({ x: start.x + 50, y: start.y - 50 }, { x: end.x + 50, y: end.y + 50 }, end);
  } else {
    for (const stop of stops) {
      const dx = stop.x - at.x;
      const same = Math.abs(dx) < 30 && stops.length === 1; // from side to side of one column: bulge
      const bend = same ? 60 : dx / 2;
      points.push({ x: at.x + bend, y: at.y }, { x: same ? stop.x + 60 : stop.x - bend, y: stop.y }, stop);
      at = stop;
    }
  }
  return measured(points);
}

const STEPS = 14;

function onBezier(p: Point, a: Point, b: Point, q: Point, t: number): Point {
  const s = 1 - t;
  return {
    x: s * s * s * p.x + 3 * s * s * t * a.x + 3 * s * t * t * b.x + t * t * t * q.x,
    y: s * s * s * p.y + 3 * s * s * t * a.y + 3 * s * t * t * b.y + t * t * t * q.y,
  };
}

function measured(points: Point[]): Curve {
  const chains = (points.length - 1) / 3;
  const samples = new Float64Array(2 * (chains * STEPS + 1));
  const box = { x0: Infinity, y0: Infinity, x1: -Infinity, y1: -Infinity };
  let count = 0;
  const add = (at: Point): void => {
    samples[2 * count] = at.x;
    samples[2 * count + 1] = at.y;
    count += 1;
    box.x0 = Math.min(box.x0, at.x); box.x1 = Math.max(box.x1, at.x);
    box.y0 = Math.min(box.y0, at.y); box.y1 = Math.max(box.y1, at.y);
  };
  const [first] = points;
  if (first) add(first);
  for (let chain = 0; chain < chains; chain += 1) {
    const [p, a, b, q] = points.slice(3 * chain, 3 * chain + 4);
    if (!p || !a || !b || !q) continue;
    for (let step = 1; step <= STEPS; step += 1) add(onBezier(p, a, b, q, step / STEPS));
  }
  const half = Math.floor(count / 2);
  const x = (index: number): number => samples[2 * index] ?? 0;
  const y = (index: number): number => samples[2 * index + 1] ?? 0;
  const middle = count % 2 ? { x: x(half), y: y(half) } : { x: (x(half - 1) + x(half)) / 2, y: (y(half - 1) + y(half)) / 2 };
  const angle = Math.atan2(y(half + 1) - y(half - 1), x(half + 1) - x(half - 1));
  return { points, middle, angle, samples, box };
}

/** Distance of a point from a curve, or Infinity if it is farther than `reach`. */
export function distance(curve: Curve, at: Point, reach: number): number {
  const { box, samples } = curve;
  if (at.x < box.x0 - reach || at.x > box.x1 + reach || at.y < box.y0 - reach || at.y > box.y1 + reach) return Infinity;
  let nearest = Infinity;
  for (let index = 0; index + 3 < samples.length; index += 2) {
    const px = samples[index] ?? 0;
    const py = samples[index + 1] ?? 0;
    const dx = (samples[index + 2] ?? 0) - px;
    const dy = (samples[index + 3] ?? 0) - py;
    const t = Math.max(0, Math.min(1, ((at.x - px) * dx + (at.y - py) * dy) / (dx * dx + dy * dy || 1)));
    nearest = Math.min(nearest, Math.hypot(at.x - px - t * dx, at.y - py - t * dy));
  }
  return nearest <= reach ? nearest : Infinity;
}
