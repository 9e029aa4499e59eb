"""Requests that are not answered yet when their record is sent: kept per connection, answered by a later record.

A client that writes its next request before the last answer came makes records like (A B | a), (C | b c). Where the
protocol answers in order and the module can find the ends of messages (`extras.Framed`), the first record gives the
exchange A, the second B and C, each with the time at which its request was seen. If the bytes do not tell how many
answers there are, all that is open counts as answered by this record: from there on the order is right again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from otel_ebpf.protocols.extras import Framed

CONNECTIONS = 1024
WAITING = 256
WAITING_BYTES = 16384
"""What one connection may have waiting; beyond, the oldest are given up and counted."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its bytes, and when its first byte came (of the record that brought it)."""

    request: bytes
    start: int
    carried: bool = False


@dataclass(frozen=True, slots=True)
class Pairing:
    """What one record settles. answers: ends of the responses, as many as `answered`, or () if they cannot be told."""

    answered: Sequence[Asked]
    answers: Sequence[int]
    unanswered: Sequence[Asked] = ()
    left: int = 0
    """Requests that wait for a later record."""


@dataclass(slots=True)
class _Open:
    waiting: list[Asked] = field(default_factory=list)
    partial: int = 0
    """span_id of a PARTIAL record …"""
    before: list[Asked] = field(default_factory=list)
    """… and what was waiting before it, should an amendment take its place"""


class Pipelines:
    """The open requests of all connections, by the kernel's connection id.

    resynchronised: records after which certainty was regained by assumption. lost: requests that were given up.
    """

    def __init__(self) -> None:
        self.resynchronised = 0
        self.lost = 0
        self._open: OrderedDict[int, _Open] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, conn: int) -> bool:
        return conn in self._open

    def connections(self) -> list[int]:
        """Ids of the connections that have something open."""
        return list(self._open)

    def pair(
        self,
        module: Framed,
        conn: int,
        span: int,
        request: bytes,
        response: bytes,
        rsp_bytes: int,
        start: int,
        *,
        answered: bool,
        last: bool,
        partial: bool,
        amends: bool,
    ) -> Pairing:
        """Settle one record. answered: there was a response; last: nothing follows on this connection."""
        known = self._open.pop(conn, None) or _Open()
        if amends and known.partial == span:
            known.waiting = known.before
        before = known.waiting
        ends = list(module.split(request))
        asked = [*before, *_pieces(request, ends, start)]
        answers = list(module.replies(response))
        certain = bool(answers) and answers[-1] == rsp_bytes
        if not answered:
            pairing = Pairing(asked[:0], (), asked)
            left: list[Asked] = []
        elif certain and len(answers) < len(asked):
            count = len(answers)
            # More requests than were kept may be on their way: they cannot be told, and are not waited for.
            left = asked[count:]
            pairing = Pairing(asked[:count], answers, (), len(left))
            if last:
                pairing, left = Pairing(asked[:count], answers, left), []
        else:
            if (before or len(asked) > 1) and not (certain and len(answers) == len(asked)):
                self.resynchronised += 1
            pairing, left = Pairing(asked, answers if len(answers) == len(asked) else ()), []
        self._keep(conn, _Open(self._bounded(left), span if partial else 0, before if partial else []), last)
        return pairing

    def _keep(self, conn: int, state: _Open, last: bool) -> None:
        if last or not (state.waiting or (state.partial and state.before)):
            return
        if len(self._open) >= CONNECTIONS:
            _, oldest = self._open.popitem(last=False)
            self.lost += len(oldest.waiting)
        self._open[conn] = state

    def _bounded(self, left: Sequence[Asked]) -> list[Asked]:
        kept: list[Asked] = []
        size = 0
        for one in reversed(left):
            size += len(one.request)
            if len(kept) >= WAITING or size > WAITING_BYTES:
                break
            kept.append(Asked(one.request, one.start, True))
        self.lost += len(left) - len(kept)
        return kept[::-1]


def _pieces(request: bytes, ends: Sequence[int], start: int) -> list[Asked]:
    """The requests of one record; what follows the last whole one is a request of its own, cut."""
    pieces, at = [], 0
    for end in ends:
        pieces.append(Asked(request[at:end], start))
        at = end
    if at < len(request):
        pieces.append(Asked(request[at:], start))
    return pieces
