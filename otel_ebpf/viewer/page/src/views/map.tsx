// /map?group=ATTRIBUTE&fold=GROUP&q=TEXT&node=ID | &from=ID&to=ID &as=table &at=X,Y,SCALE

import { useMemo, useRef } from "preact/hooks";
import { StartHere } from "../agent/start";
import "../agent/agent.css";
import type { ServiceMap } from "../api";
import { useGet } from "../fetch";
import { plural, spanWords } from "../format";
import { MapTables } from "../map/alternative";
import { MapCanvas, type Control } from "../map/canvas";
import { edgeId, type Graph, graphOf } from "../map/graph";
import { Legend } from "../map/legend";
import { EdgePanel, NodePanel } from "../map/panel";
import type { View } from "../map/stage";
import { nodeTitle } from "../map/scene";
import { Gaps } from "../ui/gaps";
import { Empty, ErrorState, Loading } from "../ui/states";
import { href, param, place, setQuery } from "../url";
import { bounds } from "../window";
import "../map/map.css";

function viewOf(text: string): View | null {
  const [x, y, k] = text.split(",").map(Number);
  return x !== undefined && y !== undefined && k !== undefined && [x, y, k].every(Number.isFinite) && k >= 0.05 && k <= 3 ? { x, y, k } : null;
}

/** Nodes whose name, kind or system has the text; null: no text. */
function matching(graph: Graph, text: string): Set<string> | null {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return null;
  return new Set(graph.nodes
    .filter((node) => [nodeTitle(node), node.system, node.kind, node.group ?? "", ...node.names].some((one) => one.toLowerCase().includes(wanted)))
    .map((node) => node.id));
}

export function MapView() {
  const grouping = param("group");
  const { data, error, loading, reload } = useGet<ServiceMap>("map", { group_by: grouping }, { keep: true });
  const folded = place.value.query.getAll("fold");
  const foldedKey = folded.join("\u0000");
  const graph = useMemo(() => (data ? graphOf(data, new Set(folded)) : null), [data, foldedKey]);
  const control = useRef<Control | null>(null);
  const text = param("q");
  const matches = useMemo(() => (graph ? matching(graph, text) : null), [graph, text]);

  if (!data || !graph) return error ? <ErrorState error={error} retry={reload} /> : <Loading />;
  if (!data.nodes.length) return <><Gaps gaps={data.gaps} /><Nothing /></>;

  const from = param("from");
  const to = param("to");
  const node = param("node") ? graph.byId.get(param("node")) : undefined;
  const edge = from || to ? graph.edgeById.get(edgeId(from, to)) : undefined;
  const selected = { node: node?.id ?? null, edge: edge?.id ?? null };
  const open = (id: string): void => setQuery({ node: id, from: null, to: null });
  const openEdge = (one: { client: string; server: string }): void => setQuery({ node: null, from: one.client, to: one.server });
  const close = (): void => {
    setQuery({ node: null, from: null, to: null });
    if (node) control.current?.focus(node.id);
  };
  const toggle = (group: string): void => {
    const next = folded.includes(group) ? folded.filter((one) => one !== group) : [...folded, group];
    setQuery({ fold: next, node: null, from: null, to: null, at: null });
  };
  const groups = [...new Set(data.nodes.flatMap((one) => (one.group === null ? [] : [one.group])))].sort();
  const table = param("as") === "table";

  return (
    <div class="map">
      <h1 class="visually-hidden">Service map</h1>
      <div class="map-main">
        <div class="map-bar">
          <input class="field" type="search" placeholder="Find a node" aria-label="Find a node" value={text}
            onInput={(event) => setQuery({ q: event.currentTarget.value }, { replace: true })}
            onKeyDown={(event) => {
              const first = matches && [...matches][0];
              if (event.key === "Enter" && first) { open(first); control.current?.focus(first); }
            }} />
          {matches && <span class="muted" role="status">{plural(matches.size, "match", "matches")}</span>}
          <label class="row"><span class="muted">Group by</span>
            <select class="field" value={grouping} onChange={(event) => setQuery({ group: event.currentTarget.value, fold: null, at: null })}>
              <option value="">nothing</option>
              {[...new Set([...data.groupings, ...(grouping ? [grouping] : [])])].map((one) => <option key={one} value={one}>{one}</option>)}
            </select>
          </label>
          {groups.length > 0 && (
            <button type="button" class="button" onClick={() => setQuery({ fold: folded.length ? null : groups, at: null, node: null, from: null, to: null })}>
              {folded.length ? "Unfold all" : "Fold all"}
            </button>
          )}
          <span class="grow" />
          <span class="muted map-count">{plural(graph.nodes.length, "node")}, {plural(graph.edges.length, "edge")}</span>
          <div class="segments" role="group" aria-label="Show as">
            <button type="button" aria-pressed={!table} onClick={() => setQuery({ as: null })}>Map</button>
            <button type="button" aria-pressed={table} onClick={() => setQuery({ as: "table" })}>Table</button>
          </div>
        </div>
        <Loading shown={loading} />
        <Gaps gaps={data.gaps} />
        {error && error.status > 0 && <div class="banner bad" role="alert">{error.message}</div>}
        {table
          ? <MapTables graph={graph} selected={selected} shown={(id) => !matches || matches.has(id)} />
          : (
            <div class="map-stage">
              <MapCanvas graph={graph} arrangement={`${grouping}\u0000${foldedKey}`} selected={selected} matches={matches} view={viewOf(param("at"))}
                pick={(hit) => { if (hit.node) open(hit.node.id); else if (hit.edge) openEdge(hit.edge); else if (node || edge) close(); }}
                viewed={(view) => setQuery({ at: view && `${view.x},${view.y},${view.k}` }, { replace: true })}
                control={(made) => { control.current = made; }} toggleGroup={toggle} />
              <Legend />
              <div class="map-tools" role="group" aria-label="Map">
                <button type="button" class="button icon" aria-label="Zoom in" title="Zoom in" onClick={() => control.current?.zoom(1.3)}>+</button>
                <button type="button" class="button icon" aria-label="Zoom out" title="Zoom out" onClick={() => control.current?.zoom(1 / 1.3)}>−</button>
                <button type="button" class="button" onClick={() => control.current?.fit()}>Fit</button>
                <button type="button" class="button" title="Lay the map out anew; nodes that were dragged go back" onClick={() => control.current?.arrange()}>Arrange</button>
              </div>
            </div>
          )}
      </div>
      {node && <NodePanel key={node.id} node={node} graph={graph} close={close} openEdge={openEdge} unfold={toggle} />}
      {edge && !node && <EdgePanel key={edge.id} edge={edge} graph={graph} close={close} openNode={open} />}
    </div>
  );
}

function Nothing() {
  const { start, end } = bounds();
  return (
    <Empty title={`No request seen in the last ${spanWords(end - start)}`}>
      <p>Nothing has been sent here in this window. Choose a longer window above, look at <a href={href("/agent")}>Agent</a> for what was lost, or send data here:</p>
      <StartHere />
    </Empty>
  );
}
