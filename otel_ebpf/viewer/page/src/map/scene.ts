// What is drawn: the graph with places, curves and hulls. Keeps places from one answer to the next; only what a moved
// node touches is computed anew.

import { duration, rate } from "../format";
import { curveOf, distance, type Curve, type Placed, portsOf } from "./geometry";
import type { Graph, GraphEdge, GraphNode } from "./graph";
import { extend, HULL, layout, type Point } from "./layout";

export interface Hull { group: string; x: number; y: number; w: number; h: number; nodes: string[] }

const HEIGHT = 46;
const NARROWEST = 128;
const WIDEST = 216;
const WIDE_NOTE = "88.8/min · p99 88.8\u202fms";
/** Large maps are seen from afar, where names are written larger than the node was measured for. */
const WIDE_ENOUGH_FROM_AFAR = 176;

const ruler = document.createElement("canvas").getContext("2d");
const widths = new Map<string, number>();

export const NAME_FONT = "600 12.5px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
export const NOTE_FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";

/** Width of a text in px; remembered, as texts of a map come again and again. */
export function textWidth(text: string, font: string): number {
  const key = `${font}|${text}`;
  let width = widths.get(key);
  if (width === undefined) {
    if (widths.size > 5000) widths.clear();
    if (ruler) ruler.font = font;
    width = ruler?.measureText(text).width ?? text.length * 7;
    widths.set(key, width);
  }
  return width;
}

/** "sends 2.73/min · p99 3.51 ms"; where that is wider than `width` px, without its less important parts. */
export function nodeNote(node: GraphNode, width = Infinity): string {
  if (node.calls === 0) return "no calls";
  const sends = `${node.sends ? "sends " : ""}${rate(node.rate)}`;
  return [`${sends} · p99 ${duration(node.p99)}`, sends].find((text) => textWidth(text, NOTE_FONT) <= width) ?? rate(node.rate);
}

export function nodeTitle(node: GraphNode): string {
  if (node.kind === "group") return `${node.name} (${node.members})`;
  return node.guessed ? `${node.name} (${node.system}?)` : node.name;
}

export class Scene {
  nodes = new Map<string, Placed & { node: GraphNode }>();
  curves = new Map<string, Curve>();
  hulls: Hull[] = [];
  graph: Graph | null = null;
  /** The largest rate of an edge: the width of the others is relative to it. */
  topRate = 1;
  private routes = new Map<string, Point[]>();
  /** Places of this session, also of nodes that are gone for now. */
  private places = new Map<string, Point>();
  private arrangement = "";

  /**
   * Take a new answer. `arrangement` names how nodes are grouped: if it changes, everything is laid out anew.
   * Returns whether it was, so that the view can be fitted.
   */
  update(graph: Graph, arrangement: string, moved: ReadonlyMap<string, Point>): boolean {
    this.graph = graph;
    const narrowest = graph.nodes.length > 70 ? WIDE_ENOUGH_FROM_AFAR : NARROWEST;
    const boxes = graph.nodes.map((node) => ({ id: node.id, w: this.widthOf(node, narrowest), h: HEIGHT, group: node.kind === "group" ? null : node.group }));
    const links = graph.edges.map((edge) => ({ from: edge.client, to: edge.server, weight: graph.byId.get(edge.server)?.kind === "service" ? 4 : 1 }));
    const kept = arrangement === this.arrangement ? extend(boxes, links, this.places) : null;
    if (kept) {
      for (const [id, at] of kept) {
        if (!this.places.has(id)) this.places.set(id, at);
      }
    } else {
      const placed = layout(boxes, links);
      this.places = new Map(placed.positions);
      this.routes = placed.routes;
      for (const [id, at] of moved) {
        if (this.places.has(id)) this.forceAt(id, at);
      }
    }
    this.arrangement = arrangement;
    this.topRate = Math.max(1e-9, ...graph.edges.map((edge) => edge.rate));
    this.nodes = new Map(boxes.map((box, index) => {
      const at = this.places.get(box.id) ?? { x: 0, y: 0 };
      return [box.id, { ...box, ...at, node: graph.nodes[index] as GraphNode }];
    }));
    this.curves.clear();
    this.bend(graph.edges);
    this.wrap();
    return !kept;
  }

  /** Lay out anew at the next update. */
  forget(): void { this.arrangement = "\u0000"; }

  private widthOf(node: GraphNode, narrowest: number): number {
    // Not of the numbers themselves: these change with every answer, and the layout would with them.
    const note = node.sends ? `sends ${WIDE_NOTE}` : WIDE_NOTE;
    const wish = Math.max(textWidth(nodeTitle(node), NAME_FONT) + 44, textWidth(note, NOTE_FONT) + 30);
    return Math.round(Math.min(WIDEST, Math.max(narrowest, wish)));
  }

  private forceAt(id: string, at: Point): void {
    this.places.set(id, at);
    for (const edge of this.touched(id)) this.routes.delete(edge.id);
  }

  /** Put a node elsewhere; the edges whose curves changed. */
  move(id: string, at: Point): GraphEdge[] {
    const node = this.nodes.get(id);
    if (!node || !this.graph) return [];
    node.x = at.x;
    node.y = at.y;
    this.forceAt(id, at);
    const touched = this.touched(id);
    this.bend(touched);
    if (node.group !== null && node.group !== undefined) this.wrap();
    return touched;
  }

  touched(id: string): GraphEdge[] {
    return [...this.graph?.out.get(id) ?? [], ...this.graph?.into.get(id) ?? []];
  }

  /** Curves of `edges`; ports depend on the other edges of the same nodes, so they are computed among all of these. */
  private bend(edges: readonly GraphEdge[]): void {
    const graph = this.graph;
    if (!graph) return;
    const near = new Set(edges.flatMap((edge) => [edge.client, edge.server]));
    const among = edges.length === graph.edges.length ? graph.edges : graph.edges.filter((edge) => near.has(edge.client) || near.has(edge.server));
    const ports = portsOf(among, this.nodes);
    for (const edge of edges) {
      const own = ports.get(edge.id);
      if (own) this.curves.set(edge.id, curveOf(own, this.routes.get(edge.id) ?? [], edge.client === edge.server));
    }
  }

  private wrap(): void {
    const groups = new Map<string, (Placed & { node: GraphNode })[]>();
    for (const node of this.nodes.values()) {
      if (node.group !== null && node.group !== undefined) (groups.get(node.group) ?? groups.set(node.group, []).get(node.group))?.push(node);
    }
    this.hulls = [...groups].map(([group, members]) => {
      const x = Math.min(...members.map((one) => one.x - one.w / 2)) - HULL.side;
      const y = Math.min(...members.map((one) => one.y - one.h / 2)) - HULL.top;
      const right = Math.max(...members.map((one) => one.x + one.w / 2)) + HULL.side;
      const low = Math.max(...members.map((one) => one.y + one.h / 2)) + HULL.bottom;
      return { group, x, y, w: right - x, h: low - y, nodes: members.map((one) => one.id) };
    });
  }

  bounds(): { x0: number; y0: number; x1: number; y1: number } | null {
    if (!this.nodes.size) return null;
    const box = { x0: Infinity, y0: Infinity, x1: -Infinity, y1: -Infinity };
    const add = (x0: number, y0: number, x1: number, y1: number): void => {
      box.x0 = Math.min(box.x0, x0); box.y0 = Math.min(box.y0, y0); box.x1 = Math.max(box.x1, x1); box.y1 = Math.max(box.y1, y1);
    };
    for (const one of this.nodes.values()) add(one.x - one.w / 2, one.y - one.h / 2, one.x + one.w / 2, one.y + one.h / 2);
    for (const one of this.hulls) add(one.x, one.y, one.x + one.w, one.y + one.h);
    return box;
  }

  nodeAt(at: Point): GraphNode | null {
    let found: GraphNode | null = null; // the last one drawn is on top
    for (const one of this.nodes.values()) {
      if (Math.abs(at.x - one.x) <= one.w / 2 && Math.abs(at.y - one.y) <= one.h / 2) found = one.node;
    }
    return found;
  }

  /** The group whose title is under the pointer. */
  hullAt(at: Point): Hull | null {
    return this.hulls.find((one) => at.x >= one.x && at.x <= one.x + one.w && at.y >= one.y && at.y <= one.y + HULL.top - 6) ?? null;
  }

  edgeAt(at: Point, reach: number): GraphEdge | null {
    let nearest = Infinity;
    let found: GraphEdge | null = null;
    for (const [id, curve] of this.curves) {
      const far = distance(curve, at, reach);
      if (far < nearest) {
        nearest = far;
        found = this.graph?.edgeById.get(id) ?? null;
      }
    }
    return found;
  }

  /** Nodes as one reads them: column by column from left to right. */
  reading(): GraphNode[] {
    return [...this.nodes.values()]
      .sort((one, other) => Math.round(one.x / 120) - Math.round(other.x / 120) || one.y - other.y)
      .map((one) => one.node);
  }
}
