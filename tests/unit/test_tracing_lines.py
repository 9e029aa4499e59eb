"""Calls that wait in line for a connection of a pool, on an event loop whose ids say nothing of them."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from otel_ebpf.model import Flag, Link, Unit
from tests.unit.test_tracing_async_ids import Site, ids
from tests.unit.tracing_world import MS, Row

NO_ID = int(Unit.ASYNC) << 56
SERVICE = 10.0
LEARNING = 60
"""Requests after which a process has shown what it is."""

Line = deque["Job"]


@dataclass
class Job:
    """A request that makes `left` calls, one after the other."""

    request: Row
    left: int


@dataclass
class Pool:
    """A loop that answers requests with calls over so many connections. `pick` takes the next one out of its line.

    A call goes out at once if a connection is idle. A connection that has had its response sends what waits, in the
    callback of something that was made then; the request whose call was answered comes before that, without an id.
    """

    connections: int = 2
    pick: Callable[[Line], Job] = deque.popleft
    pause: Callable[[], float] = lambda: 0.0
    site: Site = field(default_factory=Site)
    calls: list[tuple[Row, Row]] = field(default_factory=list)

    def serve(self, arrivals: Sequence[tuple[float, int]]) -> None:
        """arrivals: (when, how many calls), ms."""
        events: list[tuple[float, int, Row, Job | None]] = []
        line: Line = deque()
        idle = [500 + n for n in range(self.connections)]
        count = 1000

        def send(now: float, job: Job, after: Row, unit: int, conn: int) -> None:
            row = self.site.call(now, now + SERVICE, unit, after, 0, conn)
            self.site.segments.pop()
            self.calls.append((row, job.request))
            job.left -= 1
            heapq.heappush(events, (now + SERVICE, len(self.calls), row, job))

        def want(now: float, job: Job, after: Row) -> None:
            if idle:
                send(now, job, after, NO_ID, idle.pop())
            else:
                line.append(job)

        for n, (when, many) in enumerate(arrivals):
            request = self.site.request(when, when, 0)
            self.site.segments.pop()
            heapq.heappush(events, (when, -n - 1, request, Job(request, many)))
        while events:
            now, _, row, job = heapq.heappop(events)
            count += 10
            self.site.segments.append((count, row["span_id"]))
            assert job is not None
            if row is job.request:
                want(now + 0.01, job, row)
                continue
            if not job.left:
                job.request["end"] = job.request["first_byte"] = round((now + 0.02) * MS)
                job.request["after"] = row["span_id"]
            elif pause := self.pause():
                heapq.heappush(events, (now + pause, 0, job.request, job))
            else:
                want(now + 0.02, job, row)
            if line:
                send(now + 0.03, self.pick(line), row, ids(count + 5, count + 1), row["conn"])
            else:
                idle.append(row["conn"])


def arrivals(seed: int, many: int = 200, every: float = 9.0) -> list[tuple[float, int]]:
    """Requests of one to three calls: more than two connections can serve at times."""
    numbers = random.Random(seed)
    when, found = 0.0, []
    for _ in range(many):
        when += numbers.uniform(0.2, 2 * every)
        found.append((when, numbers.randint(1, 3)))
    return found


def judge(pool: Pool) -> tuple[list[bool], int]:
    """Of all calls behind those of the first requests, in their order: is the parent right? How many are wrong."""
    found = pool.site.parents()
    right = [found[call["span_id"]][0] == request["span_id"] for call, request in pool.calls]
    wrong = sum(found[call["span_id"]][0] not in (0, request["span_id"]) for call, request in pool.calls)
    return right[3 * LEARNING :], wrong


@pytest.mark.parametrize("seed", range(5))
def test_a_pool_sends_what_has_waited_longest(seed: int) -> None:
    """Given a pool whose line tells nobody who waits in it, its calls have their parents: by their order."""
    pool = Pool()
    pool.serve(arrivals(seed))
    waited = [call for call, _ in pool.calls if call["unit_req"] != NO_ID]
    assert len(waited) > 100
    right, wrong = judge(pool)
    assert wrong == 0
    assert sum(right) >= 0.98 * len(right), "all but those after which nobody could prove anything"
    found = pool.site.parents()
    assert Link.ORDER in {Link(found[call["span_id"]][1]) for call in waited}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "pick", [deque.pop, lambda line: line.remove(one := random.Random(len(line)).choice(line)) or one]
)
def test_a_pool_that_keeps_no_order_is_not_believed_to(seed: int, pick: Callable[[Line], Job]) -> None:
    pool = Pool(pick=pick)
    pool.serve(arrivals(seed))
    assert judge(pool)[1] == 0


@pytest.mark.parametrize("seed", range(5))
def test_requests_that_do_other_things_between_their_calls_are_not_given_the_calls_of_others(seed: int) -> None:
    """Given timers before some calls: what was received put nothing into the line then."""
    numbers = random.Random(seed)
    pool = Pool(pause=lambda: numbers.choice((0.0, 0.0, 3.0, 17.0)))
    pool.serve(arrivals(seed))
    assert judge(pool)[1] == 0


def test_connections_that_follow_others_are_a_kind_of_their_own() -> None:
    """Given a pool without idle connections: one that is opened when another was closed is for whoever waits longest,
    though the ids say that it was made after the last request."""
    site = Site()
    calls = []
    for n in range(80):
        at, first = 100.0 * n, 1000 * (n + 1)
        one, two = site.request(at, at + 40, first), site.request(at + 5, at + 50, first + 10)
        if n % 2:
            made = [(site.call(at + 6, at + 30, ids(first + 15, 0), two, first + 20), one, True)]
            two["after"] = two["span_id"]
        else:
            made = [
                (site.call(at + 1, at + 30, ids(first + 5, 0), one, first + 20), one, False),
                (site.call(at + 6, at + 31, ids(first + 15, 0), two, first + 30), two, False),
            ]
        for call, request, succeeds in made:
            call["flags"] |= int(Flag.BORN | (Flag.SUCCEEDS if succeeds else Flag(0)))
            request["after"] = call["span_id"]
        calls += made
    found = site.parents()
    told = [(found[call["span_id"]][0], request["span_id"], succeeds) for call, request, succeeds in calls]
    assert all(parent in (0, request) for parent, request, _ in told)
    assert all(parent == request for parent, request, succeeds in told[20:] if not succeeds)
