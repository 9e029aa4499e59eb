"""One line an exchange, as tcpdump would print it: who, to or from whom, what, how it went, how long it took.

    14:03:21.123 shop         → 10.0.0.5:6379         redis GET cart:7                 OK   1.23ms 35B/120B alone

Only the rows that are asked for are touched. What the line says of a kind of exchange is worked out once per shape.
Columns that the terminal has no room for are left out, the least important first; texts from outside pass `clean`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.control.tables import Tables, known, side_of
from otel_ebpf.control.text import clean, duration, fit, size, width
from otel_ebpf.model import Endpoint, Flag, Kind, Link, Spans
from otel_ebpf.protocols.base import Fields

Line: TypeAlias = "tuple[tuple[str, str], ...]"
"""Parts of a line: clean text and the name of its colour ("" = as is)."""

WIDE = 160
"""Columns where there is no terminal."""
UNKNOWN = "unknown"
"""Name of the protocol of exchanges that nobody could read."""

_LEAST = 60
"""Columns from which on all parts of a line have room."""
_MAX_TEXT = 1024
_REMEMBERED = 8192
_SLOW, _VERY_SLOW = 100_000_000, 1_000_000_000
_SGR = {"": "", "dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_LINKS: dict[int, str] = {
    **{link: link.label[:5] for link in Link},
    Link.NONE: "",
    Link.TRACEPARENT: "w3c",
    Link.B3: "b3",
    Link.JAEGER: "uber",
    Link.SKYWALKING: "sw8",
    Link.DATADOG: "dd",
    Link.XRAY: "xray",
    Link.TCP_OPTION: "tcp",
    Link.CONNECTION: "conn",
    Link.THREAD_RESPONSE: "resp",
    Link.THREAD_ALONE: "alone",
    Link.UNIT: "unit",
    Link.ALLOCATION: "alloc",
    Link.ASYNC_ID: "async",
    Link.REQUEST_ID: "rid",
    Link.TURN: "turn",
    Link.ORDER: "order",
    Link.STATISTICS: "stat",
}
"""`Link` in at most five columns."""
_TARGETS = ("url.path", "url.full")
_NAMES = ("service.peer.name", "server.address", "network.peer.address")
"""What a client's peer is called, best first."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns of the terminal for each column of the line; 0 = left out. what: all that remains."""

    time: int
    service: int
    peer: int
    protocol: int
    what: int
    status: int
    duration: int
    bytes: int
    link: int

    @staticmethod
    @lru_cache(16)
    def of(columns: int) -> Layout:
        """For a terminal of this width."""
        if columns >= 120:
            widths = (12, 14, 21, 10, 8, 6, 11, 5 if columns >= 140 else 0)
        elif columns >= 80:
            widths = (12, 10, 15, 5, 5, 6, 0, 0)
        else:
            widths = (0, 8, 0, 5, 5, 6, 0, 0)
        used = sum(w + 1 for w in widths if w) + 2  # the arrow and its space
        time, service, peer, protocol, status, took, bytes_, link = widths
        return Layout(time, service, peer, protocol, max(columns - used, 1), status, took, bytes_, link)


@dataclass(frozen=True, slots=True)
class Say:
    """What lines say of one side of one shape. slots: indexes of the texts that make up the detail."""

    protocol: str
    name: str
    method: str
    slots: tuple[int, ...]
    joint: str
    http: bool
    status: str
    error: bool
    address: str


def say(fields: Fields | None, kind: int) -> Say:
    """The constant part of all lines of a shape."""
    if fields is None:
        return Say(UNKNOWN, "", "", (), "", False, "", False, "")
    side = side_of(fields, kind)
    by_name = {slot.attribute: slot.index for slot in side.slots}
    target = next((name for name in _TARGETS if name in by_name), "")
    if target:
        slots = tuple(by_name[name] for name in (target, "url.query") if name in by_name)
    else:
        slots = tuple(slot.index for slot in side.slots[:1])
    address = next((str(v) for k, v in side.attributes if k == "server.address"), "")
    return Say(
        protocol=clean(fields.protocol),
        name=clean(side.name),
        method=clean(side.name).partition(" ")[0],
        slots=slots,
        joint="?" if target else " ",
        http=bool(target),
        status=clean(fields.status),
        error=side.error,
        address=address if kind == Kind.CLIENT else "",
    )


def peer_name(endpoint: Endpoint | None, kind: int, addressed: str) -> str:
    """The other end without its port: a client calls its server by name where one is known."""
    if addressed:
        return addressed
    if endpoint is None:
        return "-"
    attributes = dict(endpoint.always)
    if kind == Kind.CLIENT:
        attributes |= dict(endpoint.unless_addressed)
        found = next((attributes[name] for name in _NAMES if attributes.get(name)), "")
    else:
        found = attributes.get("network.peer.address", "")
    return str(found) or str(attributes.get("network.transport", "-"))


def with_port(address: str, port: int) -> str:
    """As in a URL: an IPv6 address gets brackets.

    >>> with_port("::1", 80), with_port("db", 0)
    ('[::1]:80', 'db')
    """
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def slot_text(spans: Spans, row: int, index: int, limit: int = _MAX_TEXT) -> str:
    """The first `limit` bytes of one text of a row."""
    start, length = int(spans.slot_start[row, index]), int(spans.slot_length[row, index])
    return spans.text[start : start + min(length, limit)].tobytes().decode("utf-8", "replace")


def outcome(said: Say, flags: int) -> str:
    """The status; without one, why there is none."""
    if said.status:
        return said.status
    if flags & Flag.UNANSWERED:
        return "reset" if flags & Flag.RESET else "none"
    return "error" if said.error else "ok"


class Lines:
    """Formats rows for a terminal of so many columns; `columns` may be changed at any time."""

    def __init__(self, columns: int = WIDE, *, unicode: bool = True) -> None:
        self.columns = columns
        self._arrows = {Kind.CLIENT: "→", Kind.SERVER: "←"} if unicode else {Kind.CLIENT: ">", Kind.SERVER: "<"}
        self._ellipsis = "…" if unicode else "~"
        self._unicode = unicode
        self._said: dict[tuple[int, int], Say] = {}
        self._peers: dict[tuple[int, int, str], str] = {}

    def format(self, spans: Spans, tables: Tables, rows: NDArray[np.intp]) -> Iterator[Line]:
        """A line for each of the rows, in their order."""
        layout = Layout.of(self.columns)
        picked = zip(
            rows.tolist(),
            spans.start[rows].tolist(),
            spans.end[rows].tolist(),
            spans.kind[rows].tolist(),
            spans.flags[rows].tolist(),
            spans.shape[rows].tolist(),
            spans.resource[rows].tolist(),
            spans.endpoint[rows].tolist(),
            spans.peer_port[rows].tolist(),
            spans.req_bytes[rows].tolist(),
            spans.rsp_bytes[rows].tolist(),
            spans.link[rows].tolist(),
            strict=True,
        )
        for row, start, end, kind, flags, shape, resource, endpoint, port, sent, received, link in picked:
            said = self.said(tables, shape, kind)
            who = known(tables.resources, resource)
            status, took = outcome(said, flags), max(end - start, 0)
            parts = (
                (layout.time, clock(start + tables.offset_ns), "dim"),
                (layout.service, clean(who.service) if who else "-", "cyan"),
                (1, self._arrows.get(Kind.SERVER if kind != Kind.CLIENT else Kind.CLIENT, "-"), ""),
                (layout.peer, with_port(self._peer(tables, endpoint, kind, said.address), port), ""),
                (layout.protocol, said.protocol, "blue"),
                (layout.what, self._what(spans, row, said), "bold"),
                (layout.status, status, status_colour(said, status)),
                (layout.duration, duration(took), latency_colour(took)),
                (layout.bytes, f"{size(sent)}/{size(received)}", "dim"),
                (layout.link, _LINKS.get(link, ""), "dim"),
            )
            line = tuple((self._fit(text, columns), colour) for columns, text, colour in parts if columns)
            yield line if self.columns >= _LEAST else clip(line, self.columns)

    def said(self, tables: Tables, shape: int, kind: int) -> Say:
        """`say`, remembered."""
        found = self._said.get((shape, kind))
        if found is None:
            if len(self._said) >= _REMEMBERED:
                self._said.clear()
            found = self._said[shape, kind] = say(known(tables.shapes, shape), kind)
        return found

    def _peer(self, tables: Tables, endpoint: int, kind: int, addressed: str) -> str:
        key = (endpoint, kind, addressed)
        found = self._peers.get(key)
        if found is None:
            if len(self._peers) >= _REMEMBERED:
                self._peers.clear()
            found = self._peers[key] = clean(peer_name(known(tables.endpoints, endpoint), kind, addressed), 256)
        return found

    def _what(self, spans: Spans, row: int, said: Say) -> str:
        texts = [text for index in said.slots if (text := slot_text(spans, row, index))]
        detail = clean(" ".join(said.joint.join(texts).split()))
        if not detail:
            return said.name
        if said.http:
            return f"{said.method} {detail}"
        if detail.casefold().startswith(said.method.casefold()):
            return detail
        return said.name if detail in said.name else f"{said.name} {detail}"

    def _fit(self, text: str, columns: int) -> str:
        if not self._unicode and not text.isascii():
            text = text.encode("ascii", "backslashreplace").decode()
        if len(text) == columns and text.isascii():
            return text
        return fit(text, columns, self._ellipsis)


@lru_cache(4)
def _second(unix: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(unix))


def clock(unix_ns: int) -> str:
    """Local time of day with milliseconds."""
    return f"{_second(unix_ns // 10**9)}.{unix_ns // 10**6 % 1000:03d}"


def status_colour(said: Say, status: str) -> str:
    """Red for errors, yellow for what the client did wrong, green else."""
    if said.error or status in ("none", "reset"):
        return "red"
    return "yellow" if said.http and status.startswith("4") else "green"


def latency_colour(ns: int) -> str:
    """Yellow from 100 ms, red from 1 s."""
    if ns < _SLOW:
        return ""
    return "yellow" if ns < _VERY_SLOW else "red"


def plain(line: Line) -> str:
    """Without colours."""
    return " ".join(text for text, _ in line).rstrip()


def ansi(line: Line) -> str:
    """With the escape sequences of ECMA-48 §8.3.117 (SGR); the only ones in the line, since all texts are clean."""
    return " ".join(f"\x1b[{_SGR[colour]}m{text}\x1b[0m" if colour else text for text, colour in line)


def line_width(line: Line) -> int:
    """Columns of the whole line."""
    return sum(width(text) for text, _ in line) + len(line) - 1


def clip(line: Line, columns: int) -> Line:
    """The line, not longer than the terminal is wide."""
    if line_width(line) <= columns:
        return line
    out: list[tuple[str, str]] = []
    for text, colour in line:
        room = columns - sum(width(t) + 1 for t, _ in out)
        if room <= 0:
            break
        out.append((text if width(text) <= room else fit(text, room), colour))
    return tuple(out)
