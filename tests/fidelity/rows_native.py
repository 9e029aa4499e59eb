"""Rows of Rust and .NET."""

from __future__ import annotations

from tests.fidelity import toolchains
from tests.fidelity.row import CERTAIN, GOOD, PARALLEL, SEQUENTIAL, Need, Row, apt, program

BOTH = (SEQUENTIAL, PARALLEL)
CARGO = Need("cargo", lambda: None if toolchains.cargo() else "apt-get install --no-install-recommends cargo-web")
MCS = apt("mcs", "mono-mcs mono-runtime libmono-system-core4.0-cil")
DOTNET = "{cache}/dotnet-runtime/dotnetcore2/bin/dotnet"
INVARIANT = {"DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1"}

ROWS = (
    Row(
        "rust-direct",
        runtime="Rust",
        what="axum and reqwest, one call after the other in the handler's task",
        start=program("{cache}/rust/release/service", "--style", "direct"),
        target=GOOD,
        needs=(CARGO,),
        build=toolchains.rust("rust"),
    ),
    Row(
        "rust-spawn",
        runtime="Rust",
        what="axum and reqwest, a task a call",
        start=program("{cache}/rust/release/service", "--style", "spawn"),
        modes=BOTH,
        target=CERTAIN,
        needs=(CARGO,),
        build=toolchains.rust("rust"),
    ),
    Row(
        "dotnet-threads",
        runtime=".NET",
        what="a thread a connection, pooled blocking sockets",
        start=program(DOTNET, "{cache}/dotnet/service.dll", "--style", "threads", environment=INVARIANT),
        needs=(MCS,),
        build=toolchains.dotnet("dotnet"),
    ),
    Row(
        "dotnet-async",
        runtime=".NET",
        what="async sockets, HttpClient",
        start=program(DOTNET, "{cache}/dotnet/service.dll", "--style", "async", environment=INVARIANT),
        modes=BOTH,
        target=CERTAIN,
        needs=(MCS,),
        build=toolchains.dotnet("dotnet"),
    ),
)
