// The map as a component: the canvas, and over it one invisible button for each node (and edge, if they are few). These
// are what the keyboard and screen readers use: Tab goes through nodes from left to right, the arrow keys go along edges.

import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { duration, errorShare, percent, rate } from "../format";
import { dark } from "../theme";
import { HealthMark } from "../ui/health";
import { hideTooltip, showTooltip } from "../ui/tooltip";
import type { Graph, GraphEdge } from "./graph";
import type { Point } from "./layout";
import { labelSize } from "./paint";
import { Scene } from "./scene";
import { Stage, type Hit, type View } from "./stage";
import { edgeWords, kindOf, nodeWords } from "./words";

/** Kept while the page is open, so that the map is as it was when one comes back to it. */
const scene = new Scene();
const moved = new Map<string, Map<string, Point>>();

const BUTTONS_FOR_EDGES = 150;

export interface Control { fit: () => void; zoom: (factor: number) => void; arrange: () => void; focus: (node: string) => void }

export function MapCanvas({ graph, arrangement, selected, matches, view, pick, viewed, control, toggleGroup }: {
  graph: Graph; arrangement: string;
  selected: { node: string | null; edge: string | null };
  matches: ReadonlySet<string> | null;
  view: View | null;
  pick: (hit: Hit) => void;
  viewed: (view: View | null) => void;
  control: (control: Control) => void;
  toggleGroup: (group: string) => void;
}) {
  const host = useRef<HTMLDivElement>(null);
  const overlay = useRef<HTMLDivElement>(null);
  const stage = useRef<Stage | null>(null);
  const latest = useRef({ pick, viewed, graph, arrangement, toggleGroup });
  latest.current = { pick, viewed, graph, arrangement, toggleGroup };
  const isDark = dark.value;
  const pinned = moved.get(arrangement) ?? moved.set(arrangement, new Map()).get(arrangement) ?? new Map<string, Point>();

  // The scene must know the graph before the buttons are placed, and the stage be there before it is drawn.
  const known = useRef<Graph | null>(null);
  const anew = useRef(false);
  const come = useRef<string[]>([]);
  if (known.current !== graph) {
    const before = known.current;
    come.current = before ? graph.nodes.filter((node) => !before.byId.has(node.id)).map((node) => node.id) : [];
    anew.current = scene.update(graph, arrangement, pinned) || anew.current;
    known.current = graph;
  }

  useLayoutEffect(() => {
    if (!host.current || !overlay.current) return undefined;
    const made = new Stage(host.current, overlay.current, scene, {
      pick: (hit) => { if (hit.hull) latest.current.toggleGroup(hit.hull.group); else latest.current.pick(hit); },
      hover: (hit, at) => { if (at && (hit.node || hit.edge)) showTooltip(at.x, at.y, <Tip hit={hit} />); else hideTooltip(); },
      moved: (id, at) => pinned.set(id, at),
      viewed: (now) => latest.current.viewed(now),
    });
    stage.current = made;
    if (view) made.show(view);
    else made.fit(false);
    control({
      fit: () => made.fit(true),
      zoom: (factor) => made.zoomBy(factor),
      arrange: () => {
        pinned.clear();
        scene.forget();
        scene.update(latest.current.graph, latest.current.arrangement, pinned);
        made.place();
        made.fit(true);
        made.invalidate();
      },
      focus: (id) => { overlay.current?.querySelector<HTMLElement>(`[data-node="${CSS.escape(id)}"]`)?.focus(); },
    });
    return () => { hideTooltip(); made.destroy(); };
  }, [pinned]);

  useLayoutEffect(() => {
    const made = stage.current;
    if (!made) return;
    made.selected = selected;
    made.matches = matches;
    made.place();
    if (anew.current) {
      anew.current = false;
      if (!view) made.fit(false);
    } else if (come.current.length > 0) made.include(come.current);
    come.current = [];
    made.invalidate();
  });

  useEffect(() => stage.current?.repaint(), [isDark]);

  const focus = (attribute: "node" | "edge", id: string): void => {
    overlay.current?.querySelector<HTMLElement>(`[data-${attribute}="${CSS.escape(id)}"]`)?.focus();
  };

  const keys = (event: KeyboardEvent): void => {
    const target = event.target instanceof HTMLElement ? event.target.dataset : {};
    const next = target.node !== undefined ? fromNode(graph, target.node, event.key) : target.edge !== undefined ? fromEdge(graph, target.edge, event.key) : null;
    if (!next) return;
    event.preventDefault();
    if (next.edge && graph.edges.length > BUTTONS_FOR_EDGES) focus("node", event.key === "ArrowLeft" ? next.edge.client : next.edge.server);
    else if (next.edge) focus("edge", next.edge.id);
    else if (next.node) focus("node", next.node.id);
  };

  const focused = (event: FocusEvent): void => {
    const { node: id, edge: edgeId } = (event.target as HTMLElement).dataset;
    const node = graph.byId.get(id ?? "");
    const edge = graph.edgeById.get(edgeId ?? "");
    if (!(event.target as HTMLElement).matches(":focus-visible")) return;
    if (node) { stage.current?.reveal(node.id); stage.current?.point({ node }, null); }
    if (edge) { stage.current?.reveal(edge.server); stage.current?.point({ edge }, null); }
  };

  const withEdges = graph.edges.length <= BUTTONS_FOR_EDGES;
  return (
    <div class="map-canvas" ref={host}>
      <canvas aria-hidden="true" />
      <div class="map-overlay" ref={overlay} role="group" aria-label="Service map. Tab goes through the nodes, arrow keys along edges, Enter opens."
        onKeyDown={keys} onFocusIn={focused} onFocusOut={() => stage.current?.point({}, null)}>
        {withEdges && graph.edges.map((edge) => {
          const { w, h } = labelSize(edge);
          return <button type="button" class="map-hit" key={edge.id} data-edge={edge.id} tabIndex={-1} aria-label={edgeWords(edge)} style={{ width: `${w}px`, height: `${h}px` }} />;
        })}
        {scene.reading().map((node) => (
          <button type="button" class="map-hit" key={node.id} data-node={node.id} aria-label={nodeWords(node)} aria-pressed={selected.node === node.id} />
        ))}
      </div>
    </div>
  );
}

/** From a node: right to its first callee's edge, left to its first caller's. */
function fromNode(graph: Graph, id: string, key: string): Hit | null {
  if (key === "ArrowRight" || key === "ArrowDown") return wrap(graph.out.get(id)?.[0]);
  if (key === "ArrowLeft" || key === "ArrowUp") return wrap(graph.into.get(id)?.[0]);
  return null;
}

/** From an edge: right to its server, left to its client, up and down to the client's other edges. */
function fromEdge(graph: Graph, id: string, key: string): Hit | null {
  const edge = graph.edgeById.get(id);
  if (!edge) return null;
  const end = key === "ArrowRight" ? graph.byId.get(edge.server) : key === "ArrowLeft" ? graph.byId.get(edge.client) : undefined;
  if (end) return { node: end };
  const step = { ArrowDown: 1, ArrowUp: -1 }[key];
  if (!step) return null;
  const beside = graph.out.get(edge.client) ?? [];
  return wrap(beside[(beside.indexOf(edge) + step + beside.length) % beside.length]);
}

const wrap = (edge: GraphEdge | undefined): Hit | null => (edge ? { edge } : null);

function Tip({ hit: { node, edge } }: { hit: Hit }) {
  const red = node ?? edge;
  if (!red) return null;
  return (
    <>
      <div class="row"><HealthMark red={red} /><strong class="clip">{node ? node.name : edge && `${nameFor(edge.client)} → ${nameFor(edge.server)}`}</strong></div>
      {node && <div class="muted">{kindOf(node)}{node.guessed && " · guessed by its port"}</div>}
      {red.calls > 0
        ? <div>{rate(red.rate)} · {percent(errorShare(red))} errors<br />p50 {duration(red.p50)} · p99 {duration(red.p99)}</div>
        : <div>no calls in this window</div>}
    </>
  );
}

const nameFor = (id: string): string => scene.graph?.byId.get(id)?.name ?? id;
