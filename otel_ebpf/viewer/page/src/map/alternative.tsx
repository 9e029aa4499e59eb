// The map as tables: for screen readers, small screens, and whoever wants to sort it.

import { duration, errorShare, rate } from "../format";
import { ErrorShare, HealthMark } from "../ui/health";
import { Panel } from "../ui/panel";
import { Table, type Column } from "../ui/table";
import type { Graph, GraphEdge, GraphNode } from "./graph";
import { kindOf } from "./words";

export function MapTables({ graph, shown, openNode, openEdge, selected }: {
  graph: Graph; shown: (id: string) => boolean; openNode: (node: GraphNode) => void; openEdge: (edge: GraphEdge) => void;
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
      <button type="button" class="name row" onClick={() => openEdge(row)} aria-label={`Open ${name(row.client)} calls ${name(row.server)}`}><HealthMark red={row} /><span>{name(row.client)}</span></button>) },
    { id: "server", title: "Server", value: (row) => name(row.server), cell: (row) => <span class="name">{name(row.server)}</span> },
    { id: "system", title: "By", value: (row) => row.system, cell: (row) => <span class="muted">{row.system}</span> },
    ...red,
  ];
  const nodes: Column<GraphNode>[] = [
    { id: "name", title: "Node", value: (row) => row.name, cell: (row) => (
      <button type="button" class="name row" onClick={() => openNode(row)}><HealthMark red={row} /><span>{row.name}</span></button>) },
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
