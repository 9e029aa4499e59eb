// The map's window on its scene: canvas, pan and zoom, dragging, what is under the pointer. Outside of preact, because a
// frame has 16 ms. While a node is dragged, all that does not move is one bitmap.

import { select } from "d3-selection";
import { zoom, zoomIdentity, type D3ZoomEvent, type ZoomBehavior, type ZoomTransform } from "d3-zoom";
import { color, reducedMotion } from "../theme";
import { neighbours, type GraphEdge, type GraphNode } from "./graph";
import type { Point } from "./layout";
import { labelAt, type Look, paintAll, paintEdgeLabel, paintEdges, paintNode } from "./paint";
import type { Hull, Scene } from "./scene";
import { type Picture, Screen } from "./screen";

export interface Hit { node?: GraphNode; edge?: GraphEdge; hull?: Hull }

/** Centre in the scene's units, and scale: the same picture in windows of other sizes. */
export interface View { x: number; y: number; k: number }

export interface Events {
  pick: (hit: Hit) => void;
  hover: (hit: Hit, at: { x: number; y: number } | null) => void;
  moved: (id: string, at: Point) => void;
  /** The user changed what is seen; null: all of it again. */
  viewed: (view: View | null) => void;
}

const FEW_EDGES = 60;
const MANY_EDGES = 300;
const GLIDE_MARGIN = 300;
const MARGIN = 36;

export class Stage {
  private readonly screen: Screen;
  private readonly behavior: ZoomBehavior<HTMLElement, unknown>;
  private readonly resized: ResizeObserver;
  private transform: ZoomTransform = zoomIdentity;
  private frame = 0;
  private own = false;
  private hit: Hit = {};
  private drag: { id: string; dx: number; dy: number; from: Point; moved: boolean; still: Picture | null; touched: GraphEdge[] } | null = null;
  private dragged = false;
  selected: { node: string | null; edge: string | null } = { node: null, edge: null };
  matches: ReadonlySet<string> | null = null;

  constructor(readonly host: HTMLElement, readonly overlay: HTMLElement, readonly scene: Scene, private readonly events: Events) {
    this.screen = new Screen(host.querySelector("canvas"));
    this.behavior = zoom<HTMLElement, unknown>()
      .scaleExtent([0.05, 3])
      .filter((event: Event) => this.pans(event))
      .on("zoom", (event: D3ZoomEvent<HTMLElement, unknown>) => this.zoomed(event));
    select(host).call(this.behavior).on("dblclick.zoom", null);
    host.addEventListener("pointerdown", this.down);
    host.addEventListener("pointermove", this.move);
    host.addEventListener("pointerup", this.up);
    host.addEventListener("pointercancel", this.up);
    host.addEventListener("pointerleave", this.leave);
    host.addEventListener("click", this.click);
    this.resized = new ResizeObserver(() => this.resize());
    this.resized.observe(host);
    this.resize();
  }

  destroy(): void {
    this.resized.disconnect();
    cancelAnimationFrame(this.frame);
    window.clearTimeout(this.rested);
    window.clearTimeout(this.settled);
    select(this.host).on(".zoom", null);
    for (const [name, handler] of [["pointerdown", this.down], ["pointermove", this.move], ["pointerup", this.up], ["pointercancel", this.up], ["pointerleave", this.leave], ["click", this.click]] as const) {
      this.host.removeEventListener(name, handler as EventListener);
    }
  }

  get labels(): boolean { return (this.scene.graph?.edges.length ?? 0) <= FEW_EDGES && this.transform.k > 0.5; }

  // --- what is seen ---

  private pans(event: Event): boolean {
    if (event.type === "wheel") return true;
    if (event instanceof MouseEvent && (event.button !== 0 || event.ctrlKey)) return false;
    const touch = typeof TouchEvent !== "undefined" && event instanceof TouchEvent ? event.touches : null;
    if (touch && touch.length > 1) return true;
    const at = touch ? touch[0] : event instanceof MouseEvent ? event : null;
    return !at || this.scene.nodeAt(this.toScene(at)) === null;
  }

  private toScene(at: { clientX: number; clientY: number }): Point {
    const box = this.host.getBoundingClientRect();
    const [x, y] = this.transform.invert([at.clientX - box.left, at.clientY - box.top]);
    return { x, y };
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width === this.screen.width && height === this.screen.height) return;
    const view = this.own ? this.view() : null;
    this.screen.resize(width, height);
    if (view) this.show(view);
    else this.fit(false);
    this.draw();
  }

  private view(): View {
    const [x, y] = this.transform.invert([this.screen.width / 2, this.screen.height / 2]);
    return { x: Math.round(x), y: Math.round(y), k: Math.round(this.transform.k * 1000) / 1000 };
  }

  private zoomed(event: D3ZoomEvent<HTMLElement, unknown>): void {
    this.transform = event.transform;
    const { x, y, k } = event.transform;
    this.overlay.style.transform = `translate(${x}px, ${y}px) scale(${k})`;
    if (event.sourceEvent) {
      this.own = true;
      this.settle();
      this.glide();
    }
    this.invalidate();
  }

  /** While a large map is panned or zoomed, a picture of it is moved instead; it is painted anew when the hand rests. */
  private glide(): void {
    if ((this.scene.graph?.edges.length ?? 0) < MANY_EDGES) return;
    window.clearTimeout(this.rested);
    this.rested = window.setTimeout(() => { this.gliding = null; this.invalidate(); }, 140);
    if (!this.gliding || !this.screen.covers(this.gliding, this.transform)) this.gliding = this.picture(new Set(), GLIDE_MARGIN);
  }

  private gliding: Picture | null = null;
  private rested = 0;
  private settled = 0;
  private settle(): void {
    window.clearTimeout(this.settled);
    this.settled = window.setTimeout(() => this.events.viewed(this.view()), 250);
  }

  private go(transform: ZoomTransform): void { select(this.host).call(this.behavior.transform, transform); }

  show(view: View): void {
    this.own = true;
    this.go(zoomIdentity.translate(this.screen.width / 2 - view.x * view.k, this.screen.height / 2 - view.y * view.k).scale(view.k));
  }

  /** All of the map, no larger than it is readable. */
  fit(byUser: boolean): void {
    this.own = false;
    const box = this.scene.bounds();
    if (box && this.screen.width > 0) {
      const wide = box.x1 - box.x0;
      const high = box.y1 - box.y0;
      const k = Math.min(1.1, (this.screen.width - 2 * MARGIN) / wide, (this.screen.height - 2 * MARGIN) / high);
      const scale = Math.max(0.05, k);
      this.go(zoomIdentity.translate(this.screen.width / 2 - scale * (box.x0 + wide / 2), this.screen.height / 2 - scale * (box.y0 + high / 2)).scale(scale));
    }
    if (byUser) this.events.viewed(null);
  }

  /** Nodes that came are outside of what is seen: all is shown again, unless the user chose what is seen. */
  include(ids: readonly string[]): void {
    if (this.own) return;
    const outside = ids.some((id) => {
      const node = this.scene.nodes.get(id);
      if (!node) return false;
      const [left, top] = this.transform.apply([node.x - node.w / 2, node.y - node.h / 2]);
      const [right, bottom] = this.transform.apply([node.x + node.w / 2, node.y + node.h / 2]);
      return left < 0 || top < 0 || right > this.screen.width || bottom > this.screen.height;
    });
    if (outside) this.fit(false);
  }

  zoomBy(factor: number): void {
    select(this.host).call(this.behavior.scaleBy, factor);
    this.own = true;
    this.settle();
  }

  /** Pan until the node can be seen. */
  reveal(id: string): void {
    const node = this.scene.nodes.get(id);
    if (!node) return;
    const [x, y] = this.transform.apply([node.x, node.y]);
    const halfWidth = (node.w / 2) * this.transform.k + 12;
    const halfHeight = (node.h / 2) * this.transform.k + 12;
    const dx = x < halfWidth ? halfWidth - x : x > this.screen.width - halfWidth ? this.screen.width - halfWidth - x : 0;
    const dy = y < halfHeight ? halfHeight - y : y > this.screen.height - halfHeight ? this.screen.height - halfHeight - y : 0;
    if (dx || dy) {
      this.own = true;
      select(this.host).call(this.behavior.translateBy, dx / this.transform.k, dy / this.transform.k);
    }
    this.host.scrollTo(0, 0); // the browser scrolls to what has the focus; here the map moves instead
  }

  // --- the pointer ---

  private hitAt(event: { clientX: number; clientY: number }): Hit {
    const at = this.toScene(event);
    const node = this.scene.nodeAt(at);
    if (node) return { node };
    const edge = this.scene.edgeAt(at, Math.max(5, 7 / this.transform.k));
    if (edge) return { edge };
    const hull = this.scene.hullAt(at);
    return hull ? { hull } : {};
  }

  private readonly down = (event: PointerEvent): void => {
    this.dragged = false;
    if (event.button !== 0) return;
    const at = this.toScene(event);
    const node = this.scene.nodeAt(at);
    const placed = node && this.scene.nodes.get(node.id);
    if (!placed) return;
    this.drag = { id: placed.id, dx: placed.x - at.x, dy: placed.y - at.y, from: { x: event.clientX, y: event.clientY }, moved: false, still: null, touched: [] };
  };

  private readonly move = (event: PointerEvent): void => {
    const { drag } = this;
    if (!drag) {
      if (event.buttons === 0) this.point(this.hitAt(event), event);
      else this.events.hover({}, null);
      return;
    }
    if (!drag.moved) {
      if (Math.hypot(event.clientX - drag.from.x, event.clientY - drag.from.y) < 4) return;
      drag.moved = true;
      this.host.setPointerCapture(event.pointerId);
      this.host.classList.add("dragging");
      this.events.hover({}, null);
      this.hit = {};
      drag.touched = this.scene.touched(drag.id);
      drag.still = this.picture(new Set([drag.id, ...drag.touched.map((edge) => edge.id)]));
    }
    const at = this.toScene(event);
    this.scene.move(drag.id, { x: at.x + drag.dx, y: at.y + drag.dy });
    this.place(drag.id);
    this.invalidate();
  };

  private readonly up = (): void => {
    const { drag } = this;
    this.drag = null;
    if (!drag?.moved) return;
    this.dragged = true;
    this.host.classList.remove("dragging");
    const placed = this.scene.nodes.get(drag.id);
    if (placed) this.events.moved(drag.id, { x: Math.round(placed.x), y: Math.round(placed.y) });
    this.invalidate();
  };

  private readonly leave = (): void => { if (!this.drag) this.point({}, null); };

  private readonly click = (event: MouseEvent): void => {
    if (this.dragged) {
      this.dragged = false;
      return;
    }
    const button = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-node], [data-edge]") : null;
    const node = this.scene.graph?.byId.get(button?.dataset.node ?? "");
    const edge = this.scene.graph?.edgeById.get(button?.dataset.edge ?? "");
    if (node) this.events.pick({ node });
    else if (edge) this.events.pick({ edge });
    else this.events.pick(this.hitAt(event));
  };

  /** Highlight what is pointed at, or has the focus. */
  point(hit: Hit, at: PointerEvent | null): void {
    if (hit.node?.id !== this.hit.node?.id || hit.edge?.id !== this.hit.edge?.id) {
      this.hit = hit;
      this.invalidate();
    }
    this.host.classList.toggle("pointing", Boolean(hit.node || hit.edge || hit.hull));
    this.events.hover(hit, at && { x: at.clientX, y: at.clientY });
  }

  // --- painting ---

  invalidate(): void {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  private look(): Look {
    const { graph } = this.scene;
    let lit: ReadonlySet<string> | null = this.matches;
    let litEdges: ReadonlySet<string> | null = this.matches ? new Set() : null;
    const large = (graph?.edges.length ?? 0) > 160;
    const node = this.hit.node?.id ?? (large && !this.hit.edge ? this.selected.node : null);
    const edge = this.hit.edge?.id ?? (large && !this.hit.node ? this.selected.edge : null);
    if (graph && node && !this.drag && graph.byId.has(node)) {
      lit = neighbours(graph, node);
      litEdges = new Set(this.scene.touched(node).map((one) => one.id));
    } else if (graph && edge && !this.drag && graph.edgeById.has(edge)) {
      const one = graph.edgeById.get(edge);
      lit = new Set([one?.client ?? "", one?.server ?? ""]);
      litEdges = new Set([edge]);
    }
    return { scale: this.transform.k, lit, litEdges, selected: this.selected.node, hovered: this.hit.node?.id ?? null, labels: this.labels, few: (graph?.edges.length ?? 0) <= FEW_EDGES, selectedEdge: this.selected.edge };
  }

  /** Everything but `without`, as an image. */
  private picture(without: ReadonlySet<string>, margin = 0): Picture | null {
    return this.screen.picture(this.transform, margin, (context) => paintAll(context, this.scene, this.look(), this.chosenEdge(), without));
  }

  private chosenEdge(): GraphEdge | null { return this.scene.graph?.edgeById.get(this.selected.edge ?? "") ?? null; }

  private draw(): void {
    if (!this.screen.width) return;
    const look = this.look();
    const still = this.drag?.still;
    const placed = this.drag && this.scene.nodes.get(this.drag.id);
    const context = this.screen.begin(this.transform);
    if (still && placed && this.drag) {
      this.screen.paste(still, this.transform);
      paintEdges(context, this.scene, this.drag.touched, look);
      for (const edge of this.drag.touched) paintEdgeLabel(context, this.scene, edge, look);
      paintNode(context, placed, look);
    } else if (this.gliding) {
      this.screen.paste(this.gliding, this.transform);
    } else {
      paintAll(context, this.scene, look, this.chosenEdge(), new Set());
    }
    if (this.host.dataset.drawn === undefined) performance.mark("map-drawn"); // for the benchmark
    this.host.dataset.drawn = String(this.scene.nodes.size); // for tests: how many nodes are on the canvas
  }

  /** Put the buttons (what screen readers, the keyboard and tests see) where their nodes and edges are drawn. */
  place(only?: string): void {
    for (const element of this.overlay.querySelectorAll<HTMLElement>("[data-node], [data-edge]")) {
      const { node, edge } = element.dataset;
      if (node !== undefined && (only === undefined || node === only)) {
        const at = this.scene.nodes.get(node);
        if (at) Object.assign(element.style, { transform: `translate(${at.x - at.w / 2}px, ${at.y - at.h / 2}px)`, width: `${at.w}px`, height: `${at.h}px` });
      } else if (edge !== undefined) {
        const curve = this.scene.curves.get(edge);
        if (curve) {
          const { x, y } = labelAt(curve);
          element.style.transform = `translate(${x}px, ${y}px) translate(-50%, -50%)`;
        }
      }
    }
  }

  /** The theme changed, or the motion that the user wants. */
  repaint(): void {
    void color("text");
    void reducedMotion.value;
    this.invalidate();
  }
}
