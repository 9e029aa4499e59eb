// Who calls whom in the mock's worlds: a shop as the demo has it, and a large made-up system. Always the same.

/** Numbers in [0, 1) that follow from the seed (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const node = (name, kind, system, host, namespace, extra = {}) => ({
  id: name, name, kind, system, guessed: false, attributes: { "host.name": host, "service.namespace": namespace }, ...extra,
});
// client, server, system, calls per second, share of errors, median in ms, operations
const edge = (client, server, system, rate, errors, p50, operations) => ({ client, server, system, rate, errors, p50, operations });

export const SHOP = {
  nodes: [
    node("10.0.3.17", "external", "http", null, null),
    node("gateway", "service", "http", "web-1", "edge"),
    node("shop", "service", "http", "app-1", "shop"),
    node("catalog", "service", "http", "app-1", "shop"),
    node("checkout", "service", "http", "app-2", "shop"),
    node("mailer", "service", "amqp", "app-2", "back office"),
    node("postgres", "database", "postgresql", "db-1", "data"),
    node("redis", "database", "redis", "db-1", "data"),
    node("orders", "messaging", "rabbitmq", "db-1", "data"),
    node("payments.example.com", "external", "http", null, null),
    node("10.0.9.40:11211", "external", "memcached", null, null, { guessed: true }),
  ],
  edges: [
    edge("10.0.3.17", "gateway", "http", 42, 0.012, 18, ["GET /", "GET /products/{id}", "POST /checkout"]),
    edge("gateway", "shop", "http", 41, 0.012, 16, ["GET /", "GET /products/{id}", "POST /checkout"]),
    edge("shop", "catalog", "http", 30, 0, 6, ["GET /items", "GET /items/{id}"]),
    edge("shop", "checkout", "http", 4.2, 0.08, 64, ["POST /orders", "GET /orders/{id}"]),
    edge("shop", "redis", "redis", 88, 0, 0.31, ["GET", "SET", "HGETALL"]),
    edge("catalog", "postgres", "postgresql", 37, 0.0004, 1.9, ["SELECT items", "SELECT prices"]),
    edge("catalog", "10.0.9.40:11211", "memcached", 12, 0, 0.2, ["get"]),
    edge("checkout", "postgres", "postgresql", 12, 0.021, 3.4, ["INSERT orders", "UPDATE stock"]),
    edge("checkout", "payments.example.com", "http", 3.1, 0.11, 190, ["POST /v1/charges"]),
    edge("checkout", "orders", "rabbitmq", 3.0, 0, 0.8, ["publish orders"]),
    edge("orders", "mailer", "rabbitmq", 3.0, 0, 11, ["process orders"]),
    edge("mailer", "postgres", "postgresql", 2.2, 0, 2.6, ["SELECT customers"]),
  ],
};

const SCRIPT = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>";

/** Names as an attacker would choose them. */
export const HOSTILE = {
  nodes: [node(SCRIPT, "service", "http", SCRIPT, "a/b?c#d%"), node("long".repeat(2000), "service", "http", "h", "n"), node("\u202Eesrever \u0000 \"quoted\" [data-node]", "database", "x\ny", "h", "n"), node("", "external", "", null, null)],
  edges: [edge("", SCRIPT, "http", 1, 0, 1, [SCRIPT]), edge(SCRIPT, "long".repeat(2000), "http", 1e9, 1, 1e9, [SCRIPT, ""]), edge(SCRIPT, "\u202Eesrever \u0000 \"quoted\" [data-node]", "x\ny", 1e-6, 0.5, 0, [SCRIPT]), edge(SCRIPT, SCRIPT, "http", 1, 0, 1, [SCRIPT]), edge("gone", SCRIPT, "http", 1, 0, 1, [SCRIPT])],
};

/** 200 nodes and 1,000 edges in layers, as a large installation has them; a few edges and one service fail. */
export function large(services = 200, calls = 1000) {
  const draw = random(7);
  const kinds = [["external", "http", 0.04], ["service", "http", 0.72], ["messaging", "kafka", 0.06], ["database", "postgresql", 0.1], ["database", "redis", 0.08]];
  const areas = ["accounts", "billing", "catalog", "delivery", "media", "orders", "search", "support"];
  const nodes = [];
  for (const [kind, system, share] of kinds) {
    for (let left = Math.round(share * services); left > 0; left -= 1) {
      const area = areas[Math.floor(draw() * areas.length)];
      const name = { external: `203.0.113.${left}`, service: `${area}-${nodes.length}`, messaging: `${area}-events-${left}`, database: `${area}-${system}-${left}` }[kind];
      nodes.push({ ...node(name, kind, system, kind === "external" ? null : `host-${1 + Math.floor(draw() * 24)}`, kind === "external" ? null : area), layer: kind === "external" ? 0 : kind === "service" ? 1 + Math.floor(draw() * 4) : 5 });
    }
  }
  const edges = new Map();
  while (edges.size < calls) {
    const client = nodes[Math.floor(draw() * nodes.length)];
    const near = nodes.filter((one) => one.layer > client.layer && one.layer <= client.layer + 2);
    const own = near.filter((one) => one.attributes["service.namespace"] === client.attributes["service.namespace"]);
    const pool = own.length && draw() < 0.6 ? own : near;
    const server = pool[Math.floor(draw() * pool.length)];
    if (!server) continue;
    const errors = draw() < 0.03 ? 0.02 + draw() * 0.2 : draw() < 0.2 ? 0.002 : 0;
    edges.set(`${client.id}>${server.id}`, edge(client.id, server.id, server.system, 0.2 + 80 * draw() ** 4, errors, server.kind === "database" ? 0.3 + 4 * draw() : 2 + 60 * draw() ** 2, ["GET /a", "GET /b/{id}"]));
  }
  return { nodes, edges: [...edges.values()] };
}
