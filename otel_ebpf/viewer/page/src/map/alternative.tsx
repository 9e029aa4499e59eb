// The map as tables: for screen readers, small screens, and whoever wants to sort it.

import { duration, errorShare, rate } from "../format";
import { ErrorShare, HealthMark } from "../ui/health";
import { Panel } from "../ui/panel";
import { Table, type Column } from "../ui/table";
import type { Graph, GraphEdge, GraphNode } from "./graph";
import { changed, type Params, place } from "../url";
import { kindOf } from "./words";

/** This view with something else chosen: a link, so that it can be copied, or opened beside this one. */
const here = (chosen: Params): string => `/map?${changed(place.value.query, chosen).toString()}`;

export function MapTables({ graph, shown, selected }: {
  graph: Graph; shown: (id: string) => boolean;
  selected: { node: string | null; edge: string | null };
}) {
  const name = (id: string): string => graph.byId.get(id)?.name ?? id;
  const red: Column<GraphNode | GraphEdge>[] = [
    { id: "rate", title: "Rate", number: true, value: (row) => row.rate, cell: (row) => rate(row.rate) },
    { id: "errors", title: "Errors", number: true, value: (row) => errorShare(row), cell: (row) => <ErrorShare red={row} /> },
    { id: "p50", title: "p50", number: true, value: (row) => row.p50, cell: (row) => duration(row.p50) },
    { id: "p99", title: "p99", number: true, value: (row) => row.p99, cell: (row) => duration(row.p99) },
  ];
  const edges: Column<GraphEdge>[] = [
    { id: "client", title: "Client", value: (row) => name(row.client), cell: (row) => (
      <a class="name row" href={here({ node: null, from: row.client, to: row.server })} aria-label={`Open ${name(row.client)} calls ${name(row.server)}`}><HealthMark red={row} /><span>{name(row.client)}</span></a>) },
    { id: "server", title: "Server", value: (row) => name(row.server), cell: (row) => <a class="name" href={here({ node: row.server, from: null, to: null })} aria-label={`Open ${name(row.server)}`}>{name(row.server)}</a> },
    { id: "system", title: "By", value: (row) => row.system, cell: (row) => <span class="muted">{row.system}</span> },
    ...red,
  ];
  const nodes: Column<GraphNode>[] = [
    { id: "name", title: "Node", value: (row) => row.name, cell: (row) => (
      <a class="name row" href={here({ node: row.id, from: null, to: null })}><HealthMark red={row} /><span>{row.name}</span></a>) },
    { id: "kind", title: "Kind", value: (row) => kindOf(row), cell: (row) => <span class="muted">{kindOf(row)}</span> },
    ...red,
  ];
  return (
    <div class="page map-tables">
      <Panel title="Who calls whom" flush>
        <Table rows={graph.edges.filter((edge) => shown(edge.client) || shown(edge.server))} columns={edges} caption="Edges of the service map"
          rowKey={(row) => row.id} order="-rate" dense limit={500} selected={(row) => row.id === selected.edge} />
      </Panel>
      <Panel title="Nodes" flush>
        <Table rows={graph.nodes.filter((node) => shown(node.id))} columns={nodes} caption="Nodes of the service map" name="nodes"
          rowKey={(row) => row.id} order="-rate" dense limit={500} selected={(row) => row.id === selected.node} />
      </Panel>
    </div>
  );
}
