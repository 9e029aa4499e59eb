// Where nodes stand. Small graphs: dagre, from left to right. Large ones: layered.ts. Groups: each is laid out by itself,
// then all of them as boxes. What stands somewhere stays there: a new node is put beside its neighbours.

import dagre from "@dagrejs/dagre";
import { layered } from "./layered";

export interface Point { x: number; y: number }
export interface Box { id: string; w: number; h: number; group?: string | null }
export interface Link { from: string; to: string }

/** One text for both ends, whatever is in their names. */
export const linkKey = (from: string, to: string): string => JSON.stringify([from, to]);

/** Centres of boxes, bends of links by `linkKey`, and the size of the whole, whose corner is 0, 0. */
export interface Placed { positions: Map<string, Point>; routes: Map<string, Point[]>; width: number; height: number }

const DAGRE_NODES = 70;
const DAGRE_LINKS = 160;
export const HULL = { side: 18, top: 34, bottom: 18 };

function byDagre(boxes: readonly Box[], links: readonly Link[]): Placed {
  const graph = new dagre.graphlib.Graph({ multigraph: false });
  graph.setGraph({ rankdir: "LR", nodesep: 26, ranksep: 104, edgesep: 18, ranker: "network-simplex" });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const box of boxes) graph.setNode(box.id, { width: box.w, height: box.h });
  for (const link of links) if (link.from !== link.to) graph.setEdge(link.from, link.to);
  dagre.layout(graph);
  const positions = new Map<string, Point>();
  for (const box of boxes) {
    const { x = 0, y = 0 } = graph.node(box.id) as Partial<Point>;
    positions.set(box.id, { x, y });
  }
  const routes = new Map<string, Point[]>();
  for (const { v, w } of graph.edges()) {
    const points = (graph.edge(v, w) as { points?: Point[] }).points ?? [];
    routes.set(linkKey(v, w), points.slice(1, -1));
  }
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  return { positions, routes, width: Math.max(0, width), height: Math.max(0, height) };
}

function flat(boxes: readonly Box[], links: readonly Link[]): Placed {
  const small = boxes.length <= DAGRE_NODES && links.length <= DAGRE_LINKS;
  return small ? byDagre(boxes, links) : layered(boxes, links);
}

/** Every group as a graph of its own, then these as boxes among the nodes of no group. */
function grouped(boxes: readonly Box[], links: readonly Link[]): Placed {
  const groups = new Map<string, Box[]>();
  for (const box of boxes) {
    if (box.group !== null && box.group !== undefined) (groups.get(box.group) ?? groups.set(box.group, []).get(box.group))?.push(box);
  }
  const inside = new Map<string, Placed>();
  const outer: Box[] = boxes.filter((box) => box.group === null || box.group === undefined).map((box) => ({ ...box }));
  const home = new Map<string, string>(outer.map((box) => [box.id, box.id]));
  for (const [group, members] of groups) {
    const ids = new Set(members.map((box) => box.id));
    const placed = flat(members, links.filter((link) => ids.has(link.from) && ids.has(link.to)));
    const id = `\u0002${group}`;
    inside.set(group, placed);
    outer.push({ id, w: placed.width + 2 * HULL.side, h: placed.height + HULL.top + HULL.bottom });
    for (const member of ids) home.set(member, id);
  }
  const between = new Map<string, Link>();
  for (const link of links) {
    const from = home.get(link.from);
    const to = home.get(link.to);
    if (from !== undefined && to !== undefined && from !== to) between.set(linkKey(from, to), { from, to });
  }
  const whole = flat(outer, [...between.values()]);
  const positions = new Map<string, Point>();
  for (const box of outer) {
    const at = whole.positions.get(box.id);
    if (at && !box.id.startsWith("\u0002")) positions.set(box.id, at);
  }
  for (const [group, placed] of inside) {
    const at = whole.positions.get(`\u0002${group}`) ?? { x: 0, y: 0 };
    const left = at.x - placed.width / 2;
    const top = at.y - (placed.height + HULL.top + HULL.bottom) / 2 + HULL.top;
    for (const [id, point] of placed.positions) positions.set(id, { x: left + point.x, y: top + point.y });
  }
  return { positions, routes: new Map(), width: whole.width, height: whole.height };
}

/** Lay out a graph anew. */
export function layout(boxes: readonly Box[], links: readonly Link[]): Placed {
  if (!boxes.length) return { positions: new Map(), routes: new Map(), width: 0, height: 0 };
  return boxes.some((box) => box.group !== null && box.group !== undefined) ? grouped(boxes, links) : flat(boxes, links);
}

/** A free place for a box near a point: on growing rings around it. */
function free(box: Box, near: Point, taken: readonly (Box & Point)[]): Point {
  const fits = (at: Point): boolean => taken.every((one) =>
    Math.abs(one.x - at.x) >= (one.w + box.w) / 2 + 12 || Math.abs(one.y - at.y) >= (one.h + box.h) / 2 + 12);
  for (let ring = 0; ring < 60; ring += 1) {
    for (let step = 0; step < Math.max(1, ring * 6); step += 1) {
      const angle = (step / Math.max(1, ring * 6)) * 2 * Math.PI + Math.PI / 2;
      const at = { x: near.x + Math.cos(angle) * ring * 60, y: near.y + Math.sin(angle) * ring * 32 };
      if (fits(at)) return at;
    }
  }
  return near;
}

/**
 * Positions for all boxes, given those of some: null if so many are new that a fresh layout is better.
 * What calls a known node stands to its left, what it calls to its right.
 */
export function extend(boxes: readonly Box[], links: readonly Link[], known: ReadonlyMap<string, Point>): Map<string, Point> | null {
  const fresh = boxes.filter((box) => !known.has(box.id));
  if (fresh.length > Math.max(2, boxes.length * 0.3)) return null;
  const positions = new Map<string, Point>();
  const taken: (Box & Point)[] = [];
  const put = (box: Box, at: Point): void => { positions.set(box.id, at); taken.push({ ...box, ...at }); };
  for (const box of boxes) {
    const at = known.get(box.id);
    if (at) put(box, at);
  }
  for (const box of fresh) {
    const wishes = links.flatMap((link) => {
      const [other, side] = link.to === box.id ? [link.from, 1] : link.from === box.id ? [link.to, -1] : ["", 0];
      const at = positions.get(other);
      return at && side ? [{ x: at.x + side * 240, y: at.y }] : [];
    });
    const low = Math.max(0, ...taken.map((one) => one.y + one.h));
    const near = wishes.length
      ? { x: wishes.reduce((sum, wish) => sum + wish.x, 0) / wishes.length, y: wishes.reduce((sum, wish) => sum + wish.y, 0) / wishes.length }
      : { x: box.w / 2, y: low + box.h };
    put(box, free(box, near, taken));
  }
  return positions;
}
