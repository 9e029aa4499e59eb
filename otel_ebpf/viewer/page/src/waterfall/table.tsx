// The trace's spans as a table that sorts: by self time, the slowest first.

import { duration } from "../format";
import { Table, type Column } from "../ui/table";
import { Failed, KIND_WORDS } from "./marks";
import { select } from "./state";
import type { Node, Tree } from "./tree";

export function SpanTable({ tree, palette, selected, found }: {
  tree: Tree; palette: ReadonlyMap<string, string>; selected: Node | null; found: ReadonlySet<Node> | null;
}) {
  const columns: Column<Node>[] = [
    { id: "service", title: "Service", value: (node) => node.span.service, cell: (node) => (
      <span class={`table-service tone-${palette.get(node.span.service) ?? "c1"}`}><span class="wf-tone" aria-hidden="true" />{node.span.service}</span>) },
    { id: "name", title: "Operation", wide: true, value: (node) => node.span.name, cell: (node) => (
      <button type="button" class="link" onClick={() => select(node)}>{node.span.name || "no name"}</button>) },
    { id: "kind", title: "Does", value: (node) => node.span.kind, cell: (node) => <span class="nowrap">{KIND_WORDS[node.span.kind]}</span> },
    { id: "start", title: "Start", number: true, value: (node) => node.start, cell: (node) => `+${duration(node.start - tree.start)}` },
    { id: "duration", title: "Duration", number: true, value: (node) => node.span.duration, cell: (node) => duration(node.span.duration) },
    { id: "self", title: "Self", number: true, hint: "Not covered by spans below", value: (node) => (node.network === null ? node.self : null), cell: (node) => (node.network === null ? duration(node.self) : "–") },
    { id: "network", title: "Between ends", number: true, hint: "Client less server: queues, scheduling, network", value: (node) => node.network, cell: (node) => duration(node.network) },
    { id: "status", title: "Status", value: (node) => node.span.status, cell: (node) => (node.span.status === "error" ? <span class="bad table-service"><Failed label="" />failed</span> : <span class="muted">{node.span.status === "ok" ? "ok" : "–"}</span>) },
  ];
  const rows = found ? tree.nodes.filter((node) => found.has(node)) : tree.nodes;
  return <Table dense rows={rows} columns={columns} caption="Spans of the trace" rowKey={(node) => String(node.key)} order="-self" name="by" selected={(node) => node === selected} limit={1000} />;
}
