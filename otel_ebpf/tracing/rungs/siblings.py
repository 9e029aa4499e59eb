"""Rung 2c: a virtual thread of a JVM was made together with others that are known to be made for the request.

A request that makes a virtual thread for each of its calls waits for them, in their order as a rule: while a call is
answered the thread of the request is put down as the one that waits for it (`bpf/include/waits_jvm.h`, and the rung of
units says so), but not of one that is answered before its turn has come. That one lies in the heap beside those whose
turn it was, as they were made one after the other (`carriers`). So a call is for a request if

- the thread of the request was seen on its carrier before the object of the calling thread was made there, and nobody
  else was seen there in between;
- of the calling threads that were made in this stretch the next one below and the next one above of which it is known
  who waits for them are made by that thread: there is at least one of them;
- the request waited for the call: it was over before the response was;
- all requests that came before the call have ended: whoever else may have made it is known by then.

Who waits for a thread need not have made it: requests may wait for what another one has begun. If those beside it were
made by somebody else, both conclusions cancel each other.

Somebody who was not seen (it had waited for a lock) may have run in the stretch and have made threads. So the process
has to show that this does not happen: of threads of which it is known who waits for them, the same is concluded from
the others, and compared (`habits`). Once it was wrong, a thousand times must have been right. It is wrong least where
threads lie close to each other: whoever stops leaves something behind, and whoever goes on makes other things first. So
each distance is judged by itself.

Measured with 1,500 requests of a JDK 25 on two carriers: one such stranger, 7 KB above the thread before, of which the
others lay 0.4 KB from each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Link
from otel_ebpf.tracing.carriers import Carriers
from otel_ebpf.tracing.lineage import Lineage
from otel_ebpf.tracing.marks import NOWHERE
from otel_ebpf.tracing.places import Places
from otel_ebpf.tracing.rungs.base import NONE, Calls, Proposal, Requests, Rung, find
from otel_ebpf.tracing.rungs.habits import Habit
from otel_ebpf.tracing.rungs.suspended import Suspended
from otel_ebpf.tracing.rungs.unit import Unit

_CLOSE = (1 << 10, 1 << 12, 1 << 48)
"""Bytes between threads that lie beside each other: less than the first, the second, or whatever."""
_SHOWN, _WAITED = 1, 2
"""In `Carriers.noted`: what is known of that call was compared; it was suspended."""

Ids = NDArray[np.uint64]


class Siblings(Rung):
    """Calibrated: says nothing before the process has shown about a hundred times that the conclusion holds in it."""

    link = Link.ALLOCATION

    def __init__(self, carriers: Carriers, lineage: Lineage, unit: Unit, places: Places | None = None) -> None:
        self._carriers = carriers
        self._lineage = lineage
        self._unit = unit
        self._intrude = tuple(Habit(places) for _ in _CLOSE)
        """by distance: threads of which the others in the stretch tell who made them, and somebody else did"""
        self._suspended = Suspended()
        self._found = np.zeros(0, np.uint64)

    def wants(self, calls: Calls, requests: Requests) -> Ids:
        """(n,) span id of the request of each call, 0: none is known. To be asked before `propose`, after units are."""
        self._found = np.zeros(len(calls), np.uint64)
        self._place = np.full(len(calls), NOWHERE, np.intp)
        self._against = np.zeros(len(calls), np.bool_)
        self._distance = np.full(len(calls), len(_CLOSE), np.intp)
        rows = (calls.unit != 0).nonzero()[0]
        if not len(self._carriers) or not len(rows):
            return self._found
        place = self._carriers.call_of(calls.unit[rows], calls.start[rows], calls.conn[rows])
        rows, place = rows[place != NOWHERE], place[place != NOWHERE]
        if not len(rows):
            return self._found
        maker, moment, self._distance[rows] = self._makers(place)
        parent, born = self._lineage.origin(calls.unit[rows])
        unlike = (parent != 0) & (maker != 0) & (maker != parent)
        # Once the request is over all that it made has been told of.
        alike = (parent != 0) & (maker == parent) & ((self._unit.found[rows] != 0) | ~calls.waiting[rows])
        shown = (unlike | alike) & (self._carriers.noted[place] & _SHOWN == 0)
        self._carriers.noted[place[shown]] |= _SHOWN
        for i, habit in enumerate(self._intrude):
            here = shown & (self._distance[rows] == i)
            habit.chance(calls.tgid[rows[here]])
            habit.taken(calls.tgid[rows[here & unlike]])
        asked = ((born == 0) | unlike) & (maker != 0)
        self._against[rows] = unlike
        self._found[rows[asked]] = self._unit.owner(maker[asked], moment[asked], calls.waiting[rows[asked]])
        self._place[rows] = place
        return self._found

    def forget(self, tgid: NDArray[np.uint32]) -> None:
        for habit in self._intrude:
            habit.forget(tgid)
        self._carriers.forget(tgid)

    def propose(self, calls: Calls, requests: Requests) -> Proposal:
        said = Proposal.silent(len(calls))
        self._suspended.begin(calls.span_id)
        found = (self._found != 0).nonzero()[0]
        # Somebody else who made threads there shows himself by then.
        said.open[found] = calls.waiting[found]
        found = found[~calls.waiting[found]]
        if not len(found):
            return said
        request = find(requests.span_id, self._found[found])
        fits = request != NONE
        fits[fits] = calls.end[found[fits]] <= requests.end[request[fits]]
        found, request = found[fits], request[fits]
        of = self._distance[found], np.arange(len(found))
        sure = np.stack([habit.never(calls.tgid[found]) for habit in self._intrude])[of]
        sure[self._against[found]] = 1  # both cancel each other
        rows = found[sure > 0]
        said.request[rows], said.confidence[rows] = request[sure > 0], sure[sure > 0]
        said.later = np.zeros(len(calls), np.bool_)
        said.later[self._waiting(calls, found[sure == 0], requests.span_id[request[sure == 0]])] = True
        return said

    def _waiting(self, calls: Calls, rows: NDArray[np.intp], request: Ids) -> NDArray[np.intp]:
        """Which of these calls wait for some passes: their process has not shown often enough yet how it works."""
        of = self._distance[rows], np.arange(len(rows))
        young = ~np.stack([habit.seen(calls.tgid[rows]) for habit in self._intrude])[of]
        rows, request = rows[young], request[young]
        noted, place = self._carriers.noted, self._place[rows]
        new = noted[place] & _WAITED == 0
        noted[place] |= _WAITED
        none = np.zeros(int(new.sum()), np.bool_)
        self._suspended.add(calls.span_id[rows[new]], request[new], none, none)
        waits: NDArray[np.intp] = rows[self._suspended.find(calls.span_id[rows]) != NONE]
        return waits

    def _makers(self, places: NDArray[np.intp]) -> tuple[Ids, Ids, NDArray[np.intp]]:
        """(n,) key of the unit that made the one of each mark, as the others tell, 0: they do not; (n,) when it was
        seen before that; (n,) how close the next of them is: index into `_CLOSE`."""
        carriers = self._carriers
        born = ((carriers.object != 0) & (carriers.made_after != NOWHERE)).nonzero()[0]
        first = np.ones(len(born), np.bool_)
        np.not_equal(carriers.unit[born[1:]], carriers.unit[born[:-1]], out=first[1:])
        born = born[first]
        born = born[np.lexsort((carriers.object[born], carriers.made_after[born]))]
        stretch, address = carriers.made_after[born], carriers.object[born]
        parent, _ = self._lineage.origin(carriers.unit[born])
        maker = carriers.unit[stretch]
        sides = [side(stretch, parent != 0) for side in (_below, _above)]
        there = np.stack([other != NONE for other in sides])
        agree = ~(there & (parent[np.stack(sides)] != maker)).any(axis=0) & there.any(axis=0)
        close = np.full(len(born), len(_CLOSE) - 1, np.intp)
        for i in reversed(range(len(_CLOSE) - 1)):
            apart = np.zeros(len(born), np.bool_)
            apart[1:] = (stretch[1:] != stretch[:-1]) | (address[1:] - address[:-1] > np.uint64(_CLOSE[i]))
            heap = np.cumsum(apart)
            close[(there & (heap[np.stack(sides)] == heap)).any(axis=0)] = i
        told, moment = np.zeros(len(carriers), np.uint64), np.zeros(len(carriers), np.uint64)
        distance = np.zeros(len(carriers), np.intp)
        told[born[agree]], moment[born[agree]] = maker[agree], carriers.t[stretch[agree]]
        distance[born] = close
        # A unit's later calls are judged by its first one.
        head = np.searchsorted(carriers.unit, carriers.unit[places])
        return told[head], moment[head], distance[head]


def _below(stretch: NDArray[np.intp], known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(n,) index of the last one before each that is known, in its own stretch, or NONE. stretch: (n,) ascending."""
    last = np.full(len(stretch), NONE, np.intp)
    last[1:] = np.maximum.accumulate(np.where(known, np.arange(len(stretch)), NONE))[:-1]
    return np.where((last != NONE) & (stretch[last] == stretch), last, NONE)


def _above(stretch: NDArray[np.intp], known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(n,) the same of the first one behind it."""
    other = _below(-stretch[::-1], known[::-1])[::-1]
    return np.where(other != NONE, len(stretch) - 1 - other, NONE)
