// The map in words: for screen readers, tooltips and the table.

import type { Red } from "../api";
import { duration, errorShare, percent, rate } from "../format";
import { HEALTH_WORDS, health } from "../ui/health";
import type { GraphEdge, GraphNode } from "./graph";
import { foldedGroup } from "./graph";
import { nodeTitle } from "./scene";

const KINDS: Record<GraphNode["kind"], string> = {
  service: "service", database: "database", messaging: "message broker", external: "outside peer", group: "group",
};

export function kindOf(node: GraphNode): string {
  const kind = KINDS[node.kind];
  return node.system && node.kind !== "service" ? `${kind}, ${node.system}` : kind;
}

/** "12.1/s, 0.4 % errors, p99 12 ms" */
export function redWords(red: Red): string {
  if (red.calls === 0) return "no calls";
  return `${rate(red.rate)}, ${percent(errorShare(red))} errors, p99 ${duration(red.p99)}`;
}

export const nameOf = (id: string): string => foldedGroup(id) ?? id;

/** "shop calls postgres: 12.1/s, 0.4 % errors, p99 12 ms" */
export function edgeWords(edge: GraphEdge, names: (id: string) => string = nameOf): string {
  return `${names(edge.client)} calls ${names(edge.server)}: ${redWords(edge)}`;
}

/** "postgres, database, postgresql, healthy: 12.1/s, 0 % errors, p99 12 ms" */
export function nodeWords(node: GraphNode): string {
  return `${nodeTitle(node)}, ${kindOf(node)}, ${HEALTH_WORDS[health(node)]}: ${node.sends && node.calls > 0 ? "sends " : ""}${redWords(node)}`;
}
