"""Whose the calls of a pool's line are: what can be said, against lines of which all is known."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.tracing.counted import Counts, Line, count

MANY = 120
APART = 10**6
"""No two things happen at the same time."""


@dataclass
class Truth:
    """What happened: requests come at `start`, their calls wait in one line for so many connections."""

    connections: int = 2
    start: list[int] = field(default_factory=list)
    shares: list[int] = field(default_factory=list)
    answered: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)
    """of a request: place in the line of the call upon whose response it was answered, -1: it did not wait"""
    waited: list[tuple[int, int, int]] = field(default_factory=list)
    """(request, when its connection was set free, when it was answered), in the order of the line"""
    empty: list[int] = field(default_factory=list)
    calls: list[tuple[int, int, int, int, bool]] = field(default_factory=list)
    """(request, when it was sent, when it was answered, on which connection, whether it waited)"""

    def line(self, known: list[bool], seen: int = 10**12, since: int = -1) -> Line:
        """What is known of it by `seen`, from `since` on. known: of which requests the number of calls is."""
        mine = [r for r, start in enumerate(self.start) if since < start <= seen and self.answered[r] <= seen]
        places = [p for p, (r, freed, _) in enumerate(self.waited) if freed > since and r in set(mine)]
        at = {place: n for n, place in enumerate(places)}
        share = {r: sum(owner == r for owner, _, _ in self.waited) for r in mine}
        return Line(
            start=np.array([self.start[r] for r in mine], np.uint64),
            answered=np.array([self.answered[r] for r in mine], np.uint64),
            share=np.array([share[r] if known[r] else -1 for r in mine], np.int64),
            last=np.array([at.get(self.last[r], -1) for r in mine], np.int64),
            elsewhere=np.array([self.last[r] < 0 for r in mine], np.bool_),
            freed=np.array([self.waited[p][1] for p in places], np.uint64),
            response=np.array([self.waited[p][2] for p in places], np.uint64),
            empty=np.array([z for z in self.empty if since <= z <= seen], np.uint64),
            begin=np.uint64(max(since, 0)),
            tight=since < 0,
        )

    def owners(self, line: Line) -> list[int]:
        """The index of the request of each call of a line."""
        index = {start: n for n, start in enumerate(line.start.tolist())}
        freed = {(freed, response): r for r, freed, response in self.waited}
        pairs = zip(line.freed.tolist(), line.response.tolist(), strict=True)
        return [index.get(self.start[freed[pair]], -1) for pair in pairs]


def happened(seed: int, connections: int = 2, every: int = 30, pick: str = "first", many: int = MANY) -> Truth:
    """Requests of one to three calls, each answered when all of them are; a call takes 5 to 40 ms."""
    numbers = random.Random(seed)
    truth = Truth(connections)
    now = 0
    left: dict[int, int] = {}
    line: deque[int] = deque()
    busy: list[tuple[int, int, int, int]] = []  # (when it is answered, request, place in the line or -1, connection)
    idle = list(range(connections))
    for r in range(many):
        arrives = now + numbers.randint(1, 2 * every) * APART + 1
        while busy and min(busy)[0] <= arrives:
            _set_free(truth, busy, idle, line, left, numbers, pick)
        now = arrives
        truth.start.append(now)
        left[r] = numbers.randint(1, 3)
        truth.shares.append(left[r])
        for _ in range(left[r]):
            if idle:
                busy.append((now + _duration(numbers), r, -1, idle.pop()))
                truth.calls.append((r, now, busy[-1][0], busy[-1][3], False))
            else:
                line.append(r)
    while busy:
        _set_free(truth, busy, idle, line, left, numbers, pick)
    return truth


def _duration(numbers: random.Random) -> int:
    return numbers.randint(5, 40) * APART + numbers.randrange(APART)


def _set_free(
    truth: Truth,
    busy: list[tuple[int, int, int, int]],
    idle: list[int],
    line: deque[int],
    left: dict[int, int],
    numbers: random.Random,
    pick: str,
) -> None:
    when, request, place, connection = first = min(busy)
    busy.remove(first)
    left[request] -= 1
    if not left[request]:
        truth.answered[request], truth.last[request] = when, place
    if not line:
        truth.empty.append(when)
        idle.append(connection)
        return
    following = line.popleft() if pick == "first" else line.pop()
    answer = when + _duration(numbers)
    busy.append((answer, following, len(truth.waited), connection))
    truth.waited.append((following, when, answer))
    truth.calls.append((following, when, answer, connection, True))


def judged(truth: Truth, line: Line, counts: Counts) -> tuple[int, int]:
    """How many calls got the right request, and a wrong one."""
    owners = truth.owners(line)
    right = wrong = 0
    for request, (begin, end) in enumerate(zip(counts.begin.tolist(), counts.end.tolist(), strict=True)):
        right += sum(owners[place] == request for place in range(begin, end))
        wrong += sum(owners[place] != request for place in range(begin, end))
    return right, wrong


def test_requests_of_which_the_number_is_known_have_all_their_calls() -> None:
    truth = happened(1)
    line = truth.line([True] * MANY)
    assert judged(truth, line, count(line, patient=False)) == (len(truth.waited), 0)


@pytest.mark.parametrize("patient", [False, True])
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1), until=st.floats(0.3, 1), since=st.floats(0, 0.6))
def test_what_is_said_is_right_whatever_is_known(
    patient: bool, seed: int, share: float, until: float, since: float
) -> None:
    """Given any requests of which the number is not known, the agent that came in the middle, and a line that is not
    over, nothing wrong is said."""
    truth = happened(seed, every=20 + seed % 30)
    numbers = random.Random(seed)
    known = [numbers.random() < share for _ in range(MANY)]
    end = max(truth.answered.values())
    seen = round(until * end) if until < 0.95 else 10**12
    line = truth.line(known, seen, round(since * end) if since > 0.1 else -1)
    counts = count(line, patient)
    assert judged(truth, line, counts)[1] == 0
    owners = truth.owners(line)
    told = [(owners.count(r), n) for r, n in enumerate(counts.share.tolist()) if n >= 0]
    assert until < 0.95 or since > 0.1 or all(mine == n for mine, n in told)


def test_a_period_with_one_request_tells_how_many_calls_it_put_there() -> None:
    truth = happened(2, every=60)
    line = truth.line([False] * MANY)
    counts = count(line, patient=False)
    right, wrong = judged(truth, line, counts)
    assert right > 0.5 * len(truth.waited)
    assert wrong == 0


def test_patience_tells_more() -> None:
    """Given no number, it is known which calls were answered after a request, so that they are not for it."""
    truth = happened(3, every=40)
    line = truth.line([False] * MANY)
    assert judged(truth, line, count(line, True))[0] > judged(truth, line, count(line, False))[0]


def test_a_line_of_another_order_does_not_fit() -> None:
    truth = happened(4, pick="last")
    counts = count(truth.line([True] * MANY), patient=False)
    several = counts.several & counts.closed
    assert counts.fits[several].mean() < 0.7


def test_one_call_more_in_the_line_does_not_fit() -> None:
    """Given a call that no request has made, its period is not believed; the others are."""
    truth = happened(5)
    line = truth.line([True] * MANY)
    whole = count(line, patient=False)
    line.share[whole.begin.argmax()] -= 1
    counts = count(line, patient=False)
    changed = counts.period[whole.begin.argmax()]
    assert [int(p) for p in (~counts.fits & counts.closed).nonzero()[0]] == (
        [int(changed)] if counts.closed[changed] else []
    )
    assert judged(truth, line, counts)[1] == 0


def test_nothing_at_all_is_said_of_nothing() -> None:
    none = np.zeros(0, np.uint64)
    numbers, flags = np.zeros(0, np.int64), np.zeros(0, np.bool_)
    counts = count(Line(none, none, numbers, numbers, flags, none, none, none, np.uint64(0), tight=False), patient=True)
    assert len(counts.begin) == len(counts.of) == 0
