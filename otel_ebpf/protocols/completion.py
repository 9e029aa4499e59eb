"""How long to wait for the rest of a response that the kernel sent while its connection was idle (Flag.PARTIAL).

What the protocol knows to be whole need not wait; what is known to go on (Content-Length not reached) waits long; where
nobody can tell (chunked, longer than what was kept) a short pause decides. An amendment carries no payload, so the
first record of an unfinished response is kept, and asked again with the new number of bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Exchanges, Flag, Spans
from otel_ebpf.protocols.engine import Engine

GOES_ON_NS = 5 * 10**9
CANNOT_TELL_NS = 600 * 10**6
LIMIT = 4096
_PARTIAL = np.uint32(Flag.PARTIAL)
_WAIT = np.array([GOES_ON_NS, 0, CANNOT_TELL_NS], np.uint64)
"""By what `Engine.complete` says: 0, 1, -1."""


class Completion:
    """Remembers unfinished responses, at most LIMIT; the oldest is forgotten, and then only a short pause decides."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unfinished: OrderedDict[int, Exchanges] = OrderedDict()

    def waits(self, batches: Sequence[Exchanges], spans: Spans) -> NDArray[np.uint64]:
        """(len(spans),) ns after its end for which an amendment of the row is to be awaited."""
        waits = np.zeros(len(spans), np.uint64)
        partial = np.flatnonzero(spans.flags & _PARTIAL)
        if not len(partial):
            return waits
        known: dict[int, int] = {}
        # A record and its amendment may come in one drain: the amendment, which has no payload, speaks last.
        for batch in sorted(batches, key=lambda batch: batch.request.shape[1] == 0):
            rows = np.flatnonzero(batch.head["flags"] & _PARTIAL)
            if len(rows):
                known |= self._ask(batch, rows)
        if known:
            waits[partial] = [known.get(number, 0) for number in spans.span_id[partial].tolist()]
        return waits

    def _ask(self, batch: Exchanges, rows: NDArray[np.intp]) -> dict[int, int]:
        """span id → wait of what is not whole, among rows of one size class."""
        if not batch.request.shape[1]:
            if not self._unfinished:
                return {}
            numbers = batch.head["span_id"][rows].tolist()
            return {
                n: self._amended(batch.head[i])
                for i, n in zip(rows.tolist(), numbers, strict=True)
                if n in self._unfinished
            }
        asked = _rows(batch, rows) if len(rows) < len(batch) else batch
        waits = _WAIT[self._engine.complete(asked)]
        found = {}
        for i in np.flatnonzero(waits).tolist():
            number = int(asked.head["span_id"][i])
            found[number] = int(waits[i])
            self._remember(number, _rows(asked, np.array([i])))
        return found

    def _amended(self, head: np.void) -> int:
        """Wait of an amendment of what is remembered."""
        number = int(head["span_id"])
        first = self._unfinished.pop(number)
        first.head["rsp_bytes"] = head["rsp_bytes"]
        wait = int(_WAIT[int(self._engine.complete(first)[0])])
        if wait:
            self._remember(number, first)
        return wait

    def _remember(self, number: int, exchange: Exchanges) -> None:
        self._unfinished[number] = exchange
        if len(self._unfinished) > LIMIT:
            self._unfinished.popitem(last=False)


def _rows(batch: Exchanges, rows: NDArray[np.intp]) -> Exchanges:
    return Exchanges(batch.head[rows].copy(), batch.request[rows], batch.response[rows])
