"""Which requests are among the slowest of their route: by the last so many durations of that route, exactly.

A route is the service and the span name of the request that came to this host (or, if none came, of the call that began
the trace). Each has a row of the last WINDOW durations; a request is slow if it took longer than all but the slowest
N % of these. Until N % of what is known of a route is at least one request (1 %: a hundred of them), none is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.combinations import Combinations
from otel_ebpf.model import Intern, Resource, Spans
from otel_ebpf.protocols.base import Fields

WINDOW = 1024
ROUTES = 1024
IDLE_NS = 600 * 10**9
_EACH = 16
"""A route's limit is found anew when one in so many of its durations is new."""
_REMEMBERED = 1 << 16
_NOWHERE = -1


class Slowest:
    """percent: how many of each route are slow, 0 … 50. At most `limit` routes are known; of those that nothing came of
    for a while, new ones take the place.

    >>> slowest = Slowest(1.0, shapes, resources)
    >>> slowest.judge(spans, found, rows, now)
    array([False])
    """

    def __init__(
        self, percent: float, shapes: Intern[Fields], resources: Intern[Resource], limit: int = ROUTES
    ) -> None:
        self.unjudged = 0
        """Requests of routes for which there was no place."""
        self._percent, self._limit = percent, limit
        self._shapes, self._resources = shapes, resources
        self._rows: dict[tuple[str, str], int] = {}
        self._remembered: dict[tuple[int, int], int] = {}
        self._window = np.zeros((0, WINDOW), np.float32)
        self._count = np.zeros(0, np.int64)
        self._new = np.zeros(0, np.int64)
        self._used = np.zeros(0, np.int64)
        self._above = np.zeros(0, np.float32)
        """(routes,) ns; what takes longer is slow"""

    def __len__(self) -> int:
        return len(self._rows)

    def judge(self, spans: Spans, found: Combinations, rows: NDArray[np.intp], now: int) -> NDArray[np.bool_]:
        """(len(rows),) whether these requests are slow, by what came before; then they count themselves.

        found: the batch's combinations. now: monotonic ns.
        """
        slow = np.zeros(len(rows), np.bool_)
        if not self._percent or not len(rows):
            return slow
        of = found.of[rows]
        route = self._routes(found, of, now)[of]
        known = (route != _NOWHERE).nonzero()[0]
        self.unjudged += len(rows) - len(known)
        route, rows = route[known], rows[known]
        duration = (np.maximum(spans.end[rows], spans.start[rows]) - spans.start[rows]).astype(np.float32)
        slow[known] = duration > self._above[route]
        self._add(route, duration)
        return slow

    def _routes(self, found: Combinations, of: NDArray[np.intp], now: int) -> NDArray[np.intp]:
        """(k,) the row of each combination's route; of: those that are asked for."""
        routes = np.full(len(found), _NOWHERE, np.intp)
        if len(self._remembered) > _REMEMBERED:
            self._remembered.clear()
        for i in np.bincount(of, minlength=len(found)).nonzero()[0].tolist():
            combination = found.side[i], found.resource[i]
            row = self._remembered.get(combination, _NOWHERE)
            if row == _NOWHERE:
                row = self._row(*combination, now)
                if row != _NOWHERE:
                    self._remembered[combination] = row
            routes[i] = row
            if row != _NOWHERE:
                self._used[row] = now
        return routes

    def _row(self, side: int, resource: int, now: int) -> int:
        try:
            shape = self._shapes[side >> 1]
        except KeyError:  # forgotten meanwhile
            return _NOWHERE
        try:
            service = self._resources[resource].service
        except KeyError:
            service = ""
        route = service, (shape.client if side & 1 else shape.server).name
        row = self._rows.get(route, _NOWHERE)
        if row != _NOWHERE:
            return row
        row = len(self._rows) if len(self._rows) < self._limit else self._idle(now)
        if row != _NOWHERE:
            self._rows[route] = row
            self._begin(row)
        return row

    def _idle(self, now: int) -> int:
        """A row whose route is forgotten for it."""
        row = int(np.argmin(self._used[: len(self._rows)]))
        if self._used[row] + IDLE_NS > now:
            return _NOWHERE
        self._rows = {route: other for route, other in self._rows.items() if other != row}
        self._remembered.clear()
        return row

    def _begin(self, row: int) -> None:
        if row >= len(self._count):
            more = max(64, len(self._count))
            for name in ("_window", "_count", "_new", "_used", "_above"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros((more, *column.shape[1:]), column.dtype)]))
        self._window[row] = -1.0
        self._count[row] = self._new[row] = 0
        self._above[row] = np.inf

    def _add(self, route: NDArray[np.intp], duration: NDArray[np.float32]) -> None:
        """Write the durations into their routes' windows, over the oldest, and find limits anew."""
        order = np.argsort(route, kind="stable")
        route, duration = route[order], duration[order]
        counts = np.bincount(route, minlength=len(self._count))
        touched = counts.nonzero()[0]
        first = np.cumsum(counts) - counts
        place = self._count[route] + np.arange(len(route)) - first[route]
        self._window[route, place % WINDOW] = duration
        self._count += counts
        self._new += counts
        filled = np.minimum(self._count[touched], WINDOW)
        slow = np.floor(filled * self._percent / 100 + 1e-9).astype(np.intp)
        anew = (slow > 0) & (self._new[touched] * _EACH >= filled)
        rows, slow = touched[anew], slow[anew]
        if len(rows):
            ordered = np.sort(self._window[rows], axis=1)
            self._above[rows] = ordered[np.arange(len(rows)), WINDOW - 1 - slow]
            self._new[rows] = 0
