"""Which calls are taken out of their requests together, to be put back where they fit best.

A batch takes at most one run out of each request, so that putting all of them back is an assignment problem: single
calls of one kind (the first of that kind in each request, the second, …), and runs of neighbouring calls, by position.
Calls that are under way at the same time stay together in a run (a group): a fan-out moves as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from otel_ebpf.tracing.statistics.chains import Runs
from otel_ebpf.tracing.statistics.observed import NONE, Bools, Ints, Observed, spread

_ORDINALS = 8


@dataclass(frozen=True, slots=True)
class Cut:
    """The groups at `position`, `length` of them, 0: all that follow; backwards: all but the last `position`."""

    position: int
    length: int
    backwards: bool = False


CUTS = (
    *(Cut(position, 1) for position in range(4)),
    *(Cut(position, 2) for position in range(4)),
    *(Cut(position, 3) for position in range(3)),
    *(Cut(position, 0) for position in range(5)),
    *(Cut(position, 0, True) for position in range(4)),
)


def singles(seen: Observed, parent: Ints, free: Bools, kinds: list[int]) -> Iterator[tuple[int, int]]:
    """(kind, ordinal) of the batches of single calls that there are; `batch` finds their calls."""
    ordinal = ordinals(seen, parent)
    for kind in kinds:
        of_kind = (seen.call_kind == kind) & free
        if of_kind.any():
            yield from ((kind, i) for i in range(min(int(ordinal[of_kind].max()), _ORDINALS - 1) + 1))


def batch(seen: Observed, parent: Ints, free: Bools, kind: int, ordinal: int) -> Ints:
    """Calls of the kind that are the ordinal-th in their request, and those that are in none."""
    of_kind = (seen.call_kind == kind) & free
    chosen: Ints = (of_kind & ((parent == NONE) | (ordinals(seen, parent) == ordinal))).nonzero()[0]
    return chosen


def ordinals(seen: Observed, parent: Ints) -> Ints:
    """(n,) how many calls of the same kind the request of each call made before it."""
    placed = (parent != NONE).nonzero()[0]
    order = placed[np.lexsort((seen.call_start[placed], seen.call_kind[placed], parent[placed]))]
    same = (parent[order[1:]] == parent[order[:-1]]) & (seen.call_kind[order[1:]] == seen.call_kind[order[:-1]])
    ordinal = np.zeros(len(parent), np.int64)
    ordinal[order] = _since_first(same)
    return ordinal


@dataclass(slots=True)
class Groups:
    """Placed calls by request and group. order: (k,) calls. begin, stop: (g,) which of them are in a group.

    last: (g,) the call of the group that ends last. first: (r,) the first group of each request that has any.
    """

    order: Ints
    begin: Ints
    stop: Ints
    last: Ints
    first: Ints


def groups(seen: Observed, parent: Ints) -> Groups:
    """The groups that there are; those of a request follow each other as they began."""
    placed = (parent != NONE).nonzero()[0]
    order = placed[np.lexsort((seen.call_start[placed], parent[placed]))]
    if not len(order):
        return Groups(*(np.zeros(0, np.int64) for _ in range(5)))
    new_request = np.append(True, parent[order[1:]] != parent[order[:-1]])
    place = np.cumsum(new_request) - 1
    latest = np.maximum.accumulate(place * seen.ranks + seen.call_ended[order]) - place * seen.ranks
    new_group = new_request | np.append(True, seen.call_began[order[1:]] >= latest[:-1])
    begin = new_group.nonzero()[0]
    stop = np.append(begin[1:], len(order))
    last = order[np.lexsort((seen.call_end[order], np.cumsum(new_group) - 1))[stop - 1]]
    return Groups(order, begin, stop, last, new_request[begin].nonzero()[0])


def runs(of: Groups, free: Bools, cut: Cut) -> tuple[Runs, Ints, Ints]:
    """The runs of a cut, and their members: (k,) index of a run, (k,) call. Runs with a call that is not free: none."""
    count = np.diff(np.append(of.first, len(of.begin)))
    start = np.full(len(of.first), cut.position)
    stop = start + cut.length - 1 if cut.length else count - 1
    if cut.backwards:
        start, stop = np.zeros(len(of.first), np.int64), count - 1 - cut.position
    there = (stop >= start) & (stop < count)
    begin, end = (of.first + start)[there], (of.first + stop)[there]
    run, at = spread(of.stop[end] - of.begin[begin])
    member = of.order[of.begin[begin][run] + at]
    movable = np.bincount(run, ~free[member], minlength=len(begin)) == 0
    number = np.cumsum(movable) - 1
    keep = movable[run]
    found = Runs(of.order[of.begin[begin]][movable], of.last[end][movable])
    return found, number[run[keep]], member[keep]


def _since_first(same: Bools) -> Ints:
    """(n,) how many in a row were the same until here; same: (n - 1,) as the one before."""
    i = np.arange(len(same) + 1)
    since: Ints = i - np.maximum.accumulate(np.where(np.append(False, same), 0, i))
    return since
