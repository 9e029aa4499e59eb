// A trace as a tree. What comes from outside may be anything: parents that are not here, ids that occur twice, spans
// that are their own ancestors, a thousand levels. Nothing here recurses, and every span is shown exactly once.

import type { Span, Trace } from "../api";
import { criticalPath } from "./critical";
import { rest, total, union, type Interval } from "./intervals";

export interface Node {
  /** Its place among the trace's spans; tells apart spans that share an id. */
  key: number;
  span: Span;
  start: number;
  end: number;
  parent: Node | null;
  children: Node[];
  depth: number;
  /** How many spans are below it, and how many of these failed. */
  below: number;
  failedBelow: number;
  /** Why it is a root although it names a parent. */
  orphan: "" | "missing" | "loop";
  /** Stretches without any child: what the span itself took. */
  own: Interval[];
  self: number;
  /** A client's duration less that of the server span at the other end; null: there is not exactly one. */
  network: number | null;
  /** The stretches of `own` on the critical path; null: not on it. */
  critical: Interval[] | null;
  /** A server span that begins before, or ends after, its client's: by how many ms. */
  outside: number;
  /** Both ends are on the same host, so that is not for their clocks. */
  sameClock: boolean;
  /** Of a client whose server's span is here: both are on one host, as their resources or the loopback address say. */
  oneHost: boolean;
}

export interface ServiceTime { name: string; spans: number; errors: number; self: number; network: number }

export interface Tree {
  /** Roots by their start; all spans, each before its children, siblings by their start. */
  roots: Node[];
  nodes: Node[];
  /** The root that the trace is named after: one without a parent before one whose parent is missing, the longest. */
  main: Node | null;
  /** The first server (or consumer) below a root that is a client's or producer's: what the trace is about. */
  entry: Node | null;
  start: number;
  end: number;
  errors: number;
  /** Server spans outside their clients': as clocks differ, or on one host, where they do not. */
  skewed: Node[];
  outlasting: Node[];
  orphans: Node[];
  services: ServiceTime[];
  /** Spans that came once more, as senders do that got no answer; shown once. */
  repeated: number;
}

/** Below this, a child outside its parent is the rounding of timestamps. */
const ROUNDING_MS = 0.05;

export function treeOf(trace: Pick<Trace, "spans">): Tree {
  const once = distinct(trace.spans);
  const all = once.map(nodeOf);
  link(all);
  const roots = all.filter((node) => node.parent === null).sort(byStart);
  const nodes = inOrder(roots);
  for (const node of nodes) measure(node);
  for (const node of [...nodes].reverse()) {
    if (!node.parent) continue;
    node.parent.below += 1 + node.below;
    node.parent.failedBelow += Number(node.span.status === "error") + node.failedBelow;
  }
  const main = mainOf(roots);
  const path = main ? criticalPath(main) : new Map<Node, Interval[]>();
  for (const [node, stretches] of path) node.critical = stretches;
  return {
    roots, nodes, main, entry: entryOf(main, nodes),
    start: nodes.reduce((least, node) => Math.min(least, node.start), Infinity),
    end: nodes.reduce((most, node) => Math.max(most, node.end), -Infinity),
    errors: nodes.filter((node) => node.span.status === "error").length,
    skewed: nodes.filter((node) => node.outside > 0 && !node.sameClock),
    outlasting: nodes.filter((node) => node.outside > 0 && node.sameClock),
    orphans: nodes.filter((node) => node.orphan !== ""),
    services: servicesOf(nodes),
    repeated: trace.spans.length - once.length,
  };
}

/** Without exact repetitions. Spans that share an id but are not the same are all kept. */
function distinct(spans: readonly Span[]): Span[] {
  const seen = new Set<string>();
  return spans.filter((span) => {
    const key = JSON.stringify([span.span_id, span.parent_id, span.service, span.name, span.kind, span.start, span.duration]);
    const fresh = !seen.has(key);
    seen.add(key);
    return fresh;
  });
}

function nodeOf(span: Span, key: number): Node {
  const end = span.start + Math.max(0, span.duration);
  return { key, span, start: span.start, end, parent: null, children: [], depth: 0, below: 0, failedBelow: 0, orphan: "", own: [], self: 0, network: null, critical: null, outside: 0, sameClock: false, oneHost: false };
}

const byStart = (one: Node, other: Node): number => one.start - other.start || other.end - one.end || one.key - other.key;

function link(all: readonly Node[]): void {
  const byId = new Map<string, Node>();
  for (const node of all) if (!byId.has(node.span.span_id)) byId.set(node.span.span_id, node);
  for (const node of all) {
    const { parent_id: id, span_id: own } = node.span;
    if (id === null) continue;
    const parent = byId.get(id);
    if (!parent) node.orphan = "missing";
    else if (id === own) node.orphan = "loop";
    else node.parent = parent;
  }
  const sure = new Set<Node>();
  for (const node of all) {
    const way = new Set<Node>();
    let at: Node | null = node;
    while (at && !sure.has(at)) {
      if (way.has(at)) {
        at.parent = null;
        at.orphan = "loop";
        break;
      }
      way.add(at);
      at = at.parent;
    }
    for (const one of way) sure.add(one);
  }
  for (const node of all) node.parent?.children.push(node);
  for (const node of all) node.children.sort(byStart);
}

function inOrder(roots: readonly Node[]): Node[] {
  const nodes: Node[] = [];
  const open = [...roots].reverse();
  for (let node = open.pop(); node; node = open.pop()) {
    node.depth = node.parent ? node.parent.depth + 1 : 0;
    nodes.push(node);
    for (let index = node.children.length - 1; index >= 0; index -= 1) open.push(node.children[index] as Node);
  }
  return nodes;
}



function measure(node: Node): void {
  const within: Interval = [node.start, node.end];
  node.own = rest(within, union(node.children.map((child): Interval => [child.start, child.end]), within));
  node.self = total(node.own);
  if (node.span.kind !== "client") return;
  const servers = node.children.filter((child) => child.span.kind === "server");
  const [server] = servers;
  if (!server || servers.length > 1) return;
  const outside = Math.max(node.start - server.start, server.end - node.end);
  if (outside > ROUNDING_MS) {
    server.outside = outside;
    server.sameClock = sameHost(node.span, server.span);
  }
  const network = node.end - node.start - (server.end - server.start);
  if (network >= 0) node.network = network;
  node.oneHost = sameHost(node.span, server.span) || ADDRESSES.some((key) => LOOPBACK.test(String(node.span.attributes[key] ?? "")));
}

const ADDRESSES = ["network.peer.address", "server.address"];
const LOOPBACK = /^(127\.|::1$|localhost$)/;

/** Both spans say on which host they were, and it is the same. */
function sameHost(one: Span, other: Span): boolean {
  const key = ["host.id", "host.name"].find((name) => one.resource[name] !== undefined && other.resource[name] !== undefined);
  return key !== undefined && one.resource[key] === other.resource[key];
}

function entryOf(main: Node | null, nodes: readonly Node[]): Node | null {
  if (main?.span.kind !== "client" && main?.span.kind !== "producer") return null;
  const first = nodes.indexOf(main);
  const below = nodes.slice(first + 1, first + 1 + main.below).filter(({ span: { kind } }) => kind === "server" || kind === "consumer");
  return below.reduce<Node | null>((least, node) => (least && least.start <= node.start ? least : node), null);
}

function mainOf(roots: readonly Node[]): Node | null {
  const rank = (node: Node): number => (node.orphan === "" ? 0 : 1);
  return [...roots].sort((one, other) => rank(one) - rank(other) || (other.end - other.start) - (one.end - one.start) || byStart(one, other))[0] ?? null;
}

/** Self time by service, most first. What a client waited for outside its server's span is the network's, not its own. */
function servicesOf(nodes: readonly Node[]): ServiceTime[] {
  const services = new Map<string, ServiceTime>();
  for (const node of nodes) {
    const name = node.span.service;
    const sum = services.get(name) ?? { name, spans: 0, errors: 0, self: 0, network: 0 };
    services.set(name, sum);
    sum.spans += 1;
    sum.errors += Number(node.span.status === "error");
    if (node.network === null) sum.self += node.self;
    else sum.network += node.network;
  }
  return [...services.values()].sort((one, other) => other.self - one.self || one.name.localeCompare(other.name));
}

/** The nodes that are shown while those in `closed` are folded. */
export function unfolded(tree: Tree, closed: ReadonlySet<string>): Node[] {
  const shown: Node[] = [];
  for (let index = 0; index < tree.nodes.length; index += 1) {
    const node = tree.nodes[index] as Node;
    shown.push(node);
    if (node.below > 0 && closed.has(node.span.span_id)) index += node.below;
  }
  return shown;
}


