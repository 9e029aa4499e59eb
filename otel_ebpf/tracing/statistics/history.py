"""The last requests and calls of one process, as the last rung learns from them and assigns among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.tracing.statistics.assign import assign
from otel_ebpf.tracing.statistics.calibration import Calibration
from otel_ebpf.tracing.statistics.delays import Delays
from otel_ebpf.tracing.statistics.observed import NONE, Columns, Ints, Observed

Ids = NDArray[np.uint64]

_REQUESTS, _CALLS = 1_000, 6_000
_REQUEST_KINDS, _CALL_KINDS = 8, 24
_FIXED = 150
_FIXED_SHARE = 0.3
"""So many calls are fixed, and so large a share of them, before anything is said."""
_AROUND = 100 * 10**6
_HIDDEN = 0.1


@dataclass(slots=True)
class _Table:
    """Columns of the same length, the oldest row first; `most` rows are kept."""

    most: int
    columns: dict[str, NDArray[np.uint64]]

    def add(self, **more: NDArray[np.uint64]) -> None:
        for name, column in self.columns.items():
            self.columns[name] = np.concatenate([column, more[name].astype(np.uint64)])[-self.most :]

    def __getitem__(self, name: str) -> NDArray[np.uint64]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["id"])


def _table(most: int, *names: str) -> _Table:
    return _Table(most, {name: np.zeros(0, np.uint64) for name in names})


@dataclass(slots=True)
class Answer:
    """Of calls that were asked about: (n,) span id of the request, 0: none; (n,) what that is worth; (n,) among how
    many it was chosen."""

    request: Ids
    confidence: NDArray[np.float64]
    candidates: Ints


class History:
    """kind: what a request or a call is like (any number). Times in monotonic ns, ids are span ids."""

    def __init__(self) -> None:
        self._requests = _table(_REQUESTS, "id", "start", "end", "kind")
        self._calls = _table(_CALLS, "id", "start", "end", "kind", "request")
        self._calibration = Calibration()
        self._delays: Delays | None = None
        self._told = self._relearn = 0
        self._kinds: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._random = np.random.default_rng(0)

    def ended(self, id: Ids, start: Ids, end: Ids, kind: Ids) -> None:
        """Requests that have ended."""
        self._requests.add(id=id, start=start, end=end, kind=kind)

    def called(self, id: Ids, start: Ids, end: Ids, kind: Ids, request: Ids) -> None:
        """Calls, and the requests that they were certainly made for; 0: that was not found out."""
        self._calls.add(id=id, start=start, end=end, kind=kind, request=request)
        self._told += len(id)

    def candidates(self, start: Ids, end: Ids) -> Ids:
        """Span ids of all requests that contain any of the calls."""
        first, last = self._requests["start"], self._requests["end"]
        if not len(start) or not len(first):
            return np.zeros(0, np.uint64)
        near = ((first <= start.max()) & (last >= end.min())).nonzero()[0]
        fits = (first[near, None] <= start) & (end <= last[near, None])
        found: Ids = self._requests["id"][near[fits.any(1)]]
        return found

    def ask(self, id: Ids) -> Answer:
        """Of calls that were told, whose request was not found out."""
        answer = Answer(np.zeros(len(id), np.uint64), np.zeros(len(id)), np.zeros(len(id), np.int64))
        if not len(self._requests) or not len(self._calls):
            return answer
        columns = self._columns()
        if not self._learn(columns):
            return answer
        order = np.argsort(self._calls["id"])
        at = order[np.minimum(np.searchsorted(self._calls["id"][order], id), len(order) - 1)]
        there = self._calls["id"][at] == id
        requests, calls = self._near(columns, at[there])
        near = columns.part(requests, calls)
        truth = near.known
        hidden = (truth != NONE) & (self._random.random(len(truth)) < _HIDDEN)
        hidden &= np.isin(near.call_kind, columns.call_kind[at[there]])
        near.known = np.where(hidden, NONE, truth)
        found = assign(Observed.of(near), self._delays, keep=True)
        tried = hidden & (found.parent != NONE)
        self._calibration.learn(found.confidence[tried], found.parent[tried] == truth[tried])

        row = np.searchsorted(calls, at)
        there &= calls[np.minimum(row, len(calls) - 1)] == at
        row = row[there]
        placed = found.parent[row] != NONE
        asked = there.nonzero()[0][placed]
        row = row[placed]
        answer.request[asked] = self._requests["id"][requests[found.parent[row]]]
        answer.confidence[asked] = self._calibration.of(found.confidence[row])
        answer.candidates[asked] = found.candidates[row]
        return answer

    @staticmethod
    def _near(columns: Columns, asked: Ints) -> tuple[Ints, Ints]:
        """Requests and calls among which to decide: those of the time around what is asked."""
        begin, end = columns.call_start[asked].min() - _AROUND, columns.call_end[asked].max() + _AROUND
        requests = ((columns.request_end >= begin) & (columns.request_start <= end)).nonzero()[0]
        calls = ((columns.call_end >= begin) & (columns.call_start <= end)).nonzero()[0]
        return requests, calls

    def _columns(self) -> Columns:
        requests, calls = self._requests, self._calls
        order = np.argsort(requests["id"])
        at = np.searchsorted(requests["id"][order], calls["request"])
        place = order[np.minimum(at, max(len(order) - 1, 0))] if len(order) else np.zeros(len(calls), np.int64)
        known = (calls["request"] != 0) & (len(order) > 0)
        if len(order):
            known &= requests["id"][place] == calls["request"]
        request_kind, call_kind = (
            self._numbered(table["kind"], kinds, most)
            for table, kinds, most in zip((requests, calls), self._kinds, (_REQUEST_KINDS, _CALL_KINDS), strict=True)
        )
        start, end = calls["start"].astype(np.int64), calls["end"].astype(np.int64)
        return Columns(
            request_start=requests["start"].astype(np.int64),
            request_end=requests["end"].astype(np.int64),
            request_kind=request_kind,
            request_place=np.zeros(len(requests), np.int64),
            call_start=start,
            call_end=end,
            call_kind=call_kind,
            call_place=np.zeros(len(calls), np.int64),
            work=end - start,
            known=np.where(known, place, NONE),
            request_kinds=_REQUEST_KINDS,
            call_kinds=_CALL_KINDS,
        )

    @staticmethod
    def _numbered(kind: Ids, numbers: dict[int, int], most: int) -> Ints:
        """(n,) the kinds as 0 … most - 1, in the order in which they were first seen; the last one is all others."""
        values, index = np.unique(kind, return_inverse=True)
        for value in values.tolist():
            if value not in numbers and len(numbers) < most - 1:
                numbers[value] = len(numbers)
        of = np.array([numbers.get(value, most - 1) for value in values.tolist()], np.int64)
        numbered: Ints = of[index] if len(of) else np.zeros(len(kind), np.int64)
        return numbered

    def _learn(self, columns: Columns) -> bool:
        """Delays, from what is fixed and what follows from it for the rest; whether enough is fixed."""
        fixed = int((columns.known != NONE).sum())
        if fixed < max(_FIXED, _FIXED_SHARE * len(columns.known)):
            return self._delays is not None
        if self._delays is None or self._told >= self._relearn:
            self._delays = assign(Observed.of(columns)).delays
            self._relearn = self._told + min(self._told, _CALLS)
        return True
