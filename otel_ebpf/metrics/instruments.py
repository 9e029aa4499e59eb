"""The metrics that we emit of exchanges: duration histograms, as the semantic conventions define them.

Boundaries: docs/http/http-metrics.md, docs/rpc/rpc-metrics.md, docs/database/database-metrics.md and
docs/dns/dns-metrics.md of the semantic conventions, each "SHOULD be specified with ExplicitBucketBoundaries of". The
metrics of the service graph are in the form of Grafana Tempo's and the Collector's.
"""

from __future__ import annotations

from dataclasses import dataclass

HTTP_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
DB_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
ALL_BOUNDS = tuple(sorted({*HTTP_BOUNDS, *DB_BOUNDS}))
"""What durations are counted by; an instrument's own buckets are sums of these."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One histogram of durations in seconds.

    bounds: upper bounds of the buckets but the last, inclusive; a subset of ALL_BOUNDS.
    addressed: the convention lists `server.address` and `server.port` among its attributes (for HTTP servers they are
    opt-in, as a client can choose the Host header).
    """

    name: str
    description: str
    bounds: tuple[float, ...] = HTTP_BOUNDS
    addressed: bool = False


GRAPH_BOUNDS = (0.002, 0.004, 0.006, 0.008, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.4, 2.0, 5.0, 10.0, 15.0)
"""Those of the Collector's service graph connector, so that both can be summed."""


@dataclass(frozen=True, slots=True)
class Counter:
    """One monotonic sum. unit: as in UCUM."""

    name: str
    description: str
    unit: str


_KNOWN = {
    instrument.name: instrument
    for instrument in (
        Instrument("http.server.request.duration", "Duration of HTTP server requests."),
        Instrument("http.client.request.duration", "Duration of HTTP client requests.", addressed=True),
        Instrument("db.client.operation.duration", "Duration of database client operations.", DB_BOUNDS, True),
        Instrument("rpc.server.call.duration", "Measures the duration of an incoming Remote Procedure Call (RPC)."),
        Instrument(
            "rpc.client.call.duration",
            "Measures the duration of an outgoing Remote Procedure Call (RPC).",
            addressed=True,
        ),
        Instrument("dns.lookup.duration", "Measures the time taken to perform a DNS lookup."),
    )
}


def instrument(name: str) -> Instrument:
    """The instrument of that name; what a new protocol names beyond the known ones gets the boundaries of HTTP."""
    return _KNOWN.get(name) or Instrument(name, "", addressed=".client." in name)
