// Traces of the mock's world: every call of a topology, from the outside inwards.

import { hash, wave } from "./series.mjs";
import { SPECIAL, specialById } from "./special.mjs";
import { random } from "./topology.mjs";

const hex = (draw, length) => Array.from({ length }, () => Math.floor(draw() * 16).toString(16)).join("");

/** The trace of number `n` of the world; its spans follow from n alone. */
export function traceOf(world, n, start) {
  const draw = random(n * 7919 + 13);
  const traceId = hex(draw, 32);
  const spans = [];
  const outside = world.edges.filter((edge) => world.nodes.find((node) => node.id === edge.client)?.kind === "external");
  const first = outside[Math.floor(draw() * outside.length)] ?? world.edges[0];
  visit(first, null, start, 0);
  return { trace_id: traceId, spans };

  function visit(edge, parent, at, depth) {
    const operation = edge.operations[Math.floor(draw() * edge.operations.length)];
    const failed = draw() < edge.errors * 1.5;
    const server = world.nodes.find((node) => node.id === edge.server);
    const outsideClient = world.nodes.find((node) => node.id === edge.client)?.kind === "external";
    const own = edge.p50 * (0.4 + 1.6 * draw() ** 2) * (draw() < 0.04 ? 6 : 1);
    const common = { trace_id: traceId, message: "", scope: "otel_ebpf", links: [] };
    let above = parent;
    let began = at;
    let client = null;
    if (!outsideClient) {
      client = { ...common, span_id: hex(draw, 16), parent_id: above, service: edge.client, name: operation, kind: edge.system === "rabbitmq" ? "producer" : "client", start: at, duration: own, status: failed ? "error" : "unset", events: [],
        attributes: { "server.address": edge.server, ...(server.kind === "database" ? { "db.system.name": edge.system, "db.query.text": `${operation} WHERE id = $1` } : { "http.request.method": operation.split(" ")[0], "http.response.status_code": failed ? 503 : 200 }), "otel_ebpf.link.method": "thread-alone", "otel_ebpf.link.confidence": 0.98 },
        resource: { "service.name": edge.client } };
      spans.push(client);
      above = client.span_id;
      began = at + own * 0.04;
    }
    let last = began + own * 0.9;
    if (server?.kind === "service") {
      const span = { ...common, span_id: hex(draw, 16), parent_id: above, service: edge.server, name: operation, kind: "server", start: began, duration: own * 0.9, status: failed ? "error" : "unset",
        events: failed ? [{ time: began + own * 0.8, name: "exception", attributes: { "exception.type": "TimeoutError", "exception.message": "the payment took too long" } }] : [],
        attributes: { "http.request.method": operation.split(" ")[0], "http.route": operation.split(" ")[1] ?? "", "url.path": "/products/<script>alert(1)</script>", "http.response.status_code": failed ? 503 : 200, "otel_ebpf.link.method": above === parent ? "traceparent" : "connection" },
        resource: { "service.name": edge.server, ...server.attributes, "process.runtime.name": "cpython" } };
      spans.push(span);
      let cursor = began + own * 0.08;
      if (depth < 5) {
        for (const next of world.edges.filter((one) => one.client === edge.server)) {
          if (draw() < 0.25 || spans.length > 60) continue;
          cursor = visit(next, span.span_id, cursor, depth + 1) + own * 0.02 * draw();
        }
      }
      span.duration = Math.max(span.duration, cursor - began + own * 0.05);
      last = span.start + span.duration;
    }
    if (client) client.duration = Math.max(client.duration, last - at + own * 0.04);
    return client ? client.start + client.duration : last;
  }
}

/** Number of a trace whose start is at `slot` (one a second), so that searches and links agree. */
export const slotOf = (time) => Math.floor(time / 1000);

export function summaries(world, start, end, query) {
  const limit = Math.min(Number(query.get("limit") ?? 50) || 50, 1000);
  const slowest = query.get("order") === "slowest";
  const wanted = { service: query.get("service") ?? query.get("server"), operation: query.get("operation"), client: query.get("client"), status: query.get("status") };
  const least = Number(query.get("min_ms") ?? 0);
  const most = Number(query.get("max_ms") ?? Infinity);
  const attrs = query.getAll("attr").map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]);
  const found = [];
  const look = (trace) => {
    const fits = trace.spans.filter((span) => (!wanted.service || span.service === wanted.service || span.attributes["server.address"] === wanted.service)
      && (!wanted.client || span.service === wanted.client || trace.spans.some((one) => one.service === wanted.client && one.span_id === span.parent_id))
      && (!wanted.operation || span.name === wanted.operation) && (wanted.status !== "error" || span.status === "error") && (wanted.status !== "ok" || span.status !== "error")
      && attrs.every(([key, value]) => String(span.attributes[key] ?? span.resource[key]) === value) && span.duration >= least && span.duration <= most);
    if (fits.length) found.push(summary(trace, fits));
  };
  if (world.edges.length) for (const trace of Object.values(SPECIAL).reverse()) if (trace.spans[0].start >= start && trace.spans[0].start < end) look(trace);
  for (let slot = slotOf(end); world.edges.length && slot >= slotOf(start) && found.length < (slowest ? 4 : 1) * limit + 1 && slotOf(end) - slot < 3000; slot -= 1) {
    look(traceOf(world, slot, slot * 1000 + 1000 * (wave("t", slot * 1000) % 1)));
  }
  if (slowest) found.sort((one, other) => other.matched.duration - one.matched.duration);
  return { start, end, traces: found.slice(0, limit), complete: found.length <= limit, gaps: [] };
}

function summary(trace, fits) {
  const root = trace.spans[0];
  const matched = fits.reduce((one, other) => (other.duration > one.duration ? other : one));
  const services = new Map();
  for (const span of trace.spans) services.set(span.service, (services.get(span.service) ?? 0) + 1);
  return { trace_id: trace.trace_id, start: root.start, duration: root.duration, service: root.service, name: root.name,
    failed: root.status === "error", spans: trace.spans.length, errors: trace.spans.filter((span) => span.status === "error").length,
    services: [...services].map(([name, spans]) => ({ name, spans })), entry: null, matched: { span_id: matched.span_id, service: matched.service, name: matched.name, start: matched.start, duration: matched.duration } };
}

/** A trace by its id, of those of the last hour. */
export function traceById(world, id, now) {
  const special = specialById(id);
  if (special) return special;
  if (!world.edges.length) return null;
  for (let slot = slotOf(now) + 2; slot > slotOf(now) - 3600; slot -= 1) {
    if (random(slot * 7919 + 13)() * 16 >> 0 !== parseInt(id[0], 16)) continue; // the id's first digit is the first draw
    const trace = traceOf(world, slot, slot * 1000 + 1000 * (wave("t", slot * 1000) % 1));
    if (trace.trace_id === id) return trace;
  }
  return null;
}

/** Live lines: both ends of each call, as the agent sends them. */
export function liveSpans(world, now, count) {
  const draw = random(hash(String(now)));
  return Array.from({ length: count }, () => {
    const edge = world.edges[Math.floor(draw() ** 2 * world.edges.length)];
    const failed = draw() < edge.errors;
    const serves = draw() < 0.4;
    const service = serves ? edge.server : edge.client;
    return { time: now - draw() * 500, service, kind: serves ? "server" : "client", peer: serves ? edge.client : edge.server, system: edge.system, what: edge.operations[Math.floor(draw() * edge.operations.length)],
      status: edge.system === "http" ? (failed ? "503" : "200") : failed ? "ERR" : "OK", failed, duration: edge.p50 * (0.5 + draw()), link: serves ? "connection" : ["thread-alone", "thread-response", ""][Math.floor(draw() * 3)], trace_id: draw() < 0.5 ? Object.values(SPECIAL)[0].trace_id : hex(draw, 32), span_id: hex(draw, 16) };
  }).sort((one, other) => one.time - other.time);
}
