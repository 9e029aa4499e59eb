// Answers in the shape of src/api.ts, from a topology. Scenarios: shop, large, empty, gaps (losses and a full disk),
// hostile (names that would do harm if they were taken for anything but text).

import { hash, red, redSeries, wave } from "./series.mjs";
import { liveSpans, summaries, traceById } from "./traces.mjs";
import { HOSTILE, large, SHOP } from "./topology.mjs";

const STARTED = Date.now();
const EMPTY = { nodes: [], edges: [] };

export function worldOf(scenario) {
  return { shop: SHOP, gaps: SHOP, busy: SHOP, empty: EMPTY, hostile: HOSTILE, large: large() }[scenario];
}

function moment(text, otherwise, now) {
  if (text === null) return otherwise;
  if (text === "now") return now;
  const relative = /^-(\d+)([smhd])$/.exec(text);
  return relative ? now - Number(relative[1]) * { s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[relative[2]] : Number(text);
}

export function answer(scenario, world, path, query, now = Date.now()) {
  const end = moment(query.get("end"), now, now);
  const start = moment(query.get("start"), end - 900_000, now);
  const gaps = scenario === "gaps" ? [{ what: "exchanges", reason: "the ring of payloads was full", says: "", count: 1203, since: end - 90_000, until: end - 80_000 }] : [];
  const [head, ...rest] = path.split("/").map(decodeURIComponent);
  const windowed = { start, end, gaps };
  const answers = {
    status: () => ({ version: "0.4.0", started: STARTED, now, listen: { page: "127.0.0.1:8890", grpc: "127.0.0.1:4317", http: "127.0.0.1:4318" },
      store: { path: "/var/lib/otel-ebpf", bytes: 31e6, limit_bytes: 2e9, oldest: now - 36e5, spans: 412_311, logs: 1200, points: 90_133 },
      ingest: { spans_per_second: 312, accepted: 412_311, refused: 0 }, problems: scenario === "gaps" ? ["The disk is full: new data is refused."] : [], gaps }),
    map: () => map(world, start, end, query.get("group_by"), gaps),
    services: () => (rest.length ? detail(world, rest[0], windowed) : { ...windowed, services: services(world, start, end) }),
    red: () => series(world, query, start, end, gaps),
    traces: () => {
      if (!rest.length) return { ...summaries(world, start, end, query), gaps };
      const trace = traceById(world, rest[0], now);
      return trace && { ...trace, logs: trace.logs ?? logs(world, trace, start, end).slice(0, 6), gaps };
    },
    logs: () => ({ start, end, logs: logs(world, null, start, end), complete: true }),
    attributes: () => (rest.length
      ? { key: rest[0], values: ["shop", "catalog", "checkout"].map((value, index) => ({ value, spans: 900 - 200 * index })), sampled: 1e4 }
      : { keys: ["http.route", "http.response.status_code", "server.address", "db.system.name", "url.path"].map((key, index) => ({ key, spans: 9000 - 1000 * index })), sampled: 1e4 }),
    metrics: () => (rest.length ? metric(rest[0], start, end) : { metrics: [{ name: "process.cpu.utilization", unit: "1", type: "gauge", series: 3 }] }),
    agents: () => ({ start, end, agents: scenario === "empty" ? [] : [agent(now, scenario)] }),
  };
  return answers[head]?.() ?? null;
}

const systemOf = (world, id) => world.nodes.find((node) => node.id === id);
const edgeRed = (edge, start, end) => ({ client: edge.client, server: edge.server, connection_type: "", system: edge.system, ...red(`${edge.client}>${edge.server}`, edge, start, end) });

function served(world, id) {
  const into = world.edges.filter((edge) => edge.server === id);
  const all = into.length ? into : world.edges.filter((edge) => edge.client === id);
  const rate = all.reduce((sum, edge) => sum + edge.rate, 0);
  return { rate, errors: rate ? all.reduce((sum, edge) => sum + edge.rate * edge.errors, 0) / rate : 0, p50: all.length ? all.reduce((sum, edge) => sum + edge.p50, 0) / all.length : 1 };
}

function map(world, start, end, groupBy, gaps) {
  const nodes = world.nodes.map(({ id, name, kind, system, guessed, attributes }) => ({
    id, name, kind, system, guessed, group: groupBy ? attributes[groupBy] ?? null : null, ...red(id, served(world, id), start, end) }));
  return { start, end, nodes, edges: world.edges.map((edge) => edgeRed(edge, start, end)), gaps, groupings: ["host.name", "service.namespace"] };
}

function services(world, start, end) {
  return world.nodes.filter((node) => node.kind !== "external").map((node) => {
    const what = served(world, node.id);
    const spark = Array.from({ length: 30 }, (_, index) => Math.round(what.rate * 30 * wave(node.id, start + (end - start) * index / 30)));
    return { name: node.name, kind: node.kind, system: node.system, ...red(node.id, what, start, end), spark,
      spark_failed: spark.map((value, index) => Math.round(value * what.errors * (hash(`${node.id}${index}`) % 3))), resources: [{ "service.name": node.name, ...node.attributes, "process.pid": 100 + hash(node.id) % 9000, "telemetry.sdk.language": "python" }] };
  });
}

function operations(world, edges, kind, start, end) {
  const all = new Map();
  for (const edge of edges) edge.operations.forEach((name, index) => {
    const before = all.get(name) ?? { rate: 0, errors: edge.errors, p50: edge.p50 * (1 + index / 2), system: edge.system };
    all.set(name, { ...before, rate: before.rate + edge.rate / 2 ** (index + 1) });
  });
  return [...all].map(([name, what]) => ({ name, kind, system: what.system, ...red(name, what, start, end) }));
}

function detail(world, name, windowed) {
  const { start, end } = windowed;
  const service = services(world, start, end).find((one) => one.name === name);
  if (!service) return null;
  const into = world.edges.filter((edge) => edge.server === name);
  const out = world.edges.filter((edge) => edge.client === name);
  return { ...windowed, service, serves: operations(world, into, "server", start, end), calls: operations(world, out, "client", start, end),
    callers: into.map((edge) => edgeRed(edge, start, end)), callees: out.map((edge) => edgeRed(edge, start, end)) };
}

function series(world, query, start, end, gaps) {
  const steps = Math.min(500, Number(query.get("steps") ?? 60) || 60);
  const client = query.get("client");
  const edge = client === null ? null : world.edges.find((one) => one.client === client && one.server === query.get("server"));
  const name = query.get("service") ?? query.get("server") ?? "";
  const what = edge ?? served(world, name);
  const share = query.get("operation") ? 0.4 : 1;
  return { ...redSeries(edge ? `${edge.client}>${edge.server}` : name, { ...what, rate: what.rate * share }, start, end, steps), gaps };
}

function logs(world, trace, start, end) {
  const names = systemOf(world, "shop") ? ["shop", "checkout", "catalog"] : [];
  return names.flatMap((service, index) => Array.from({ length: 4 }, (_, at) => ({ time: end - (end - start) * (at + index / 3) / 400, service, severity: [9, 9, 13, 17][at], body: ["request started", "cache miss <b>&amp;</b>", "slow query", "payment failed: timeout"][at], event: "",
    trace_id: trace?.trace_id ?? null, span_id: trace?.spans.find((span) => span.service === service)?.span_id ?? null, attributes: { "code.function": "handle" } })));
}

function metric(name, start, end) {
  const times = Array.from({ length: 60 }, (_, index) => start + (end - start) * index / 60);
  return { start, end, name, unit: "1", type: "gauge", step: (end - start) / 60, times, series: ["shop", "catalog"].map((service) => ({ service, attributes: {}, values: times.map((time) => 0.2 * wave(service + name, time)) })) };
}

function agent(now, scenario) {
  const gaps = scenario === "gaps";
  return { host: "app-1", instance: "b7c1", version: "0.4.0", seen: now - (gaps ? 240_000 : 2000), spans_per_second: 312, exchanges: 281_331, seconds: 900, cpu: 0.031, rss_bytes: 112e6,
    ring_fill: [{ ring: "exchanges_large", ratio: gaps ? 0.97 : 0.12 }, { ring: "exchanges_small", ratio: gaps ? 0.8 : 0.04 }, { ring: "connections", ratio: 0.002 }, { ring: "processes", ratio: 0 }],
    losses: gaps ? [["otel_ebpf.losses kernel", "ring_full_exchange", 1203, 1.3], ["otel_ebpf.losses export.traces", "queue_full", 512, 0.57], ["otel_ebpf.losses tracing", "other_end_missing", 2, 0.002]]
      .map(([metric, reason, count, per_second]) => ({ metric, reason, count, per_second })) : [],
    unread: gaps ? [{ metric: "otel_ebpf.parse.failures", reason: "unknown", count: 31, per_second: 0.034 }] : [], retried: [],
    failures: gaps ? [{ what: "uprobe SSL_read in /usr/lib/libssl.so.3", reason: "the file has no symbol SSL_read_ex", count: 1 }, { what: "on_exec", reason: "not attached", count: 2 }] : [],
    stages: [["decode", 0.011], ["link", 0.006], ["export", 0.004], ["poll", 0.002]].map(([stage, cpu]) => ({ stage, cpu })),
    programs: [["tcp_sendmsg", 0.004, 3100, 820], ["tcp_recvmsg", 0.003, 2900, 760], ["sched_process_exec", 0.00001, 0.2, 3100]].map(([program, cpu, runs_per_second, ns_per_run]) => ({ program, cpu, runs_per_second, ns_per_run })) };
}

export { liveSpans };
