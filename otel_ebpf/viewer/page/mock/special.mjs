// Traces that a page must cope with, by short names for ids: /trace/checkout has every kind of thing, /trace/thousand
// 1,000 spans, /trace/orphan parents that are not here, /trace/skew clocks that differ, /trace/hostile what attackers
// send. They began when the mock was started.

import { random } from "./topology.mjs";

const BEGAN = Date.now() - 40_000;
const idOf = (number) => number.toString(16).padStart(16, "0");

/** Builds a trace: add(parent, service, kind, name, offset, duration, more) returns the span. */
function builder(name, start) {
  const id = [...name].map((letter) => letter.charCodeAt(0).toString(16)).join("").padEnd(32, "0").slice(0, 32);
  const trace = { trace_id: id, spans: [], logs: [] };
  const add = (parent, service, kind, title, offset, duration, { link, attributes = {}, failed = false, ...more } = {}) => {
    const span = { trace_id: id, span_id: idOf(trace.spans.length + 1), parent_id: parent?.span_id ?? null, service, name: title, kind,
      start: start + offset, duration, status: failed ? "error" : "unset", message: failed ? "the payment took too long" : "", scope: "otel_ebpf",
      attributes: { ...attributes, ...(link ? { "otel_ebpf.link.method": link } : {}), ...(kind === "client" || kind === "server" ? { "otel_ebpf.first_byte_ns": Math.round(duration * 0.8e6) } : {}) },
      resource: { "service.name": service, "host.name": "app-1", "process.pid": 4000 + service.length, "process.executable.name": service, "telemetry.sdk.name": "otel_ebpf" }, events: [], links: [], ...more };
    trace.spans.push(span);
    return span;
  };
  const log = (span, offset, severity, body, attributes = {}) => trace.logs.push({ time: start + offset, service: span.service, severity, body, event: "", trace_id: id, span_id: span.span_id, attributes });
  /** A client span and its server's, `network` ms shorter. */
  const hop = (parent, from, to, title, offset, duration, network, more = {}) => {
    const client = add(parent, from, "client", title, offset, duration, { link: "thread-alone", ...more, attributes: { "server.address": to, "server.port": 8080, "http.request.method": title.split(" ")[0], ...more.attributes } });
    return add(client, to, "server", title, offset + network * 0.6, duration - network, { ...more, link: more.carried ?? "connection", attributes: { "http.request.method": title.split(" ")[0], "http.route": title.split(" ")[1], "http.response.status_code": more.failed ? 503 : 200, ...more.attributes } });
  };
  return { trace, add, log, hop };
}

function checkout() {
  const { trace, add, log, hop } = builder("checkout", BEGAN);
  const root = add(null, "nginx", "server", "POST /checkout", 0, 284.2, { failed: true, attributes: { "http.request.method": "POST", "http.route": "/checkout", "http.response.status_code": 503, "client.address": "10.0.3.17", "url.path": "/checkout", "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/149.0.0.0 Safari/537.36" } });
  const shop = hop(root, "nginx", "shop", "POST /checkout", 0.8, 282.1, 0.31, { failed: true, carried: "traceparent" });
  const redis = (parent, title, offset, duration) => add(parent, "shop", "client", title, offset, duration, { link: "thread-alone", attributes: { "db.system.name": "redis", "db.query.text": title, "server.address": "127.0.0.1", "server.port": 6379 } });
  redis(shop, "GET cart:7", 2.1, 0.31);
  redis(shop, "HGETALL session:9f2", 2.8, 0.42);
  const catalog = hop(shop, "shop", "catalog", "GET /items/{id}", 4.2, 21.4, 0.18);
  add(catalog, "catalog", "client", "SELECT items", 6, 12.7, { link: "thread-response", attributes: { "db.system.name": "postgresql", "db.namespace": "shop", "db.collection.name": "items", "db.query.text": "SELECT i.id, i.title, p.amount FROM items i LEFT JOIN prices p ON p.item = i.id WHERE i.id = ANY($1) AND i.hidden = false OR i.note = 'FROM the old shop' ORDER BY i.id LIMIT 50", "otel_ebpf.link.confidence": 0.93, "otel_ebpf.link.candidates": 2 } });
  add(catalog, "catalog", "client", "SELECT prices", 19.1, 3.6, { link: "thread-response", attributes: { "db.system.name": "postgresql", "db.query.text": "SELECT 1" } });
  const stock = hop(shop, "shop", "catalog", "POST /stock/reserve", 27, 14.3, 0.22);
  add(stock, "catalog", "client", "UPDATE stock", 29, 9.1, { link: "thread-response", attributes: { "db.system.name": "postgresql", "db.query.text": "UPDATE stock SET held = held + $1 WHERE item = $2 RETURNING held" } });
  const pay = hop(shop, "shop", "payments", "POST /charges", 44, 236, 1.9, { failed: true, attributes: { "tls.protocol.version": "1.3" } });
  pay.events.push({ time: pay.start + 201, name: "exception", attributes: { "exception.type": "TimeoutError", "exception.message": "the card network did not answer within 200 ms", "exception.stacktrace": "Traceback (most recent call last):\n  File \"payments/charge.py\", line 41, in charge\n    answer = await network.authorise(card)\nTimeoutError" } });
  pay.links.push({ trace_id: "7468".padEnd(32, "0"), span_id: idOf(1), attributes: { reason: "retry of an earlier charge" } });
  add(pay, "payments", "client", "POST authorise", 48, 201, { failed: true, link: "thread-alone", attributes: { "server.address": "cards.example.com", "server.port": 443, "http.response.status_code": 504 } });
  add(pay, "payments", "client", "INSERT charges", 252, 4.4, { link: "thread-alone", attributes: { "db.system.name": "postgresql", "db.query.text": "INSERT INTO charges (id, amount, state) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET state = $3" } });
  const publish = add(shop, "shop", "producer", "publish orders", 281, 0.9, { link: "thread-alone", attributes: { "messaging.system": "rabbitmq", "messaging.destination.name": "orders" } });
  const mail = add(publish, "mailer", "consumer", "process orders", 296, 38.5, { link: "traceparent", attributes: { "messaging.system": "rabbitmq" } });
  add(mail, "mailer", "client", "SELECT customers", 301, 8.2, { link: "thread-alone", attributes: { "db.system.name": "postgresql", "db.query.text": "SELECT * FROM customers WHERE id = $1" } });
  log(shop, 3, 9, "checkout of cart 7 began", { "cart.id": 7 });
  log(pay, 245, 17, "charge failed: the card network did not answer within 200 ms", { "card.network": "example", "retry": false });
  log(pay, 246, 13, "will be tried again by the nightly run");
  return trace;
}

function thousand() {
  const { trace, add, hop } = builder("thousand", BEGAN + 5000);
  const draw = random(11);
  const services = ["shop", "catalog", "search", "prices", "stock", "images", "reviews"];
  const root = add(null, "gateway", "server", "GET /export", 0, 4200, { attributes: { "http.route": "/export" } });
  const parents = [[root, 3900, 20]];
  while (trace.spans.length < 999) {
    const [parent, room, from] = parents[Math.floor(draw() ** 1.6 * parents.length)];
    const offset = from + draw() * room * 0.9;
    const length = Math.max(0.2, (room - (offset - from)) * draw() * 0.7);
    if (draw() < 0.6) {
      const to = services[Math.floor(draw() * services.length)];
      const server = hop(parent, parent.service, to, `GET /${to}/{id}`, offset, length, length * 0.04, { failed: draw() < 0.01 });
      if (length > 4) parents.push([server, length * 0.9, offset + length * 0.04]);
    } else add(parent, parent.service, "client", `SELECT ${parent.service}`, offset, Math.min(length, 30), { link: "thread-alone", attributes: { "db.system.name": "postgresql", "db.query.text": "SELECT 1" } });
  }
  return trace;
}

function orphan() {
  const { trace, add, hop } = builder("orphan", BEGAN + 9000);
  const root = add(null, "shop", "server", "GET /", 0, 40);
  hop(root, "shop", "catalog", "GET /items", 3, 30, 0.4);
  const lost = add({ span_id: "00000000deadbeef" }, "payments", "server", "POST /charges", 12, 18, { link: "connection" });
  add(lost, "payments", "client", "INSERT charges", 15, 9, { link: "thread-alone" });
  return trace;
}

function skew() {
  const { trace, add, hop } = builder("skew", BEGAN + 12_000);
  const root = add(null, "shop", "server", "GET /remote", 0, 60);
  const remote = hop(root, "shop", "warehouse", "GET /remote/stock", 5, 40, 2.5);
  remote.start -= 18;
  remote.resource["host.name"] = "db-1";
  add(remote, "warehouse", "client", "SELECT stock", -4, 12, { link: "thread-alone" });
  return trace;
}

function hostile() {
  const { trace, add, log, hop } = builder("hostile", BEGAN + 15_000);
  const script = "<script>window.hacked=1</script>";
  const root = add(null, `shop${script}`, "server", `GET /<img src=x onerror="window.hacked=1">`, 0, 25, { attributes: { "url.path": `/${script}`, "url.full": `javascript:window.hacked=1//${"a".repeat(300)}` } });
  const child = hop(root, `shop${script}`, "ordinary", `GET /${"long/".repeat(60)}`, 3, 18, 0.3, { attributes: { huge: "x".repeat(200_000), "db.query.text": `SELECT '${"'".repeat(101)}${"a FROM ".repeat(4000)}` } });
  for (let index = 0; index < 400; index += 1) child.attributes[`key.${index}.${"k".repeat(index % 90)}`] = { nested: [index, null, { deep: "</pre><b>x</b>" }] };
  add(child, "", "internal", "", 5, -3, { attributes: { __proto__x: 1, constructor: "c" } });
  const loop = add(root, "loop", "internal", "its own ancestor", 6, 2);
  loop.parent_id = loop.span_id;
  log(root, 2, 21, `${script} \u202e reversed`, { "<b>": script });
  return trace;
}

function deep() {
  const { trace, add } = builder("deep", BEGAN + 18_000);
  let above = null;
  for (let level = 0; level < 120; level += 1) above = add(above, `service-${level % 11}`, level % 2 ? "client" : "server", `level ${level}`, level, 300 - 2 * level, { link: "traceparent" });
  return trace;
}

export const SPECIAL = { checkout: checkout(), thousand: thousand(), orphan: orphan(), skew: skew(), hostile: hostile(), deep: deep() };

/** By id or by the short name. */
export function specialById(id) {
  return SPECIAL[id] ?? Object.values(SPECIAL).find((trace) => trace.trace_id === id) ?? null;
}
