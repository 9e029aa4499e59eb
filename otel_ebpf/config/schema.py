"""Every key of the configuration, with its kind, default, variable and documentation (`otlp.*` is in `otlp`)."""
# ruff: noqa: RUF009 (`key` and `group` declare fields)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from otel_ebpf.config.keys import Records, group, key
from otel_ebpf.config.kinds import (
    Address,
    Choice,
    Duration,
    Flag,
    KeyValues,
    Listing,
    NetworkNamespace,
    Number,
    Pairs,
    Size,
    Text,
    Whole,
)
from otel_ebpf.config.otlp import SIGNALS, Otlp
from otel_ebpf.config.rules import Match, PeerAlias, ServiceRule
from otel_ebpf.tracing.completion import MODES as COMPLETION
from otel_ebpf.tracing.sampling import NAMES as SAMPLERS
from otel_ebpf.tracing.trust import NAMES as TRUST
from otel_ebpf.tracing.wire import MODES as PROPAGATION

_RING = Size(least=4096, most=1 << 30, power_of_two=True)


@dataclass(frozen=True, slots=True)
class Admin:
    """The agent's own HTTP endpoint."""

    address: str = key(Address(), "127.0.0.1:8894", "where /readyz, /healthz and /metrics are served")


@dataclass(frozen=True, slots=True)
class Viewer:
    """The page that `otel-ebpf run` serves of what it observes: `otel-ebpf view`, started with it and ended with it."""

    enabled: str = key(
        Choice("auto", "always", "never"),
        "auto",
        "auto: where there is a live view, unless something is exported; always: unless something is exported",
    )
    listen: str = key(Address(), "127.0.0.1:8890", "where the page is; another port is taken if this one is in use")
    store: str | None = key(
        Text(), None, "folder in which data is kept; default: /var/lib/otel-ebpf, as of `otel-ebpf view`"
    )
    keep: float = key(Duration(least=60, most=366 * 86400), 86400.0, "how long data is kept")
    size: int = key(Size(least=16 << 20, most=1 << 44), 2 << 30, "how much data is kept; the oldest goes first")


@dataclass(frozen=True, slots=True)
class Log:
    """The agent's own log, on stderr."""

    level: str = key(Choice("debug", "info", "warn", "error"), "info", "the least that is logged", env="OTEL_LOG_LEVEL")


@dataclass(frozen=True, slots=True)
class Service:
    """Who the agent itself is."""

    name: str = key(
        Text(),
        "otel-ebpf",
        "`service.name` of the agent's own telemetry; never that of an observed process, whose own environment counts",
        env="OTEL_SERVICE_NAME",
    )


@dataclass(frozen=True, slots=True)
class ResourceKeys:
    """Who the observed processes are."""

    attributes: Pairs = key(
        KeyValues(),
        (),
        "added to every resource, observed and own (deployment.environment.name, host.name, …); what a process says in "
        "its own OTEL_RESOURCE_ATTRIBUTES wins; service.name is ignored here, except for the agent's own telemetry",
        env="OTEL_RESOURCE_ATTRIBUTES",
    )
    services: tuple[ServiceRule, ...] = key(
        Records(ServiceRule), (), "names for processes, by patterns; the first rule that fits wins"
    )
    command_args: bool = key(Flag(), False, "report process.command_args, with the values of secrets replaced")


@dataclass(frozen=True, slots=True)
class FilterKeys:
    """Which exchanges are observed. The agent itself never is."""

    include: tuple[Match, ...] = key(Records(Match), (), "if given: only what fits one of these")
    exclude: tuple[Match, ...] = key(Records(Match), (), "never what fits one of these")
    network_namespace: str | None = key(
        NetworkNamespace(),
        None,
        "if given: only sockets of this network namespace; what is beyond counts as another host",
    )


@dataclass(frozen=True, slots=True)
class Traces:
    """Traces that others have a part in."""

    trust_incoming: str = key(
        Choice(*TRUST),
        "all",
        "whose trace context is believed in requests from other hosts: private: only that of senders with a private "
        "address (RFC 1918, RFC 4193, link-local); none: nobody's; within this host it always is",
    )
    completion: str = key(
        Choice("auto", *COMPLETION),
        "auto",
        "of services with an SDK of their own: fill-gaps: only what it does not tell, under its spans; network-only: "
        "of the calls that it tells of, the network's part; everything: all, under its spans; off: our own traces, as "
        "if there were no SDK; auto: fill-gaps where something is exported, else off",
    )
    completion_wait: float = key(
        Duration(least=0.5, most=60),
        8.0,
        "how long an exchange of such a service waits for what its SDK exports; SDKs do so each 5 s",
    )
    statistics: bool = key(
        Flag(),
        False,
        "calls whose request nothing tells for certain get the one that the distributions of delays tell with at least "
        "95 % confidence, calibrated on the certain ones; up to one in twenty of these may be wrong",
    )


@dataclass(frozen=True, slots=True)
class TailKeys:
    """Whole traces by what became of them, among those that the sampler keeps."""

    enabled: bool = key(
        Flag(),
        False,
        "keep traces with errors, the slowest of each route and a part of the rest; drop the others (docs/sampling.md)",
    )
    slowest: float = key(Number(0, 50), 1.0, "how many percent of each route's traces are kept for being slow")
    ratio: float = key(
        Number(0, 1), 0.1, "the part of all others that is kept, by the trace id, as traceidratio does on every host"
    )
    budget: int = key(
        Whole(0, 1 << 30), 0, "the most spans per second, 0: no limit; errors first, then the slowest, then the rest"
    )
    wait: float = key(
        Duration(least=0.1, most=60), 10.0, "how long a trace is held at most; it is decided 1s after its local root"
    )
    spans: int = key(Whole(1000, 1 << 24), 50_000, "the most at a time; the oldest are decided early, and counted")


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which traces are exported; metrics count all requests."""

    sampler: str = key(
        Choice(*SAMPLERS),
        "parentbased_always_on",
        "parentbased_*: as the incoming context says, if there is one",
        env="OTEL_TRACES_SAMPLER",
    )
    argument: str | None = key(
        Text(),
        None,
        "for traceidratio and parentbased_traceidratio: the part of traces from 0 to 1; default 1",
        env="OTEL_TRACES_SAMPLER_ARG",
    )
    tail: TailKeys = group(TailKeys)

    @property
    def ratio(self) -> float:
        """`argument` as a number; 1.0 for samplers that take none."""
        return float(self.argument) if self.argument is not None and self.sampler.endswith("traceidratio") else 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """How spans and logs are collected into export requests."""

    delay: float = key(
        Duration(least=0.01, most=60),
        0.05,
        "the longest that a finished span waits for its export request to fill",
        env="OTEL_BSP_SCHEDULE_DELAY",
    )
    size: int = key(
        Whole(1, 1 << 20), 8192, "the most spans in one export request", env="OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
    )
    queue: int = key(
        Whole(1, 1 << 24),
        65536,
        "the most spans that wait for export; more are dropped and counted",
        env="OTEL_BSP_MAX_QUEUE_SIZE",
    )
    timeout: float = key(
        Duration(least=0.001, most=3600),
        30.0,
        "after this time of retries a batch is dropped and counted",
        env="OTEL_BSP_EXPORT_TIMEOUT",
    )


@dataclass(frozen=True, slots=True)
class Metrics:
    """Duration histograms and the service graph."""

    interval: float = key(
        Duration(least=0.1, most=3600), 10.0, "between two exports", env="OTEL_METRIC_EXPORT_INTERVAL"
    )
    temporality: str = key(
        Choice("cumulative", "delta", "lowmemory"),
        "cumulative",
        "lowmemory is delta for histograms",
        env="OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    )
    series: int = key(
        Whole(1, 1 << 20),
        2000,
        "the most attribute sets of one metric; further ones are counted as otel.metric.overflow",
    )
    exemplars: str = key(
        Choice("always_on", "always_off", "trace_based"),
        "trace_based",
        "trace_based: of sampled requests",
        env="OTEL_METRICS_EXEMPLAR_FILTER",
    )
    service_graph: bool = key(
        Flag(),
        True,
        "metrics of who calls whom, traces_service_graph_*; to be turned off where Tempo or the Collector makes them "
        "of the same traces, since everything would be counted twice",
    )


@dataclass(frozen=True, slots=True)
class Peers:
    """What the other ends of connections are called that are no observed processes of this host."""

    aliases: tuple[PeerAlias, ...] = key(
        Records(PeerAlias), (), "names for addresses, networks and host names; the first that fits wins"
    )
    dns: bool = key(
        Flag(), True, "call a server by the name for which its client got the address, where the DNS answer was seen"
    )
    addresses: int = key(
        Whole(0, 1 << 16),
        200,
        'the most clients that the service graph names by their address; further ones are "user", and counted',
    )


@dataclass(frozen=True, slots=True)
class Http:
    """HTTP."""

    routes: tuple[str, ...] = key(
        Listing(Text()), (), "patterns of http.route like '/users/{id}'; they win over what is found by itself"
    )


@dataclass(frozen=True, slots=True)
class Redact:
    """What must not leave the host."""

    enabled: bool = key(
        Flag(), True, "replace secrets in queries and headers, literals in SQL, values in Redis commands"
    )
    parameters: tuple[str, ...] = key(
        Listing(Text()), (), "more names of query parameters whose values are replaced, besides the built-in ones"
    )


@dataclass(frozen=True, slots=True)
class Hold:
    """How long tracing keeps exchanges until their parent is known."""

    time: float = key(Duration(least=0.1, most=60), 2.0, "how long an exchange waits for a parent that may still come")
    spans: int = key(Whole(1000, 1 << 24), 100_000, "the most at a time; the oldest are decided early, and counted")


@dataclass(frozen=True, slots=True)
class Rings:
    """Sizes of the ring buffers between kernel and agent; each is memory of the kernel."""

    head: int = key(_RING, 1 << 20, "exchanges without payload")
    small: int = key(_RING, 4 << 20, "exchanges with short payload")
    large: int = key(_RING, 4 << 20, "exchanges with long payload")
    frames_head: int = key(_RING, 1 << 20, "frames of HTTP/2 other than headers")
    frames_small: int = key(_RING, 2 << 20, "frames of HTTP/2 with few headers, or headers that were sent before")
    frames_large: int = key(_RING, 1 << 20, "frames of HTTP/2 with many headers")
    connections: int = key(_RING, 512 << 10, "announcements of connections")
    processes: int = key(_RING, 256 << 10, "starts and ends of processes")


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel side."""

    request_timeout: float = key(
        Duration(least=1, most=86400), 60.0, "a request without response after this time ends as unanswered"
    )
    poll: float = key(
        Duration(least=0.01, most=1), 0.5, "how often the rings are emptied; more often while they fill fast"
    )
    rings: Rings = group(Rings)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, as `load` returns it: typed, checked, unchangeable.

    origins: dotted key → where its value came from ("default", "file F:3", "environment NAME", "flag --name").
    """

    signals: tuple[str, ...] = key(Listing(Choice(*SIGNALS)), ("traces", "metrics"), "what is exported")
    output: str = key(
        Choice("auto", "console", "none"), "auto", "console: a live view; auto: console unless something is exported"
    )
    propagation: str = key(
        Choice(*PROPAGATION),
        "off",
        "tcp-option: requests to other hosts tell their trace in a TCP option, which the agent there reads; "
        "http-header: in a traceparent header, where this kernel is fit for it (see docs/propagation.md); off: nothing "
        "on the wire is changed",
    )
    otlp: Otlp = group(Otlp)
    batch: Batch = group(Batch)
    traces: Traces = group(Traces)
    sampling: Sampling = group(Sampling)
    metrics: Metrics = group(Metrics)
    resource: ResourceKeys = group(ResourceKeys)
    filter: FilterKeys = group(FilterKeys)
    peers: Peers = group(Peers)
    http: Http = group(Http)
    redact: Redact = group(Redact)
    hold: Hold = group(Hold)
    kernel: Kernel = group(Kernel)
    viewer: Viewer = group(Viewer)
    admin: Admin = group(Admin)
    service: Service = group(Service)
    log: Log = group(Log)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False, metadata={"internal": True})

    @property
    def exports(self) -> bool:
        """Whether any signal has somewhere to go."""
        return any(self.otlp.of(signal) is not None for signal in SIGNALS if signal in self.signals)

    @property
    def completion(self) -> str:
        """How services with an SDK of their own are completed: `traces.completion`, decided."""
        auto = "fill-gaps" if self.otlp.of("traces") is not None else "off"
        return auto if self.traces.completion == "auto" else self.traces.completion

    @property
    def console(self) -> bool:
        """Whether the live view is shown."""
        return self.output == "console" or (self.output == "auto" and not self.exports)

    @property
    def embeds_viewer(self) -> bool:
        """Whether a viewer is started with the agent."""
        enabled = self.viewer.enabled
        return bool(self.signals) and not self.exports and (enabled == "always" or (enabled == "auto" and self.console))
