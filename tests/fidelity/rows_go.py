"""Go's rows."""

from __future__ import annotations

from tests.fidelity import toolchains
from tests.fidelity.data import postgresql, redis
from tests.fidelity.row import CERTAIN, EXACT, GOOD, PARALLEL, SEQUENTIAL, Row, program

BOTH = (SEQUENTIAL, PARALLEL)
VERSIONS = ("1.18.10", "1.20.14", "1.21.13", "1.22.12", "1.23.12", "1.24.11", "1.25.5", "1.27.3")


def _of(version: str, *arguments: str, name: str = "", what: str, target: float = EXACT) -> Row:
    return Row(
        f"go{version.rpartition('.')[0]}{name}",
        runtime=f"Go {version}",
        what=what,
        start=program(f"{{cache}}/go{version}/service", *arguments),
        modes=BOTH,
        target=target,
        build=toolchains.go("go", version),
    )


HARD = {
    "lazy": ("a pool that the first request made, fed by a buffered channel", GOOD),
    "unbuffered": ("the same, fed by a channel without a buffer", GOOD),
    "functions": ("the same, fed with functions", GOOD),
    "relay": ("a goroutine passes on what it is handed to workers, as another type", GOOD),
    "actor": ("few goroutines make the calls of all who ask them", GOOD),
    "nested": ("goroutines of goroutines", EXACT),
    "limited": ("a goroutine for each call, of which some run at a time", EXACT),
    "collect": ("workers and a collector for each request, with channels of its own", EXACT),
    "timeout": ("http.TimeoutHandler: the handler in a goroutine of its own", EXACT),
    "after": ("calls after the answer", CERTAIN),
    "borrow": ("workers that lend each other things by a channel", CERTAIN),
    "two": ("workers that get jobs of two types, and have some of their own", CERTAIN),
    "queue": ("workers that find their jobs in a list", CERTAIN),
}
"""What is hard to follow: apps/gohard. Nothing of it may be wrong."""

ROWS = (
    Row(
        "go-handler",
        runtime="Go",
        what="net/http, calls in the handler or a goroutine each, pooled http.Transport",
        start=program("{cache}/go/service", "--style", "handler"),
        modes=BOTH,
        build=toolchains.go("go"),
        quick=BOTH,
    ),
    Row(
        "go-few-connections",
        runtime="Go",
        what="the same with 8 connections at most, for which calls queue",
        start=program("{cache}/go/service", "--style", "handler", "--maximum", "8"),
        modes=BOTH,
        build=toolchains.go("go"),
    ),
    Row(
        "go-workers",
        runtime="Go",
        what="a pool of old goroutines, fed by a channel",
        start=program("{cache}/go/service", "--style", "workers"),
        modes=BOTH,
        target=GOOD,
        build=toolchains.go("go"),
    ),
    Row(
        "go-pgx",
        runtime="Go",
        what="pgx's pool to PostgreSQL",
        start=postgresql("{cache}/godata/service", "--style", "pgx"),
        modes=BOTH,
        build=toolchains.go("godata"),
    ),
    Row(
        "go-sql",
        runtime="Go",
        what="database/sql and lib/pq to PostgreSQL",
        start=postgresql("{cache}/godata/service", "--style", "sql"),
        modes=BOTH,
        build=toolchains.go("godata"),
    ),
    Row(
        "go-redis",
        runtime="Go",
        what="go-redis's pool to Redis",
        start=redis("{cache}/godata/service", "--style", "redis"),
        modes=BOTH,
        build=toolchains.go("godata"),
    ),
    *(_of(version, what="net/http, stripped") for version in VERSIONS),
    *(
        _of(version, "--style", "workers", name="-workers", what="worker pool, stripped", target=GOOD)
        for version in (VERSIONS[0], VERSIONS[-1])
    ),
    *(
        Row(
            f"go-hard-{style}",
            runtime="Go",
            what=what,
            start=program("{cache}/gohard/service", "--style", style),
            target=target,
            build=toolchains.go("gohard"),
        )
        for style, (what, target) in HARD.items()
    ),
)
