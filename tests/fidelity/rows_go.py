"""Go's rows."""

from __future__ import annotations

from tests.fidelity import toolchains
from tests.fidelity.data import postgresql, redis
from tests.fidelity.row import GOOD, PARALLEL, SEQUENTIAL, Row, program

BOTH = (SEQUENTIAL, PARALLEL)

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
)
