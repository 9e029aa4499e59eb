// The map's graph as it is drawn: the API's nodes and edges, with groups that were folded into one node each.

import type { MapEdge, MapNode, Red, ServiceMap } from "../api";
import { linkKey } from "./layout";

export interface GraphNode extends MapNode {
  /** How many nodes a folded group stands for; 1: itself. */
  members: number;
  /** Their names, for the search. */
  names: string[];
  /** It serves nothing that was seen: its numbers are those of the calls that it makes. */
  sends: boolean;
}

export interface GraphEdge extends MapEdge {
  id: string;
  /** How many edges this one stands for. p50 and p99 are then those of the slowest of them. */
  members: number;
}

export interface Graph {
  nodes: GraphNode[];
  edges: GraphEdge[];
  byId: Map<string, GraphNode>;
  edgeById: Map<string, GraphEdge>;
  out: Map<string, GraphEdge[]>;
  into: Map<string, GraphEdge[]>;
}

export { linkKey as edgeId } from "./layout";
const groupId = (group: string): string => `\u0001group:${group}`;

/** The name of the group that a folded node stands for; null: it is a node of its own. */
export const foldedGroup = (id: string): string | null => (id.startsWith("\u0001group:") ? id.slice(7) : null);

function most(one: number | null, other: number | null): number | null {
  if (one === null || other === null) return one ?? other;
  return Math.max(one, other);
}

/** Two sums of calls as one: rates add up; quantiles do not, so the slower one is kept as an upper bound. */
export function together<T extends Red>(one: T, other: Red): T {
  return {
    ...one, calls: one.calls + other.calls, failed: one.failed + other.failed, rate: one.rate + other.rate,
    p50: most(one.p50, other.p50), p99: most(one.p99, other.p99),
  };
}

/** `folded`: the groups that are shown as one node. Edges to nodes that the answer does not have are left out. */
export function graphOf(map: ServiceMap, folded: ReadonlySet<string>): Graph {
  const byId = new Map<string, GraphNode>();
  const shownAs = new Map<string, string>();
  for (const node of map.nodes) {
    const id = node.group !== null && folded.has(node.group) ? groupId(node.group) : node.id;
    shownAs.set(node.id, id);
    const there = byId.get(id);
    if (there) byId.set(id, { ...together(there, node), members: there.members + 1, names: [...there.names, node.name] });
    else if (id === node.id) byId.set(id, { ...node, name: node.name || "(no name)", members: 1, names: [node.name], sends: false });
    else byId.set(id, { ...node, id, name: node.group ?? "", kind: "group", system: "", guessed: false, members: 1, names: [node.name], sends: false });
  }
  const edgeById = new Map<string, GraphEdge>();
  for (const edge of map.edges) {
    const client = shownAs.get(edge.client);
    const server = shownAs.get(edge.server);
    if (client === undefined || server === undefined) continue;
    if (client === server && edge.client !== edge.server) continue; // within a folded group
    const id = linkKey(client, server);
    const there = edgeById.get(id);
    edgeById.set(id, there
      ? { ...together(there, edge), members: there.members + 1 }
      : { ...edge, id, client, server, members: 1 });
  }
  const edges = [...edgeById.values()];
  const out = new Map<string, GraphEdge[]>();
  const into = new Map<string, GraphEdge[]>();
  for (const edge of edges) {
    (out.get(edge.client) ?? out.set(edge.client, []).get(edge.client))?.push(edge);
    (into.get(edge.server) ?? into.set(edge.server, []).get(edge.server))?.push(edge);
  }
  for (const [id, node] of byId) {
    const calls = out.get(id) ?? [];
    if (node.calls === 0 && calls.length) byId.set(id, { ...calls.reduce<GraphNode>(together, node), sends: true });
  }
  return { nodes: [...byId.values()], edges, byId, edgeById, out, into };
}

/** A node and whatever it calls or is called by. */
export function neighbours(graph: Graph, id: string): Set<string> {
  const near = new Set([id]);
  for (const edge of graph.out.get(id) ?? []) near.add(edge.server);
  for (const edge of graph.into.get(id) ?? []) near.add(edge.client);
  return near;
}
