"""Batches of spans as the tests of `control/` state them, and a terminal to show them on."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from otel_ebpf.control.tables import Tables
from otel_ebpf.model import Endpoint, Flag, Intern, Kind, Link, Resource, Spans
from otel_ebpf.protocols.base import Fields, Side, Slot
from tests.unit.otlp_twin import OFFSET, Row, spans_of

MS = 1_000_000
CART, CART_FAILED, REDIS, QUERY, LOOKUP = range(5)
SHOP, BILLING = 0, 1
REDIS_END, WEB_END, UNIX_END, IPV6_END = range(4)


def tables() -> Tables:
    """Shapes CART, CART_FAILED (http), REDIS, QUERY (postgresql), LOOKUP (dns); services shop and billing."""
    found = Tables(Intern(1000), Intern(1000), Intern(1000), OFFSET)
    http = (Slot("url.path", 0), Slot("url.query", 1))
    to_cart = (Slot("url.full", 0, "http://cart.example"),)
    for status, failed in (("200", False), ("503", True)):
        found.shapes.id(
            Fields(
                "http",
                Side("GET /cart/{id}", (("http.request.method", "GET"),), (), failed, http),
                Side("GET", (("server.address", "cart.example"),), (), failed, to_cart, addressed=True),
                status,
            )
        )
    for protocol, name, slots in (
        ("redis", "GET", (Slot("db.query.text", 0),)),
        ("postgresql", "SELECT users", (Slot("db.query.text", 0),)),
        ("dns", "A", (Slot("dns.question.name", 0),)),
    ):
        side = Side(name, (("db.system.name", protocol),), (), False, slots)
        found.shapes.id(Fields(protocol, side, side, ""))
    for service in ("shop", "billing"):
        found.resources.id(Resource(service, (("service.name", service),)))
    for peer, server in (("10.0.0.5", "10.0.0.5"), ("10.1.2.3", "web.example"), ("", "/run/pg.sock"), ("::1", "::1")):
        always = (("network.peer.address", peer),) if peer else (("network.transport", "unix"),)
        found.endpoints.id(Endpoint(always, (("server.address", server),)))
    return found


def exchange(shape: int = CART, *texts: str, took: int = MS, flags: int = 0, **more: object) -> tuple[Row, int]:
    """One row; took in ns."""
    row = Row(shape=shape, texts=texts, start=5_000 * MS, end=5_000 * MS + took, **more)  # type: ignore[arg-type]
    return row, flags


def batch(*rows: tuple[Row, int]) -> Spans:
    """The rows as columns."""
    spans = spans_of([row for row, _ in rows])
    spans.flags[:] = [flags for _, flags in rows]
    spans.req_bytes[:] = 120
    spans.rsp_bytes[:] = 4_500
    return spans


def typical() -> Spans:
    """Five exchanges, one of each shape."""
    return batch(
        exchange(CART, "/cart/7", "page=2", kind=Kind.SERVER, endpoint=WEB_END, port=51_000),
        exchange(CART_FAILED, "/cart/8", took=250 * MS, kind=Kind.CLIENT, endpoint=WEB_END, port=80, resource=BILLING),
        exchange(REDIS, "GET cart:7", kind=Kind.CLIENT, endpoint=REDIS_END, port=6379, link=Link.THREAD_ALONE),
        exchange(QUERY, "SELECT * FROM users\n WHERE id = ?", kind=Kind.CLIENT, endpoint=UNIX_END, port=0),
        exchange(LOOKUP, "shop.example", kind=Kind.CLIENT, endpoint=IPV6_END, port=53, flags=Flag.UNANSWERED),
    )


class Terminal:
    """The far side of a pseudo terminal: keeps all that was written to it."""

    def __init__(self, columns: int, rows: int) -> None:
        self._master, slave = pty.openpty()
        self.stream: TextIO = os.fdopen(slave, "w", encoding="utf-8")
        self.resize(columns, rows)
        self._got = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def text(self) -> str:
        return self._got.decode()

    def frames(self) -> list[list[str]]:
        """What was drawn each time, line by line, without colours."""
        drawn = re.findall(r"\x1b\[\?2026h\x1b\[H(.*?)\x1b\[\?2026l", self.text(), re.DOTALL)
        return [re.sub(r"\x1b\[[0-9;]*[mKJ]", "", one).replace("\r", "").split("\n") for one in drawn]

    def _read(self) -> None:
        while True:
            try:
                more = os.read(self._master, 65536)
            except OSError:  # EIO: the near side is closed
                return
            if not more:
                return
            self._got += more

    def close(self) -> None:
        self.stream.close()
        self._thread.join(5)
        os.close(self._master)


@contextmanager
def terminal(columns: int = 120, rows: int = 30) -> Iterator[Terminal]:
    opened = Terminal(columns, rows)
    try:
        yield opened
    finally:
        opened.close()


def eventually(condition: object, what: str, seconds: float = 20) -> None:
    """Wait until `condition()` holds."""
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.01)
