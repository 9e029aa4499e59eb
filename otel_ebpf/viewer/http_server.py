"""uvicorn on a socket of ours, inside a loop of ours, with a bound on the time and number of idle connections."""

from __future__ import annotations

import asyncio
import logging
import socket
from ssl import SSLContext
from typing import TYPE_CHECKING, cast

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from otel_ebpf.viewer.receiver.asgi import App

if TYPE_CHECKING:
    from asyncio import BaseTransport, TimerHandle

HEAD_S = 10.0
"""Longest time for a request's line and headers to come."""
IDLE_S = 75
"""Longest time between requests: exporters send every few seconds, some every minute."""
CONNECTIONS = 512
READ_BYTES = 64 << 10
MAX_HEAD = 32 << 10
_STREAM_S = 0.5
_LAST_S = 0.2


class _Protocol(H11Protocol):
    """uvicorn drops its only timer when a byte has come: one who never ends a header would stay for ever."""

    _head_timer: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > CONNECTIONS:
            # uvicorn's own limit waits for a request: each connection costs a descriptor long before
            self.transport.abort()
            return
        # what is read at once waits in two buffers while the application is busy; asyncio would take 256 KiB
        if hasattr(transport, "max_size"):
            transport.max_size = READ_BYTES
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._drop_timer()
        elif self._head_timer is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop_timer()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self.timeout_keep_alive_handler)

    def _drop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class HttpServer:
    """One listening address; `start` and `stop` in the loop that serves it.

    Of uvicorn only the protocol: its own server wakes ten times a second to look whether it should end.
    """

    def __init__(self, app: App, listener: socket.socket, tls: SSLContext | None = None) -> None:
        self._listener, self._tls = listener, tls
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._config = Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            workers=1,
            log_config=None,
            # less would be a line for each stranger's bytes
            log_level=logging.ERROR,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_S,
            h11_max_incomplete_event_size=MAX_HEAD,
        )
        self._config.load()

    async def start(self) -> None:
        """Accept connections from now on."""
        loop = asyncio.get_running_loop()

        def protocol() -> _Protocol:
            return _Protocol(self._config, self._state, {}, loop)

        self._server = await loop.create_server(protocol, sock=self._listener, ssl=self._tls, backlog=512)

    async def stop(self, seconds: float) -> None:
        """Accept no more; let requests under way end for at most so long, then cut them off."""
        if self._server is None:
            return
        self._server.close()
        connections, tasks = cast("set[_Protocol]", self._state.connections), self._state.tasks
        loop = asyncio.get_running_loop()
        for connection in list(connections):
            connection.shutdown()
            if connection.cycle is not None and connection.cycle.response_started:
                # an answer that has begun is nearly done, or a stream of events, which never is
                loop.call_later(min(_STREAM_S, seconds), connection.transport.abort)
        if tasks:
            await asyncio.wait(set(tasks), timeout=seconds)
        for connection in list(connections):
            connection.transport.abort()
        if tasks:
            # an application that waits for its client is told by that; what still goes on is not asked
            await asyncio.wait(set(tasks), timeout=_LAST_S)
        for task in list(tasks):
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            task.cancel()
