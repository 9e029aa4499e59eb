// Where nodes stand. Small graphs: dagre, from left to right, groups as its clusters. Large ones: layered.ts, groups as
// tiles. What stands somewhere stays there: a new node is put beside its neighbours.

import dagre from "@dagrejs/dagre";
import { layered } from "./layered";

export interface Point { x: number; y: number }
export interface Box { id: string; w: number; h: number; group?: string | null }
/** `weight`: how much it matters that the link is short and straight; 1 if it is not said. */
export interface Link { from: string; to: string; weight?: number }

/** One text for both ends, whatever is in their names. */
export const linkKey = (from: string, to: string): string => JSON.stringify([from, to]);

/** Centres of boxes, bends of links by `linkKey`, and the size of the whole, whose corner is 0, 0. */
export interface Placed { positions: Map<string, Point>; routes: Map<string, Point[]>; width: number; height: number }

const DAGRE_NODES = 70;
/** Where there are many edges for each node, routes around nodes fill the screen with parallel lines. */
const LINKS_PER_NODE = 2.2;
export const HULL = { side: 18, top: 34, bottom: 18 };

/** dagre is given numbers for names: it joins names by characters that may be in ours. */
function byDagre(boxes: readonly Box[], links: readonly Link[]): Placed {
  const graph = new dagre.graphlib.Graph({ multigraph: false, compound: true });
  graph.setGraph({ rankdir: "LR", nodesep: 28, ranksep: 104, edgesep: 20, ranker: "network-simplex" });
  graph.setDefaultEdgeLabel(() => ({}));
  const keys = new Map(boxes.map((box, index) => [box.id, `n${index}`]));
  const hulls = new Map<string, string>();
  for (const box of boxes) {
    const key = keys.get(box.id) ?? "";
    graph.setNode(key, { width: box.w, height: box.h });
    if (box.group === null || box.group === undefined) continue;
    const hull = hulls.get(box.group) ?? `g${hulls.size}`;
    if (!hulls.has(box.group)) graph.setNode(hull, {});
    hulls.set(box.group, hull);
    graph.setParent(key, hull);
  }
  const drawn = links.flatMap((link) => {
    const [from, to] = [keys.get(link.from), keys.get(link.to)];
    return from === undefined || to === undefined || from === to ? [] : [{ link, from, to }];
  });
  for (const { link, from, to } of drawn) graph.setEdge(from, to, { weight: link.weight ?? 1 });
  dagre.layout(graph);
  const positions = new Map<string, Point>();
  for (const box of boxes) {
    const { x = 0, y = 0 } = graph.node(keys.get(box.id) ?? "") as Partial<Point>;
    positions.set(box.id, { x, y });
  }
  const routes = new Map<string, Point[]>();
  for (const { link, from, to } of drawn) {
    const points = (graph.edge(from, to) as { points?: Point[] }).points ?? [];
    routes.set(linkKey(link.from, link.to), points.slice(1, -1));
  }
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  return { positions, routes, width: Math.max(0, width), height: Math.max(0, height) };
}

/** A drawing much wider than a screen gets more room between its rows: that costs nothing and reads better. */
function airy(placed: Placed): Placed {
  const factor = Math.min(2.2, placed.width / Math.max(1, placed.height) / 1.9);
  if (factor <= 1) return placed;
  for (const point of [...placed.positions.values(), ...[...placed.routes.values()].flat()]) point.y *= factor;
  return { ...placed, height: placed.height * factor };
}

const isSmall = (boxes: readonly Box[], links: readonly Link[]): boolean => boxes.length <= DAGRE_NODES && links.length <= 12 + LINKS_PER_NODE * boxes.length;

const flat = (boxes: readonly Box[], links: readonly Link[]): Placed => (isSmall(boxes, links) ? byDagre(boxes, links) : layered(boxes, links));

const TILE_GAP = 40;

/** Of a large graph: every group as a graph of its own, then these as tiles in rows, the largest first. */
function tiled(boxes: readonly Box[], links: readonly Link[]): Placed {
  const groups = new Map<string | null, Box[]>();
  for (const box of boxes) (groups.get(box.group ?? null) ?? groups.set(box.group ?? null, []).get(box.group ?? null))?.push(box);
  const tiles = [...groups].map(([group, members]) => {
    const ids = new Set(members.map((box) => box.id));
    const placed = layered(members, links.filter((link) => ids.has(link.from) && ids.has(link.to)), true);
    const hull = group === null ? { side: 0, top: 0, bottom: 0 } : HULL;
    return { group, placed, hull, w: placed.width + 2 * hull.side, h: placed.height + hull.top + hull.bottom };
  });
  tiles.sort((one, other) => Number(one.group !== null) - Number(other.group !== null) || other.h - one.h || (one.group ?? "").localeCompare(other.group ?? ""));
  const area = tiles.reduce((sum, tile) => sum + (tile.w + TILE_GAP) * (tile.h + TILE_GAP), 0);
  const wide = Math.max(Math.sqrt(area * 1.8), ...tiles.map((tile) => tile.w));
  const positions = new Map<string, Point>();
  let [x, y, row, width] = [0, 0, 0, 0];
  for (const tile of tiles) {
    if (x > 0 && x + tile.w > wide) [x, y, row] = [0, y + row + TILE_GAP, 0];
    for (const [id, at] of tile.placed.positions) positions.set(id, { x: x + tile.hull.side + at.x, y: y + tile.hull.top + at.y });
    x += tile.w + TILE_GAP;
    row = Math.max(row, tile.h);
    width = Math.max(width, x - TILE_GAP);
  }
  return { positions, routes: new Map(), width, height: y + row };
}

/** Lay out a graph anew. */
export function layout(boxes: readonly Box[], links: readonly Link[]): Placed {
  if (!boxes.length) return { positions: new Map(), routes: new Map(), width: 0, height: 0 };
  const hasGroups = boxes.some((box) => box.group !== null && box.group !== undefined);
  return hasGroups && !isSmall(boxes, links) ? tiled(boxes, links) : airy(flat(boxes, links));
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
