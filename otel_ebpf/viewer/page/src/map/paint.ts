// The map on a canvas. Health is colour and shape: an edge with errors is thicker, dashed and carries a mark.

import { errorShare, percent, rate } from "../format";
import { color } from "../theme";
import { health, type Health } from "../ui/health";
import type { Curve, Placed } from "./geometry";
import type { GraphEdge, GraphNode } from "./graph";
import { NAME_FONT, nodeNote, NOTE_FONT, nodeTitle, type Scene, textWidth } from "./scene";

export interface Look {
  scale: number;
  /** Everything else is dimmed; null: nothing is. */
  lit: ReadonlySet<string> | null;
  litEdges: ReadonlySet<string> | null;
  selected: string | null;
  hovered: string | null;
  /** Few enough edges for each to have its numbers written on it. */
  labels: boolean;
  /** Few enough, but too far away for that: the unhealthy, the pointed at and the chosen ones bear theirs, at a size that can be read. */
  few: boolean;
  selectedEdge: string | null;
}

type Context = CanvasRenderingContext2D;

const EDGE_COLOR: Record<Health, string> = { idle: "edge", ok: "edge", warn: "warn", bad: "bad" };
const DASH: Record<Health, number[]> = { idle: [1, 4], ok: [], warn: [10, 4], bad: [5, 4] };

export function edgeWidth(edge: GraphEdge, topRate: number): number {
  return 1 + 3.2 * Math.max(0, 1 + Math.log10(Math.max(edge.rate, 1e-9) / topRate) / 3);
}

function trace(context: Context, curve: Curve): void {
  const { points } = curve;
  const [start] = points;
  if (!start) return;
  context.moveTo(start.x, start.y);
  for (let index = 1; index + 2 < points.length; index += 3) {
    const a = points[index];
    const b = points[index + 1];
    const q = points[index + 2];
    if (a && b && q) context.bezierCurveTo(a.x, a.y, b.x, b.y, q.x, q.y);
  }
}

function arrow(context: Context, curve: Curve, size: number): void {
  const end = curve.points.at(-1);
  const before = curve.points.at(-2);
  if (!end || !before) return;
  const angle = Math.atan2(end.y - before.y, end.x - before.x);
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const at = (along: number, across: number): [number, number] => [end.x + along * cos - across * sin, end.y + along * sin + across * cos];
  context.moveTo(...at(0, 0));
  context.lineTo(...at(-size, size * 0.5));
  context.lineTo(...at(-size, -size * 0.5));
  context.closePath();
}

/** Edges of one look in one stroke: a thousand of them are a few dozen of these. */
export function paintEdges(context: Context, scene: Scene, edges: readonly GraphEdge[], look: Look): void {
  const batches = new Map<string, { state: Health; width: number; alpha: number; edges: GraphEdge[] }>();
  const many = edges.length > 160;
  for (const edge of edges) {
    const state = health(edge);
    const width = Math.round(2 * edgeWidth(edge, scene.topRate) + (state === "bad" ? 2 : 0)) / 2;
    const dimmed = look.litEdges !== null && !look.litEdges.has(edge.id);
    const calm = many && look.litEdges === null && (state === "ok" || state === "idle");
    const alpha = dimmed ? (many ? 0.06 : 0.2) : calm ? 0.32 : 1;
    const key = `${alpha}|${state}|${width}`;
    const batch = batches.get(key) ?? batches.set(key, { state, width, alpha, edges: [] }).get(key);
    batch?.edges.push(edge);
  }
  const order: Health[] = ["idle", "ok", "warn", "bad"];
  const sorted = [...batches.values()].sort((one, other) => one.alpha - other.alpha || order.indexOf(one.state) - order.indexOf(other.state));
  const heads = look.scale > 0.3;
  for (const { state, width, alpha, edges: own } of sorted) {
    context.globalAlpha = alpha;
    context.strokeStyle = context.fillStyle = color(EDGE_COLOR[state]);
    context.lineWidth = width;
    context.setLineDash(DASH[state]);
    context.beginPath();
    for (const edge of own) {
      const curve = scene.curves.get(edge.id);
      if (curve) trace(context, curve);
    }
    context.stroke();
    if (!heads || alpha < 0.1) continue; // an arrow without its line would be all that is seen
    context.beginPath();
    for (const edge of own) {
      const curve = scene.curves.get(edge.id);
      if (curve) arrow(context, curve, 6 + 1.6 * width);
    }
    context.fill();
  }
  context.globalAlpha = 1;
  context.setLineDash([]);
}

/** One edge as the user's: drawn over the others, in the accent's colour. */
export function paintChosenEdge(context: Context, scene: Scene, edge: GraphEdge): void {
  const curve = scene.curves.get(edge.id);
  if (!curve) return;
  context.strokeStyle = color("accent");
  context.globalAlpha = 0.25;
  context.lineWidth = edgeWidth(edge, scene.topRate) + 9;
  context.beginPath();
  trace(context, curve);
  context.stroke();
  context.globalAlpha = 1;
}

function mark(context: Context, state: Health, x: number, y: number, size: number): void {
  context.beginPath();
  if (state === "warn") {
    context.moveTo(x, y - size);
    context.lineTo(x + size, y + size * 0.8);
    context.lineTo(x - size, y + size * 0.8);
  } else if (state === "bad") {
    context.moveTo(x, y - size * 1.15);
    context.lineTo(x + size * 1.15, y);
    context.lineTo(x, y + size * 1.15);
    context.lineTo(x - size * 1.15, y);
  } else {
    context.arc(x, y, size * 0.75, 0, 2 * Math.PI);
  }
  context.closePath();
  if (state === "idle") context.stroke();
  else context.fill();
}

/** "0.45/s · 5.5 %"; where there are only `width` px between the nodes, without its less important part, or nothing. */
export function edgeText(edge: GraphEdge, width = Infinity): string {
  const state = health(edge);
  const share = percent(errorShare(edge));
  const texts = state === "warn" || state === "bad" ? [`${rate(edge.rate)} · ${share}`, share] : [rate(edge.rate)];
  return texts.find((text) => textWidth(text, NOTE_FONT) <= width) ?? "";
}

/** The size of an edge's label in world units; it stands around the middle of the curve. */
export function labelSize(edge: GraphEdge): { w: number; h: number } {
  const state = health(edge);
  return { w: textWidth(edgeText(edge), NOTE_FONT) + 10 + (state === "warn" || state === "bad" ? 13 : 0), h: 18 };
}

/** The middle of a label: above a line that is about level, on one that is not. */
export function labelAt({ middle, angle }: Curve): { x: number; y: number } {
  return Math.abs(Math.sin(angle)) < 0.35 ? { x: middle.x, y: middle.y - 13 } : middle;
}

export function paintEdgeLabel(context: Context, scene: Scene, edge: GraphEdge, look: Look): void {
  const curve = scene.curves.get(edge.id);
  const state = health(edge);
  const unwell = state === "warn" || state === "bad";
  const lit = look.litEdges === null || look.litEdges.has(edge.id);
  const chosen = edge.id === look.selectedEdge || edge.client === look.selected || edge.server === look.selected;
  if (!curve || !lit || !(look.labels || unwell || chosen || look.litEdges !== null)) return;
  if (!look.labels && !look.few && !chosen && look.litEdges === null) { // of many edges the unhealthy ones bear their mark, of constant size
    context.fillStyle = color(EDGE_COLOR[state]);
    context.strokeStyle = color("bg");
    context.lineWidth = 2 / look.scale;
    mark(context, state, curve.middle.x, curve.middle.y, Math.min(14, 5.5 / look.scale));
    context.stroke();
    return;
  }
  const enlarged = Math.max(1, 0.9 / look.scale);
  const [from, to] = [curve.points[0]?.x ?? 0, curve.points.at(-1)?.x ?? 0];
  const room = edge.client === edge.server ? Infinity : Math.abs(to - from) / enlarged - 4 - (unwell ? 13 : 0);
  const text = edgeText(edge, room);
  const at = labelAt(curve);
  context.save();
  context.translate(at.x, at.y);
  context.scale(enlarged, enlarged);
  // beside the loop, not over its node
  let left = edge.client === edge.server ? 4 : -(textWidth(text, NOTE_FONT) + (unwell ? 13 : 0)) / 2;
  context.lineJoin = "round";
  context.strokeStyle = color("bg");
  context.lineWidth = 4;
  context.fillStyle = color(EDGE_COLOR[state]);
  if (unwell) {
    mark(context, state, left + 5, 0, 4.5);
    context.stroke();
    context.fill();
    left += 13;
  } else {
    context.fillStyle = color("muted");
  }
  context.font = NOTE_FONT;
  context.textBaseline = "middle";
  context.strokeText(text, left, 0.5);
  context.fillText(text, left, 0.5);
  context.restore();
}

function outline(context: Context, node: GraphNode, x: number, y: number, w: number, h: number): void {
  context.beginPath();
  if (node.kind === "database") {
    const lid = 5;
    context.moveTo(x, y + lid);
    context.ellipse(x + w / 2, y + lid, w / 2, lid, 0, Math.PI, 2 * Math.PI);
    context.lineTo(x + w, y + h - lid);
    context.ellipse(x + w / 2, y + h - lid, w / 2, lid, 0, 0, Math.PI);
    context.closePath();
  } else if (node.kind === "messaging") {
    const cap = 7;
    context.moveTo(x + cap, y);
    context.lineTo(x + w - cap, y);
    context.ellipse(x + w - cap, y + h / 2, cap, h / 2, 0, -Math.PI / 2, Math.PI / 2);
    context.lineTo(x + cap, y + h);
    context.ellipse(x + cap, y + h / 2, cap, h / 2, 0, Math.PI / 2, 1.5 * Math.PI);
    context.closePath();
  } else if (node.kind === "external") {
    context.roundRect(x, y, w, h, h / 2);
  } else {
    context.roundRect(x, y, w, h, 7);
  }
}

/** The line that makes a cylinder of the outline. */
function rim(context: Context, node: GraphNode, x: number, y: number, w: number, h: number): void {
  context.beginPath();
  if (node.kind === "database") context.ellipse(x + w / 2, y + 5, w / 2, 5, 0, 0, Math.PI);
  else if (node.kind === "messaging") context.ellipse(x + w - 7, y + h / 2, 7, h / 2, 0, Math.PI / 2, 1.5 * Math.PI);
  else return;
  context.stroke();
}

const cuts = new Map<string, string>();

/** The text, or its beginning and end: what tells names apart is often at the end. */
function fitted(text: string, font: string, width: number): string {
  if (textWidth(text, font) <= width) return text;
  const key = `${Math.round(width)}|${font}|${text}`;
  const known = cuts.get(key);
  if (known !== undefined) return known;
  let length = Math.max(2, Math.floor(text.length * width / textWidth(text, font)));
  const cut = (): string => `${text.slice(0, Math.ceil(length * 0.6))}…${text.slice(text.length - Math.floor(length * 0.4))}`;
  while (length > 2 && textWidth(cut(), font) > width) length -= 1;
  if (cuts.size > 5000) cuts.clear();
  cuts.set(key, cut());
  return cut();
}

export function paintNode(context: Context, placed: Placed & { node: GraphNode }, look: Look): void {
  const { node, w, h } = placed;
  const x = placed.x - w / 2;
  const y = placed.y - h / 2;
  const state = health(node);
  const dimmed = look.lit !== null && !look.lit.has(node.id);
  context.globalAlpha = dimmed ? 0.35 : 1;
  context.fillStyle = color(node.kind === "external" ? "bg" : "surface");
  context.lineWidth = state === "bad" ? 2 : 1.25;
  context.strokeStyle = color(look.hovered === node.id ? "accent" : state === "bad" ? "bad" : state === "warn" ? "warn" : "line-strong");
  if (node.kind === "group") {
    outline(context, node, x + 5, y - 5, w, h);
    context.fill();
    context.stroke();
  }
  if (look.selected === node.id) {
    context.save();
    context.strokeStyle = color("accent");
    context.lineWidth = 3;
    context.beginPath();
    context.roundRect(x - 4, y - 4, w + 8, h + 8, node.kind === "external" ? h / 2 + 4 : 11);
    context.stroke();
    context.restore();
  }
  if (node.kind === "external") context.setLineDash([4, 3]);
  outline(context, node, x, y, w, h);
  context.fill();
  context.stroke();
  context.setLineDash([]);
  rim(context, node, x, y, w, h);
  const inset = node.kind === "external" ? 16 : node.kind === "messaging" ? 14 : 11;
  const markY = y + (node.kind === "database" ? 20 : 16);
  context.fillStyle = context.strokeStyle = color(state === "idle" ? "faint" : state);
  context.lineWidth = 1.5;
  if (look.scale < 0.55) { // far away: the name alone, as large as the node allows
    const size = Math.min(20, 9 / look.scale);
    const font = NAME_FONT.replace("600 12.5px", `500 ${Math.round(size)}px`);
    mark(context, state, x + inset + 4, placed.y, 6);
    context.font = font;
    context.textBaseline = "middle";
    context.fillStyle = color("text");
    context.fillText(fitted(nodeTitle(node), font, w - inset - 22), x + inset + 15, placed.y + 1);
  } else {
    mark(context, state, x + inset + 4, markY, 4.5);
    context.textBaseline = "middle";
    context.font = NAME_FONT;
    context.fillStyle = color("text");
    context.fillText(fitted(nodeTitle(node), NAME_FONT, w - inset - 24), x + inset + 14, markY + 0.5);
    context.font = NOTE_FONT;
    context.fillStyle = color("muted");
    context.fillText(nodeNote(node, w - inset - 8), x + inset, markY + 16.5);
  }
  context.globalAlpha = 1;
}

export function paintHulls(context: Context, scene: Scene, scale: number): void {
  for (const hull of scene.hulls) {
    context.fillStyle = color("hull");
    context.strokeStyle = color("hull-line");
    context.lineWidth = 1;
    context.beginPath();
    context.roundRect(hull.x, hull.y, hull.w, hull.h, 12);
    context.fill();
    context.stroke();
    const size = Math.min(22, Math.max(11.5, 10 / scale));
    const font = NAME_FONT.replace("12.5px", `${size}px`);
    context.font = font;
    context.textBaseline = "middle";
    context.fillStyle = color("muted");
    context.fillText(fitted(`${hull.group} · ${hull.nodes.length}`, font, hull.w - 24), hull.x + 14, hull.y + 17);
  }
}

/** Everything but what is in `without` (a node that is dragged, and its edges). */
export function paintAll(context: Context, scene: Scene, look: Look, chosenEdge: GraphEdge | null, without: ReadonlySet<string>): void {
  const edges = scene.graph?.edges.filter((edge) => !without.has(edge.id)) ?? [];
  paintHulls(context, scene, look.scale);
  if (chosenEdge && !without.has(chosenEdge.id)) paintChosenEdge(context, scene, chosenEdge);
  paintEdges(context, scene, edges, look);
  for (const edge of edges) paintEdgeLabel(context, scene, edge, look);
  for (const placed of scene.nodes.values()) if (!without.has(placed.id)) paintNode(context, placed, look);
}
