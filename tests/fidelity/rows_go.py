"""Go's rows."""

from __future__ import annotations

from tests.fidelity import toolchains
from tests.fidelity.data import postgresql, redis
from tests.fidelity.row import EXACT, GOOD, PARALLEL, SEQUENTIAL, Row, program

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


ROWS = (
    Row(
        "go-handler",
        runtime="Go",
        what="net/http, calls in the handler or a goroutine each, pooled http.Transport",
        start=program("{cache}/go/service", "--style", "handler"),
        modes=BOTH,
        build=toolchains.go("go"),
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
)
