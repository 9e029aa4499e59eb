"""The viewer's three servers on one thread: the page, OTLP/gRPC and OTLP/HTTP.

    servers = Servers(Listening(), reception, page_app)
    servers.start()                  # ConfigError, UnsupportedError: one line that names the remedy
    servers.addresses["grpc"]        # '127.0.0.1:4317'
    servers.close(5)                 # lets requests under way end, for at most 5 s

One asyncio loop serves all: waiting requests cost a coroutine each, not a thread.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING

from otel_ebpf.errors import ConfigError, UnsupportedError
from otel_ebpf.resource.ports import taken_by
from otel_ebpf.viewer.listening import Listening, host_port, places
from otel_ebpf.viewer.receiver.access import Door, OtlpAccess, PageAccess
from otel_ebpf.viewer.receiver.asgi import App
from otel_ebpf.viewer.receiver.reception import Reception
from otel_ebpf.viewer.sockets import bind

if TYPE_CHECKING:
    from ssl import SSLContext

    import grpc.aio

    from otel_ebpf.viewer.http_server import HttpServer
    from otel_ebpf.viewer.receiver.over_http import OtlpHttp


_LAST_S = 0.5


class Servers:
    """What listens.

    addresses: where, as HOST:PORT, by "page", "grpc", "http"; moved: what was taken, in sentences. Filled by `start`.
    """

    def __init__(self, listening: Listening, reception: Reception, page: App) -> None:
        """page: the ASGI application of the page and its API; it gets no lifespan events.

        ConfigError: an address is wrong, or would be open to strangers; a certificate cannot be used.
        """
        self.addresses: dict[str, str] = {}
        self.moved: list[str] = []
        self._listening, self._reception, self._page = listening, reception, page
        self._places = places(listening)
        self._tls = _Tls(listening) if listening.tls_cert else None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="viewer-serve", daemon=True)
        self._http: list[HttpServer] = []
        self._grpc: grpc.aio.Server | None = None
        self._otlp_http: OtlpHttp | None = None

    @property
    def page_url(self) -> str:
        """What a browser on this host opens; "" if there is no page. With the token, which the page takes out of it."""
        if "page" not in self.addresses:
            return ""
        place = self._places["page"]
        host, _, port = self.addresses["page"].rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
        scheme = "https" if place.guarded and self._tls is not None else "http"
        token = f"?token={self._listening.token}" if place.guarded and self._listening.token else ""
        return f"{scheme}://{host}:{port}/{token}"

    def start(self) -> None:
        """Bind and serve. ConfigError, UnsupportedError: an address cannot be had; then nothing listens."""
        _allow_connections()
        bound: dict[str, socket.socket] = {}
        try:
            for name, place in self._places.items():
                bound[name] = bind(place, self._listening.choose_ports)
            for name, listener in bound.items():
                address = listener.getsockname()
                self.addresses[name] = host_port(address[0], address[1])
                place = self._places[name]
                if place.port not in (0, address[1]):
                    self.moved.append(
                        f"{place.text} is taken by {taken_by(place.port)}: {self.addresses[name]} instead"
                    )
            self._thread.start()
            self._call(self._start(bound)).result()
        except BaseException:
            for listener in bound.values():
                listener.close()
            self.close(0)
            raise

    def close(self, seconds: float) -> None:
        """Stop listening, let requests under way end for at most so long, then cut them off."""
        if self._thread.is_alive():
            self._call(self._stop(seconds)).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        if not self._loop.is_closed():
            self._loop.close()

    def _call(self, work: Coroutine[object, object, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _start(self, bound: dict[str, socket.socket]) -> None:
        if "grpc" in bound:
            await self._start_grpc(bound["grpc"])
        if "http" in bound:
            from otel_ebpf.viewer.receiver.over_http import OtlpHttp

            self._otlp_http = OtlpHttp(self._reception)
            app: App = OtlpAccess(self._otlp_http, self._door("http"), self._reception)
            await self._start_http("http", app, bound["http"])
        if "page" in bound:
            port = bound["page"].getsockname()[1]
            secure = self._places["page"].guarded and self._tls is not None
            app = PageAccess(self._page, self._door("page"), f"otel_ebpf_{port}", secure)
            await self._start_http("page", app, bound["page"])

    async def _start_http(self, name: str, app: App, listener: socket.socket) -> None:
        from otel_ebpf.viewer.http_server import HttpServer

        tls = self._tls.context if self._tls is not None and self._places[name].guarded else None
        server = HttpServer(app, listener, tls)
        await server.start()
        self._http.append(server)

    async def _start_grpc(self, probe: socket.socket) -> None:
        """grpcio binds by itself, and does not say why it could not: the probe has said it before."""
        import grpc.aio

        from otel_ebpf.viewer.receiver.over_grpc import OtlpGrpc, options

        place, address = self._places["grpc"], self.addresses["grpc"]
        handler = OtlpGrpc(self._reception, self._door("grpc"))
        server = grpc.aio.server(handlers=(handler,), options=options(self._reception.request_bytes))
        probe.close()
        try:
            if self._tls is not None and place.guarded:
                server.add_secure_port(address, self._tls.credentials())
            else:
                server.add_insecure_port(address)
        except RuntimeError:
            port = int(address.rpartition(":")[2])
            raise UnsupportedError(
                f"{address} is taken by {taken_by(port)}: choose another with {place.option} HOST:PORT"
            ) from None
        await server.start()
        self._grpc = server

    def _door(self, name: str) -> Door:
        place, listening = self._places[name], self._listening
        if place.guarded and (listening.token or listening.tls_client_ca):
            return Door(listening.token)
        if place.loopback:
            return Door(hosts=(place.host, place.text.rpartition(":")[0].strip("[]")))
        return Door()

    async def _stop(self, seconds: float) -> None:
        stopping = [server.stop(seconds) for server in self._http]
        if self._grpc is not None:
            stopping.append(self._grpc.stop(seconds))
        await asyncio.gather(*stopping)
        if self._otlp_http is not None:
            self._otlp_http.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_LAST_S)


def _allow_connections() -> None:
    """Let this process have as many descriptors as it may: the usual 1024 are fewer than the connections allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Tls:
    """Certificates that are known to be usable."""

    def __init__(self, listening: Listening) -> None:
        self._listening = listening
        self.context = self._make_context()

    def _make_context(self) -> SSLContext:
        import ssl

        listening = self._listening
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(listening.tls_cert, listening.tls_key)
            if listening.tls_client_ca:
                context.load_verify_locations(listening.tls_client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:
            named = ", ".join(filter(None, (listening.tls_cert, listening.tls_key, listening.tls_client_ca)))
            raise ConfigError(f"--tls-cert, --tls-key: {named}: not usable PEM certificates and key: {error}") from None
        return context

    def credentials(self) -> grpc.ServerCredentials:
        """The same for gRPC."""
        from pathlib import Path

        import grpc

        listening = self._listening
        pair = (Path(listening.tls_key).read_bytes(), Path(listening.tls_cert).read_bytes())
        authority = Path(listening.tls_client_ca).read_bytes() if listening.tls_client_ca else None
        return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
