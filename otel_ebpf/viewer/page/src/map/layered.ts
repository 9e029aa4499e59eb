// Layers from left to right for graphs too large for dagre's network simplex: longest paths for the columns, barycentres
// for the order within (Sugiyama, Tagawa and Toda 1981), columns wrapped so that the drawing is about as wide as a screen.
// Linear in edges but for sorting: 1,000 edges take some milliseconds.

import type { Box, Link, Placed } from "./layout";

const SWEEPS = 10;
const ROW_GAP = 12;
const COLUMN_GAP = 120;
/** Between columns within a group, whose edges are mostly short. */
const INNER_GAP = 44;
const WRAP_GAP = 26;
const ASPECT = 1.7;
const ZIGZAG = [-0.2, 0.7, -0.9, 0.3, -0.5, 1, -0.7, 0.5];
const ZIGZAG_HEIGHT = 220;

/** Column of every node: the longest path to it, where edges that close a cycle do not count. */
export function ranks(boxes: readonly Box[], links: readonly Link[]): Map<string, number> {
  const out = new Map<string, string[]>(boxes.map((box) => [box.id, []]));
  const incoming = new Map<string, number>(boxes.map((box) => [box.id, 0]));
  for (const link of links) {
    if (link.from === link.to || !out.has(link.from) || !out.has(link.to)) continue;
    out.get(link.from)?.push(link.to);
    incoming.set(link.to, (incoming.get(link.to) ?? 0) + 1);
  }
  const rank = new Map<string, number>(boxes.map((box) => [box.id, 0]));
  const done = new Set<string>();
  const ready = boxes.filter((box) => incoming.get(box.id) === 0).map((box) => box.id);
  const waiting = boxes.map((box) => box.id).sort((one, other) => (incoming.get(one) ?? 0) - (incoming.get(other) ?? 0));
  let next = 0;
  while (done.size < boxes.length) {
    let id = ready.pop();
    while (id === undefined) {
      const candidate = waiting[next++]; // only cycles are left: break one where fewest edges come in
      if (candidate !== undefined && !done.has(candidate)) id = candidate;
    }
    if (done.has(id)) continue;
    done.add(id);
    for (const to of out.get(id) ?? []) {
      if (done.has(to)) continue;
      rank.set(to, Math.max(rank.get(to) ?? 0, (rank.get(id) ?? 0) + 1));
      incoming.set(to, (incoming.get(to) ?? 1) - 1);
      if (incoming.get(to) === 0) ready.push(to);
    }
  }
  return rank;
}

function columnsOf(boxes: readonly Box[], links: readonly Link[]): Box[][] {
  const rank = ranks(boxes, links);
  const columns: Box[][] = [];
  for (const box of boxes) (columns[rank.get(box.id) ?? 0] ??= []).push(box);
  return columns.map((column) => column ?? []);
}

/** Fewer crossings: each column in the order of the mean position of what its nodes are linked to. */
function order(columns: Box[][], links: readonly Link[]): void {
  const near = new Map<string, string[]>();
  const join = (one: string, other: string): void => { (near.get(one) ?? near.set(one, []).get(one))?.push(other); };
  for (const link of links) {
    join(link.from, link.to);
    join(link.to, link.from);
  }
  const place = new Map<string, number>();
  const number = (column: readonly Box[]): void => column.forEach((box, index) => place.set(box.id, (index + 0.5) / column.length));
  columns.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const column of sweep % 2 ? [...columns].reverse() : columns) {
      const wish = new Map(column.map((box) => {
        const others = near.get(box.id) ?? [];
        const sum = others.reduce((total, id) => total + (place.get(id) ?? 0.5), 0);
        return [box.id, others.length ? sum / others.length : place.get(box.id) ?? 0.5];
      }));
      column.sort((one, other) => (wish.get(one.id) ?? 0) - (wish.get(other.id) ?? 0));
      number(column);
    }
  }
}

/** How many rows a column may have for the whole to be about as wide as a screen. */
function rowsFor(columns: readonly (readonly Box[])[], gap: number): number {
  const most = Math.max(...columns.map((column) => column.length), 1);
  const size = columns.flat()[0] ?? { w: 150, h: 44 };
  for (let rows = 3; rows < most; rows += 1) {
    const wide = columns.reduce((sum, column) => {
      const parts = Math.ceil(column.length / rows);
      return sum + parts * size.w + (parts - 1) * WRAP_GAP + gap;
    }, 0);
    if (wide <= ASPECT * rows * (size.h + ROW_GAP)) return rows;
  }
  return most;
}

/** `inner`: a group's own nodes, set closer. */
export function layered(boxes: readonly Box[], links: readonly Link[], inner = false): Placed {
  const gap = inner ? INNER_GAP : COLUMN_GAP;
  const columns = columnsOf(boxes, links);
  order(columns, links);
  const rows = rowsFor(columns, gap);
  const positions = new Map<string, { x: number; y: number }>();
  let x = 0;
  const most = Math.max(...columns.map((column) => column.length));
  for (const [index, column] of columns.entries()) {
    // Columns of one or two nodes beside each other would stand in a line, and hide the edges that skip one.
    const lift = inner || column.length > 2 || most < 3 && columns.length < 4 ? 0 : (ZIGZAG[index % ZIGZAG.length] ?? 0) * ZIGZAG_HEIGHT;
    const parts = Math.max(1, Math.ceil(column.length / rows));
    for (let part = 0; part < parts; part += 1) {
      const own = column.filter((_, index) => index % parts === part); // neighbours in the order stay side by side
      const width = Math.max(0, ...own.map((box) => box.w));
      const height = own.reduce((sum, box) => sum + box.h + ROW_GAP, -ROW_GAP);
      let y = lift - height / 2 + (parts > 1 ? (part / parts) * 24 : 0);
      for (const box of own) {
        positions.set(box.id, { x: x + width / 2, y: y + box.h / 2 });
        y += box.h + ROW_GAP;
      }
      x += width + (part < parts - 1 ? WRAP_GAP : gap);
    }
  }
  const edges = boxes.map((box) => ({ y: positions.get(box.id)?.y ?? 0, half: box.h / 2 }));
  const top = Math.min(...edges.map(({ y, half }) => y - half));
  for (const at of positions.values()) at.y -= top;
  return { positions, routes: new Map(), width: Math.max(0, x - gap), height: Math.max(...edges.map(({ y, half }) => y + half)) - top };
}
