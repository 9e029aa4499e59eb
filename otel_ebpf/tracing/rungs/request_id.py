"""Rung 1b: the id in the message. A call with the `X-Request-Id` of a request of its process was made for that request.

Proxies (Envoy, nginx, HAProxy, Apache, Caddy) pass it on as it came, and so do many services. It is exact if no other
request of the process can have had it: so the rung speaks once all requests that began before the call are known, if
one of them bore this id, and that one was open when the call was sent. Two with the same id (a fan-out, a retry, a
forger) are as good as none; so is any open request whose id is not known: one of a protocol that is not read, or whose
head was not kept to its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Link
from otel_ebpf.tracing.ids import splitmix64
from otel_ebpf.tracing.places import Places
from otel_ebpf.tracing.processes import SERVES
from otel_ebpf.tracing.request_ids import NO_ID, UNKNOWN
from otel_ebpf.tracing.rungs.base import Calls, Proposal, Requests, Rung, find

_BORNE = 1 << 15
_LINGERS_NS = np.uint64(60 * 10**9)
"""For so long a process may go on with a request that it did not answer."""


@dataclass(slots=True)
class _Borne:
    """Requests that bore an id, ascending by `key`, which stands for process and id."""

    key: NDArray[np.uint64]
    span_id: NDArray[np.uint64]
    start: NDArray[np.uint64]
    end: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.key)


class RequestId(Rung):
    """Exact. Keeps the last 32,768 requests with an id, and until when each process had one whose id is not known."""

    link = Link.REQUEST_ID

    def __init__(self, places: Places | None = None) -> None:
        empty = np.zeros(0, np.uint64)
        self._borne = _Borne(empty, empty, empty, empty)
        self._places = Places() if places is None else places
        self._unknown_until = self._places.column(np.uint64)
        self._found = empty

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        self._places.forget(tgid)

    def wants(self, calls: Calls, requests: Requests) -> NDArray[np.uint64]:
        self._learn(requests)
        self._found = np.zeros(len(calls), np.uint64)
        asked = (_bears(calls) & ~calls.waiting & ~calls.half_seen & calls.single).nonzero()[0]
        if len(asked) and len(self._borne):
            self._found[asked] = self._search(calls, asked)
        return self._found

    def propose(self, calls: Calls, requests: Requests) -> Proposal:
        said = Proposal.silent(len(calls))
        said.open = _bears(calls) & calls.waiting
        found = self._found != 0
        said.request[found] = find(requests.span_id, self._found[found])
        return said

    def _learn(self, requests: Requests) -> None:
        unknown = (requests.fresh & ((requests.request_id == UNKNOWN) | ~requests.single)).nonzero()[0]
        if len(unknown):
            np.maximum.at(self._unknown_until, self._places.take(requests.tgid[unknown]), _end(requests, unknown))
        bearing = (requests.fresh & (requests.request_id > UNKNOWN) & requests.single).nonzero()[0]
        if not len(bearing):
            return
        key = _key(requests.tgid[bearing], requests.request_id[bearing])
        new = _Borne(key, requests.span_id[bearing], requests.start[bearing], _end(requests, bearing))
        old = self._borne
        columns = {name: np.concatenate([getattr(old, name), getattr(new, name)]) for name in _Borne.__slots__}
        if len(columns["key"]) > _BORNE:
            latest = np.sort(np.argpartition(columns["start"], -_BORNE // 2)[-_BORNE // 2 :])
            columns = {name: column[latest] for name, column in columns.items()}
        order = np.argsort(columns["key"], kind="stable")  # two runs in order: merged, not sorted
        self._borne = _Borne(**{name: column[order] for name, column in columns.items()})

    def _search(self, calls: Calls, asked: NDArray[np.intp]) -> NDArray[np.uint64]:
        """(k,) span id of the one request with the id of each call, NO_ID: none, or several."""
        borne, start = self._borne, calls.start[asked]
        key = _key(calls.tgid[asked], calls.request_id[asked])
        left, right = np.searchsorted(borne.key, key), np.searchsorted(borne.key, key, "right")
        at = np.minimum(left, len(borne) - 1)
        fits = (right - left == 1) & (borne.start[at] <= start) & (start <= borne.end[at])
        fits &= self._unknown_until[self._places.of(calls.tgid[asked])] < start
        return np.where(fits, borne.span_id[at], NO_ID)


def _bears(calls: Calls) -> NDArray[np.bool_]:
    """(n,) calls with an id, of processes that receive requests."""
    bears: NDArray[np.bool_] = (calls.request_id > UNKNOWN) & calls.of_process(SERVES)
    return bears


def _end(requests: Requests, rows: NDArray[np.intp]) -> NDArray[np.uint64]:
    """(k,) until when the process may have worked on them."""
    unanswered = requests.first_byte[rows] == 0
    return np.where(unanswered, requests.end[rows] + _LINGERS_NS, requests.end[rows])


def _key(tgid: NDArray[np.uint32], request_id: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return splitmix64(request_id ^ splitmix64(tgid.astype(np.uint64)))
