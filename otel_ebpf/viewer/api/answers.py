"""What each endpoint answers. The code that makes answers, the OpenAPI document and the page's api.ts say the same.

Times are Unix milliseconds, durations milliseconds, rates per second; sizes bytes, `cpu` of one core.
"""

from __future__ import annotations

from typing import Literal, TypedDict

KindName = Literal["unspecified", "internal", "server", "client", "producer", "consumer"]
KINDS: tuple[KindName, ...] = ("unspecified", "internal", "server", "client", "producer", "consumer")
"""By OTLP SpanKind."""
StatusName = Literal["unset", "ok", "error"]
STATUSES: tuple[StatusName, ...] = ("unset", "ok", "error")
"""By OTLP StatusCode."""


class Window(TypedDict):
    """The time that the answer is about."""

    start: float
    end: float


class Gap(TypedDict):
    """Something that the picture lacks.

    reason: a code of the agent, or the viewer's words. says: what this means for the picture, and what to do; "" where
    reason says it. since, until: the reports between which it was lost.
    """

    what: str
    reason: str
    says: str
    count: int
    since: float
    until: float


class Listen(TypedDict):
    """Addresses, host:port; "" where nobody listens."""

    page: str
    grpc: str
    http: str


class StoreState(TypedDict):
    """What is stored. oldest: null if there is nothing."""

    path: str
    bytes: int
    limit_bytes: int
    oldest: float | None
    spans: int
    logs: int
    points: int


class IngestState(TypedDict):
    """What comes in. accepted, refused: items since the start."""

    spans_per_second: float
    accepted: int
    refused: int


class Status(TypedDict):
    """The viewer itself. problems: sentences for a banner."""

    version: str
    started: float
    now: float
    listen: Listen
    store: StoreState
    ingest: IngestState
    problems: list[str]
    gaps: list[Gap]


class Red(TypedDict):
    """Rate, errors, durations. Quantiles are null where nothing was called."""

    calls: int
    failed: int
    rate: float
    p50: float | None
    p99: float | None


class MapNode(Red):
    """A node; its RED is that of what it serves. group: the value of group_by. guessed: `system` is a guess by the
    well-known port."""

    id: str
    name: str
    kind: Literal["service", "database", "messaging", "external", "group"]
    system: str
    group: str | None
    guessed: bool


class MapEdge(Red):
    """Who calls whom."""

    client: str
    server: str
    connection_type: str
    system: str


class ServiceMap(Window):
    """groupings: resource attributes that nodes can be grouped by."""

    nodes: list[MapNode]
    edges: list[MapEdge]
    gaps: list[Gap]
    groupings: list[str]


class Service(Red):
    """What serves. spark, spark_failed: served requests in equal steps of the window."""

    name: str
    kind: Literal["service", "database", "messaging"]
    system: str
    spark: list[int]
    spark_failed: list[int]
    resources: list[dict[str, object]]


class Services(Window):
    """All that served or called."""

    services: list[Service]
    gaps: list[Gap]


class Operation(Red):
    """A route, a query, …"""

    name: str
    kind: KindName
    system: str


class ServiceDetail(Window):
    """serves: what it is asked for; calls: what it asks others for; callers, callees: the edges to and from it."""

    service: Service
    serves: list[Operation]
    calls: list[Operation]
    callers: list[MapEdge]
    callees: list[MapEdge]
    gaps: list[Gap]


class Heat(TypedDict):
    """counts[i][j]: requests of step i with bounds[j-1] < duration <= bounds[j]."""

    bounds: list[float]
    counts: list[list[int]]


class RedSeries(Window):
    """RED over time. times: when each step begins; step: its length in milliseconds."""

    step: float
    times: list[float]
    calls: list[int]
    failed: list[int]
    p50: list[float | None]
    p99: list[float | None]
    heat: Heat
    gaps: list[Gap]


class ServiceSpans(TypedDict):
    """How many spans of a trace are a service's."""

    name: str
    spans: int


class Matched(TypedDict):
    """The span that a search found."""

    span_id: str
    service: str
    name: str
    start: float
    duration: float


class Entry(TypedDict):
    """What a trace was for, where its root is only the call: the first span that served it."""

    service: str
    name: str


class TraceSummary(TypedDict):
    """service, name, failed: of the root. matched: the slowest span that fits the search.

    entry: the earliest server or consumer span, if the root is a client or producer; null: it is not, or none is there.
    """

    trace_id: str
    start: float
    duration: float
    service: str
    name: str
    failed: bool
    spans: int
    errors: int
    services: list[ServiceSpans]
    entry: Entry | None
    matched: Matched


class Traces(Window):
    """complete: there are no more that fit."""

    traces: list[TraceSummary]
    complete: bool
    gaps: list[Gap]


class Event(TypedDict):
    """A span's event."""

    time: float
    name: str
    attributes: dict[str, object]


class SpanLink(TypedDict):
    """A span's link to another one."""

    trace_id: str
    span_id: str
    attributes: dict[str, object]


class Span(TypedDict):
    """One span, all of it."""

    trace_id: str
    span_id: str
    parent_id: str | None
    service: str
    name: str
    kind: KindName
    start: float
    duration: float
    status: StatusName
    message: str
    scope: str
    attributes: dict[str, object]
    resource: dict[str, object]
    events: list[Event]
    links: list[SpanLink]


class Log(TypedDict):
    """One log record. severity: OTLP SeverityNumber."""

    time: float
    service: str
    severity: int
    body: str
    event: str
    trace_id: str | None
    span_id: str | None
    attributes: dict[str, object]


class Trace(TypedDict):
    """A trace with its logs."""

    trace_id: str
    spans: list[Span]
    logs: list[Log]
    gaps: list[Gap]


class Logs(Window):
    """Newest first. complete: there are no more that fit."""

    logs: list[Log]
    complete: bool


class KeyCount(TypedDict):
    """An attribute's key, and how many of the sampled spans have it."""

    key: str
    spans: int


class AttributeKeys(TypedDict):
    """sampled: how many of the newest spans were looked at."""

    keys: list[KeyCount]
    sampled: int


class ValueCount(TypedDict):
    """An attribute's value, and how many of the sampled spans have it."""

    value: object
    spans: int


class AttributeValues(TypedDict):
    """sampled: how many of the newest spans were looked at."""

    key: str
    values: list[ValueCount]
    sampled: int


class MetricName(TypedDict):
    """A metric. type: gauge, sum, histogram, exponential histogram, summary."""

    name: str
    unit: str
    type: str
    series: int


class MetricNames(TypedDict):
    """The metrics that there are."""

    metrics: list[MetricName]


class Series(TypedDict):
    """values: of counters the rate per second, of histograms and summaries the mean, else the last value."""

    service: str
    attributes: dict[str, object]
    values: list[float | None]


class MetricSeries(Window):
    """A metric over time."""

    name: str
    unit: str
    type: str
    step: float
    times: list[float]
    series: list[Series]


class RingFill(TypedDict):
    """How full a ring was, 0 to 1."""

    ring: str
    ratio: float


class AgentLoss(TypedDict):
    """What an agent counted in the window. per_second: since its first report in it."""

    metric: str
    reason: str
    count: int
    per_second: float


class AgentFailure(TypedDict):
    """What an agent could not attach."""

    what: str
    reason: str
    count: int


class StageCost(TypedDict):
    """Time that the agent's loop spent in a stage, by the clock: on a busy host more than its CPU time."""

    stage: str
    cpu: float


class ProgramCost(TypedDict):
    """Time that the kernel spent in a BPF program."""

    program: str
    cpu: float
    runs_per_second: float
    ns_per_run: float


class Agent(TypedDict):
    """An agent, by its own telemetry. seen: when it last reported.

    seconds: between its first and its last report in the window (or just before it). exchanges, and everything per
    second or of a core, is of this time; 0 where there is one report only. losses: what was lost. unread: exchanges
    in no protocol that the agent reads, or not as it expects. retried: exports that failed and are tried again.
    """

    host: str
    instance: str
    version: str
    seen: float
    seconds: float
    spans_per_second: float
    exchanges: int
    cpu: float | None
    rss_bytes: float | None
    ring_fill: list[RingFill]
    losses: list[AgentLoss]
    unread: list[AgentLoss]
    retried: list[AgentLoss]
    failures: list[AgentFailure]
    stages: list[StageCost]
    programs: list[ProgramCost]


class Agents(Window):
    """The agents that report here."""

    agents: list[Agent]


class LiveSpan(TypedDict):
    """A span as a line of `otel-ebpf tap`. link: how its parent was found."""

    time: float
    service: str
    kind: KindName
    peer: str
    system: str
    what: str
    status: str
    failed: bool
    duration: float
    link: str
    trace_id: str
    span_id: str


class Problem(TypedDict):
    """The body of every answer that is not 2xx."""

    error: str
