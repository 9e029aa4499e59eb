"""Which protocol a connection speaks: told by the bytes of both directions, once, and kept with the connection.

A verdict of at least SURE holds at once; so does one of at least LIKELY if no other module finds the bytes likely. What
is left needs a second exchange that says the same. After ATTEMPTS exchanges that say nothing the connection is UNKNOWN.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.connections import UNDECIDED, UNKNOWN, Connections
from otel_ebpf.model import Exchanges
from otel_ebpf.protocols.base import Protocol
from otel_ebpf.protocols.extras import Reader
from otel_ebpf.protocols.memo import hash_matrix

SURE = 0.9
LIKELY = 0.5
ATTEMPTS = 8
_SUSPECTS = 8192
_VERDICTS = 8192


class Detector:
    """Decides `Connections.protocol`. State per undecided connection is bounded; what repeats is asked once."""

    def __init__(self, modules: Sequence[Protocol], readers: dict[int, Reader]) -> None:
        self._modules = modules
        self._readers = readers
        self._suspects: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self._verdicts: dict[int, tuple[int, bool]] = {}

    def decide(
        self, connections: Connections, exchanges: Exchanges, row: NDArray[np.int32], open_: NDArray[np.intp]
    ) -> None:
        """Look at the exchanges `open_`, whose connections are undecided."""
        request, response = exchanges.request[open_], exchanges.response[open_]
        for index, reader in self._readers.items():
            connections.protocol[row[open_[reader.detect(request, response)]]] = index
        left = (connections.protocol[row[open_]] == UNDECIDED).nonzero()[0]
        if not len(left):
            return
        head = exchanges.head[open_[left]]
        sizes = list(zip(head["req_cap"].tolist(), head["rsp_cap"].tolist(), head["conn"].tolist(), strict=True))
        keys = (hash_matrix(request[left]) * np.uint64(3) + hash_matrix(response[left])).tolist()
        for i in np.argsort(head["n"], kind="stable").tolist():
            where = int(row[open_[left[i]]])
            req_cap, rsp_cap, conn = sizes[i]
            if connections.protocol[where] != UNDECIDED or not (req_cap or rsp_cap):
                continue
            verdict = self._verdicts.get(keys[i])
            if verdict is None:
                at = left[i]
                verdict = self._judge(request[at, :req_cap].tobytes(), response[at, :rsp_cap].tobytes())
                if len(self._verdicts) >= _VERDICTS:
                    self._verdicts.clear()
                self._verdicts[keys[i]] = verdict
            connections.protocol[where] = self._weigh(conn, *verdict)

    def _judge(self, request: bytes, response: bytes) -> tuple[int, bool]:
        """The best module, UNDECIDED if none; and whether there is no doubt."""
        scores = [module.detect(request, response) for module in self._modules]
        if not scores or max(scores) < LIKELY:
            return UNDECIDED, False
        best = max(range(len(scores)), key=scores.__getitem__)
        alone = sum(score >= LIKELY for score in scores) == 1
        return best, scores[best] >= SURE or alone

    def _weigh(self, conn: int, best: int, sure: bool) -> int:
        """What the connection is, now that one more of its exchanges was judged."""
        suspect, misses = self._suspects.pop(conn, (UNDECIDED, 0))
        if best != UNDECIDED and (sure or best == suspect):
            return best
        misses += best == UNDECIDED
        if misses >= ATTEMPTS:
            return UNKNOWN
        if len(self._suspects) >= _SUSPECTS:
            self._suspects.popitem(last=False)
        self._suspects[conn] = (best if best != UNDECIDED else suspect, misses)
        return UNDECIDED
