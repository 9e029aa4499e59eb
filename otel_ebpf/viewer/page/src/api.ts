// The query API, version 1 (GET, JSON). Times are Unix milliseconds, durations milliseconds, rates per second;
// `start` and `end` are parameters of every view: Unix ms, "now", or "-15m" (s, m, h, d).

export interface Window { start: number; end: number }

/** Something that the picture lacks: shown by every view whose data it touches. reason: a code of the agent, or the
 *  viewer's words; says: what this means for the picture, and what to do ("" where reason says it);
 *  since, until: the reports between which it was lost. */
export interface Gap { what: string; reason: string; says: string; count: number; since: number; until: number }

/** GET /api/v1/status */
export interface Status {
  version: string; started: number; now: number;
  listen: { page: string; grpc: string; http: string };
  store: { path: string; bytes: number; limit_bytes: number; oldest: number | null; spans: number; logs: number; points: number };
  ingest: { spans_per_second: number; accepted: number; refused: number };
  /** Sentences for a banner, e.g. "The disk is full: new data is refused." */
  problems: string[];
  gaps: Gap[];
}

export interface Red { calls: number; failed: number; rate: number; p50: number | null; p99: number | null }

/** GET /api/v1/map?start&end&group_by=ATTRIBUTE (group_by: a resource attribute, e.g. host.name, service.namespace) */
export interface ServiceMap extends Window { nodes: MapNode[]; edges: MapEdge[]; gaps: Gap[]; groupings: string[] }
export interface MapNode extends Red {
  id: string; name: string;
  kind: "service" | "database" | "messaging" | "external" | "group";
  system: string;            // "postgresql", "redis", "http", …, or ""
  group: string | null;      // value of group_by
  guessed: boolean;          // `system` is a guess by the well-known port
}
export interface MapEdge extends Red { client: string; server: string; connection_type: string; system: string }

/** GET /api/v1/services?start&end */
export interface Services extends Window { services: Service[]; gaps: Gap[] }
export interface Service extends Red {
  name: string; kind: "service" | "database" | "messaging"; system: string;
  /** served requests, in `spark.length` equal steps of the window */
  spark: number[]; spark_failed: number[];
  resources: Record<string, unknown>[];   // attributes of the distinct resources (at most 20)
}

/** GET /api/v1/services/NAME?start&end: operations that it serves (routes, queries) and calls, who calls it, whom it calls */
export interface ServiceDetail extends Window {
  service: Service; serves: Operation[]; calls: Operation[]; callers: MapEdge[]; callees: MapEdge[]; gaps: Gap[];
}
export interface Operation extends Red { name: string; kind: Kind; system: string }
export type Kind = "internal" | "server" | "client" | "producer" | "consumer" | "unspecified";

/** GET /api/v1/red?service&operation&kind   or   ?client&server   (&start&end&steps) */
export interface RedSeries extends Window {
  step: number; times: number[]; calls: number[]; failed: number[]; p50: (number | null)[]; p99: (number | null)[];
  /** counts[i][j]: requests of step i with bounds[j-1] < duration <= bounds[j] */
  heat: { bounds: number[]; counts: number[][] };
  gaps: Gap[];
}

/** GET /api/v1/traces?start&end&service&operation&kind&status=ok|error&min_ms&max_ms&attr=KEY=VALUE(repeated)&client&server
 *  &order=recent|slowest&limit */
export interface Traces extends Window { traces: TraceSummary[]; complete: boolean; gaps: Gap[] }
export interface TraceSummary {
  trace_id: string; start: number; duration: number; service: string; name: string; failed: boolean;
  spans: number; errors: number; services: { name: string; spans: number }[];
  /** the earliest server or consumer span, if the root is a client or producer; null: it is not, or none is there */
  entry: { service: string; name: string } | null;
  /** the span that the search found: the slowest of them */
  matched: { span_id: string; service: string; name: string; start: number; duration: number };
}

/** GET /api/v1/traces/ID */
export interface Trace { trace_id: string; spans: Span[]; logs: Log[]; gaps: Gap[] }
/** GET /api/v1/traces/ID/spans/ID */
export interface Span {
  trace_id: string; span_id: string; parent_id: string | null; service: string; name: string; kind: Kind;
  start: number; duration: number; status: "unset" | "ok" | "error"; message: string; scope: string;
  attributes: Attributes; resource: Attributes;
  events: { time: number; name: string; attributes: Attributes }[];
  links: { trace_id: string; span_id: string; attributes: Attributes }[];
}
export type Attributes = Record<string, unknown>;

/** GET /api/v1/logs?start&end&service&trace_id&span_id&severity&text&limit */
export interface Logs extends Window { logs: Log[]; complete: boolean }
export interface Log {
  time: number; service: string; severity: number; body: string; event: string;
  trace_id: string | null; span_id: string | null; attributes: Attributes;
}

/** GET /api/v1/attributes?start&end&service    GET /api/v1/attributes/KEY?start&end&service&prefix */
export interface AttributeKeys { keys: { key: string; spans: number }[]; sampled: number }
export interface AttributeValues { key: string; values: { value: unknown; spans: number }[]; sampled: number }

/** GET /api/v1/metrics?start&end: what there is    GET /api/v1/metrics/NAME?start&end&service&steps */
export interface MetricNames { metrics: { name: string; unit: string; type: string; series: number }[] }
export interface MetricSeries extends Window {
  name: string; unit: string; type: string; step: number; times: number[];
  series: { service: string; attributes: Attributes; values: (number | null)[] }[];   // of counters: the rate
}

/** GET /api/v1/agents?start&end: the agents that report here, by their own telemetry */
export interface Agents extends Window { agents: Agent[] }
export interface Agent {
  host: string; instance: string; version: string; seen: number;
  /** between its first and its last report in the window (or just before it): exchanges, and everything per second or of
   *  a core, is of this time, its start-up left out; 0 where there is one report only */
  seconds: number;
  spans_per_second: number; exchanges: number;
  cpu: number | null;        // of one core; null: not known (yet)
  rss_bytes: number | null;
  ring_fill: { ring: string; ratio: number }[];
  losses: { metric: string; reason: string; count: number; per_second: number }[];     // count: all of the window
  unread: { metric: string; reason: string; count: number; per_second: number }[];     // not lost: no protocol that it reads
  retried: { metric: string; reason: string; count: number; per_second: number }[];    // exports that failed and are tried again
  failures: { what: string; reason: string; count: number }[];     // what could not be attached
  stages: { stage: string; cpu: number }[];   // time by the clock, of one core: on a busy host more than its CPU time
  programs: { program: string; cpu: number; runs_per_second: number; ns_per_run: number }[];
}

/** GET /api/v1/live?q=FILTER (text/event-stream): events "spans" (data: LiveSpan[]) and "missed" (data: {count}) */
export interface LiveSpan {
  time: number; service: string; kind: Kind; peer: string; system: string; what: string; status: string; failed: boolean;
  duration: number; link: string; trace_id: string; span_id: string;
}

/** The body of every answer that is not 2xx. */
export interface Problem { error: string }
