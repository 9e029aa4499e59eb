"""Keep-tail sampling: what is kept of whole traces, within which bounds, and that nothing gets lost uncounted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.combinations import Combinations
from otel_ebpf.model import Intern, Kind, Link, Resource, Spans
from otel_ebpf.protocols.base import Fields, Side
from otel_ebpf.tracing.sampling import Sampler
from otel_ebpf.tracing.tail import Tail, local_roots
from otel_ebpf.tracing.tail.budget import BURST_S, Budget
from otel_ebpf.tracing.tail.decisions import DROPPED, KEPT, OPEN, Decisions
from otel_ebpf.tracing.tail.slowest import WINDOW
from otel_ebpf.tracing.tail.tail import GRACE_NS

S, MS = 10**9, 10**6
WAIT_S = 10
NEVER, ALWAYS = 2**64 - 1, 1
"""Low halves of trace ids that no ratio below 1 keeps, and that every ratio above 0 does."""
SHOP, STOCK = 0, 1
FINE, FAILING, OTHER_ROUTE = range(3)


def fields(name: str, error: bool = False) -> Fields:
    side = Side(name, (), (), error)
    return Fields("http", side, side)


@dataclass
class One:
    """A row: its trace's number and low half, what it is, where it belongs."""

    trace: int
    low: int = NEVER
    shape: int = FINE
    ms: float = 1.0
    root: bool = True
    kind: Kind = Kind.SERVER
    resource: int = SHOP
    sampled: bool = True
    covered: bool = False


@dataclass
class World:
    """A `Tail` with a clock, and everything that it ever gave back, by span id."""

    slowest: float = 0.0
    ratio: float = 0.0
    budget: float = 0.0
    limit: int = 50_000
    decisions: Decisions = field(default_factory=Decisions)
    now: int = 10**12
    next_id: int = 1
    out: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        shapes, resources = Intern[Fields](100), Intern[Resource](100)
        for made in (fields("GET /"), fields("GET /", error=True), fields("GET /slow")):
            shapes.id(made)
        for service in ("shop", "stock"):
            resources.id(Resource(service, ()))
        self.tail = Tail(
            shapes,
            resources,
            slowest=self.slowest,
            ratio=self.ratio,
            budget=self.budget,
            wait_ns=WAIT_S * S,
            limit=self.limit,
            decisions=self.decisions,
        )

    def take(self, *rows: One) -> list[int]:
        """Hand rows in, at the present time; returns their span ids."""
        spans = Spans.empty(len(rows))
        ids = list(range(self.next_id, self.next_id + len(rows)))
        self.next_id += len(rows)
        spans.span_id[:] = ids
        text = b"".join(b"%d" % number for number in ids)
        spans.text = np.frombuffer(text, np.uint8)
        at = 0
        for i, row in enumerate(rows):
            spans.trace[i] = row.trace, int.from_bytes(row.low.to_bytes(8, "big"), "little")
            spans.shape[i], spans.resource[i], spans.kind[i] = row.shape, row.resource, row.kind
            spans.start[i], spans.end[i] = 1000, 1000 + int(row.ms * MS)
            spans.slot_start[i, 0], spans.slot_length[i, 0] = at, len(str(ids[i]))
            at += len(str(ids[i]))
        roots = np.array([row.root for row in rows], np.bool_)
        sampled = np.array([row.sampled for row in rows], np.bool_)
        covered = np.array([row.covered for row in rows], np.bool_)
        hidden = covered if covered.any() else None
        self.tail.take(spans, Combinations.among(spans), roots, sampled, hidden, self.now)
        return ids

    def decide(self, after_s: float = 0.0, everything: bool = False) -> list[int]:
        """What is released when so much time has passed, by span id, ascending."""
        self.now += int(after_s * S)
        released = []
        for spans in self.tail.decide(self.now, everything):
            for i, number in enumerate(spans.span_id.tolist()):
                start, length = spans.slot_start[i, 0], spans.slot_length[i, 0]
                assert spans.text[start : start + length].tobytes() == b"%d" % number, "its text went with it"
                released.append(number)
        self.out += released
        return sorted(released)


def test_a_trace_is_decided_a_moment_after_the_request_by_which_it_came() -> None:
    world = World(ratio=1.0)
    ids = world.take(One(7, root=False), One(7))
    assert world.decide() == []
    assert world.tail.held == 2
    assert world.decide(GRACE_NS / S) == ids
    assert world.tail.held == 0


def test_a_trace_whose_local_root_does_not_come_waits_no_longer_than_it_is_said_to() -> None:
    world = World(ratio=1.0)
    ids = world.take(One(7, root=False))
    assert world.decide(WAIT_S - 0.1) == []
    assert world.decide(0.1) == ids
    assert world.tail.rootless == 1


def test_further_requests_of_a_trace_from_elsewhere_are_waited_for_but_not_for_ever() -> None:
    world = World(ratio=1.0)
    ids = []
    for _ in range(2 * WAIT_S):
        ids += world.take(One(7))
        if got := world.decide(GRACE_NS / S / 2):
            break
    assert got == ids
    assert len(ids) == WAIT_S * 2


def test_one_error_keeps_all_spans_of_its_trace_and_of_no_other() -> None:
    world = World()
    ids = world.take(One(7, root=False), One(8), One(7, shape=FAILING, root=False), One(9), One(7))
    assert world.decide(5) == [ids[0], ids[2], ids[4]]
    assert world.tail.spans == {("kept", "error"): 3, ("dropped", "ratio"): 2}
    assert world.tail.traces == {("kept", "error"): 1, ("dropped", "ratio"): 2}


def test_an_error_that_a_services_own_sdk_tells_of_keeps_the_trace_and_is_not_exported_by_us() -> None:
    world = World()
    ids = world.take(One(7, shape=FAILING, covered=True), One(7, root=False))
    assert world.decide(5) == ids[1:]


def test_what_the_sampler_dropped_is_no_evidence_and_does_not_come_back() -> None:
    world = World(ratio=1.0)
    ids = world.take(One(7, shape=FAILING, sampled=False), One(8))
    assert world.decide(5) == ids[1:]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=30, unique=True), st.floats(0, 1))
def test_the_rest_is_kept_as_traceidratio_keeps_it(lows: list[int], ratio: float) -> None:
    world = World(ratio=ratio)
    ids = world.take(*[One(n + 1, low) for n, low in enumerate(lows)])
    rows = Spans.empty(len(lows))
    rows.trace[:, 1] = np.array(lows, np.uint64).astype(">u8").view(np.uint64)
    sampler = Sampler("traceidratio", ratio)
    assert world.decide(5) == [number for number, kept in zip(ids, sampler.sample(rows), strict=True) if kept]


class TestSlowest:
    """The slowest N % of each route."""

    def warm(
        self, world: World, count: int, ms: Sequence[float] = (1, 2, 3, 4), shape: int = FINE, resource: int = SHOP
    ) -> None:
        """So many traces of a route, with durations that go round."""
        for begin in range(0, count, 100):
            some = range(begin, min(begin + 100, count))
            first = 10**6 + world.next_id
            world.take(*[One(first + n, ms=ms[n % len(ms)], shape=shape, resource=resource) for n in some])
            world.decide(5)

    def test_none_is_slow_before_a_route_is_known_well_enough(self) -> None:
        world = World(slowest=1.0)
        self.warm(world, 99)
        world.take(One(7, ms=1000))
        assert world.decide(5) == []

    def test_then_what_takes_longer_than_all_but_the_slowest_is(self) -> None:
        world = World(slowest=1.0)
        self.warm(world, 100)
        (slow,) = world.take(One(7, ms=1000))
        world.take(One(8, ms=2))
        assert world.decide(5) == [slow]
        assert world.tail.traces["kept", "slow"] == 1

    def test_each_route_has_its_own_measure(self) -> None:
        world = World(slowest=1.0)
        self.warm(world, 400, (1,))
        self.warm(world, 400, (100,), shape=OTHER_ROUTE)
        self.warm(world, 400, (10_000,), resource=STOCK)
        ids = world.take(One(7, ms=50), One(8, ms=50, shape=OTHER_ROUTE), One(9, ms=500, resource=STOCK))
        assert world.decide(5) == ids[:1]

    def test_the_status_of_a_response_does_not_make_another_route(self) -> None:
        world = World(slowest=1.0)
        self.warm(world, 200, shape=FAILING)
        (slow,) = world.take(One(7, ms=50))
        assert world.decide(5) == [slow]

    @pytest.mark.parametrize("percent", [0.5, 1.0, 5.0, 25.0])
    def test_about_as_many_are_kept_as_asked_for(self, percent: float) -> None:
        random = np.random.default_rng(1)
        world = World(slowest=percent)
        for _ in range(200):
            durations = random.lognormal(1, 1, 100)
            world.take(*[One(10**6 + world.next_id + n, ms=ms) for n, ms in enumerate(durations)])
            world.decide(5)
        assert 0.7 < world.tail.traces["kept", "slow"] / 20_000 * 100 / percent < 1.3

    def test_when_a_route_becomes_slower_as_a_whole_that_is_its_measure_soon(self) -> None:
        world = World(slowest=1.0)
        self.warm(world, 2 * WINDOW)
        kept = world.tail.traces["kept", "slow"]
        self.warm(world, 2 * WINDOW, (101, 102, 103, 104))
        assert world.tail.traces["kept", "slow"] - kept < 0.1 * WINDOW + 100

    def test_where_all_take_the_same_time_none_is_slow(self) -> None:
        world = World(slowest=50.0)
        self.warm(world, 3000, (5,))
        assert world.tail.traces["kept", "slow"] == 0

    def test_the_number_of_routes_is_bounded_and_what_is_beyond_is_counted(self) -> None:
        world = World(slowest=1.0)
        world.tail.slowest._limit = 1
        self.warm(world, 200)
        self.warm(world, 200, resource=STOCK)
        assert world.tail.slowest.unjudged == 200
        world.now += 700 * S  # the first route is not asked for any more
        self.warm(world, 200, resource=STOCK)
        assert world.tail.slowest.unjudged == 200
        (slow,) = world.take(One(7, ms=50, resource=STOCK))
        assert slow in world.decide(5)


class TestBudget:
    """Spans per second, errors first."""

    def test_over_time_no_more_spans_leave_than_the_budget_allows(self) -> None:
        world = World(ratio=1.0, budget=10)
        seconds = 100
        for second in range(seconds):
            for n in range(20):
                number = second * 100 + n + 1
                world.take(*[One(number, shape=FAILING if n % 2 else FINE)] * 3)
            world.decide(1)
        world.decide(5, everything=True)
        assert 0.9 * 10 * seconds < len(world.out) <= 10 * (seconds + 6 + BURST_S) + 3
        assert sum(world.tail.spans.values()) == 20 * 3 * seconds

    def test_errors_are_kept_before_slow_traces_and_these_before_the_rest(self) -> None:
        budget = Budget(100)
        crowd, few = np.full(1000, 10), np.full(20, 10)
        assert budget.spend(crowd, 0.5, now=0).sum() == BURST_S * 100 * 0.5 / 10
        assert budget.spend(crowd, 0.25, now=0).sum() == 13  # the last one overdraws
        assert budget.spend(few, 0.0, now=0).sum() == 12
        assert not budget.spend(few, 0.0, now=0).any()
        assert budget.spend(few, 0.0, now=S).sum() == 10

    def test_a_trace_is_never_cut_in_two_for_the_budget(self) -> None:
        world = World(ratio=1.0, budget=1)
        for number in range(1, 11):
            world.take(*[One(number)] * 3)
            world.now += 1
        world.decide(2)
        assert Counter((number - 1) // 3 for number in world.out) == dict.fromkeys(range(len(world.out) // 3), 3)
        assert world.tail.traces["dropped", "over_budget_ratio"] == 10 - len(world.out) // 3

    def test_a_trace_that_would_silence_all_others_is_dropped(self) -> None:
        world = World(ratio=1.0, budget=10)
        world.take(*[One(7)] * (BURST_S * 10 + 1))
        ids = world.take(One(8))
        assert world.decide(5) == ids
        assert world.tail.spans["dropped", "over_budget_ratio"] == BURST_S * 10 + 1

    def test_somebody_who_sends_one_trace_id_for_ever_stays_within_the_budget(self) -> None:
        world = World(ratio=1.0, budget=10)
        for _ in range(100):
            world.take(*[One(7)] * 20)
            world.decide(1)
        assert len(world.out) <= 10 * (100 + BURST_S) + 20
        assert world.tail.spans["dropped", "over_budget_late"] > 0


class TestLate:
    """What comes after the decision follows it."""

    def test_spans_of_a_kept_trace_are_exported_at_once(self) -> None:
        world = World()
        world.take(One(7, shape=FAILING))
        world.decide(5)
        ids = world.take(One(7, root=False))
        assert world.decide() == ids
        assert +world.tail.spans == {("kept", "error"): 1, ("kept", "late"): 1}

    def test_spans_of_a_dropped_trace_are_dropped_and_errors_among_them_counted(self) -> None:
        world = World()
        world.take(One(7))
        world.decide(5)
        world.take(One(7, root=False), One(7, root=False, shape=FAILING))
        assert world.decide(20) == []
        assert world.tail.spans["dropped", "late"] == 2
        assert world.tail.late_errors == 1

    def test_decisions_are_bounded_and_how_many_were_forgotten_too_early_is_counted(self) -> None:
        decisions = Decisions(limit=20, keep_ns=S)
        for batch in range(10):
            keys = np.arange(batch * 10, batch * 10 + 10, dtype=np.uint64) * np.uint64(2)
            decisions.note(keys, np.ones(10, np.bool_), now=5 * S)
        assert len(decisions) <= 30
        assert decisions.forgotten > 0
        assert decisions.of(np.array([198], np.uint64)).tolist() == [KEPT]

    @given(st.dictionaries(st.integers(0, 2**63 - 1), st.booleans(), max_size=50), st.lists(st.integers(0, 2**63 - 1)))
    def test_decisions_are_found_again(self, noted: dict[int, bool], others: list[int]) -> None:
        decisions = Decisions()
        for number, kept in noted.items():
            decisions.note(np.array([2 * number], np.uint64), np.array([kept]), now=0)
        asked = [*noted, *others]
        expected = [{None: OPEN, False: DROPPED, True: KEPT}[noted.get(number)] for number in asked]
        assert decisions.of(np.array(asked, np.uint64) * np.uint64(2)).tolist() == expected


class TestTooMany:
    """Bounded in rows."""

    def test_the_oldest_traces_are_decided_early_and_counted(self) -> None:
        world = World(ratio=1.0, limit=100)
        old = []
        for trace in range(1, 11):
            old += world.take(*[One(trace, root=False)] * 10)
            assert world.decide(0.1) == []
        world.take(*[One(100 + n, root=False) for n in range(15)])
        assert world.decide(0.1) == old[:20], "whole traces"
        assert world.tail.held == 95
        assert world.tail.hurried == 20

    def test_also_where_nothing_of_them_is_ours(self) -> None:
        world = World(ratio=1.0, limit=100)
        for begin in range(1, 1001, 50):
            world.take(*[One(begin + n, root=False, covered=True) for n in range(50)])
            world.decide(0.01)
        assert len(world.tail._traces) <= 100

    def test_one_trace_of_any_length_does_not_get_beyond(self) -> None:
        world = World(limit=100)
        for _ in range(50):
            world.take(*[One(7, root=False)] * 30)
            world.decide(0.01)
            assert world.tail.held <= 100


ROW = st.builds(
    One,
    trace=st.integers(1, 12),
    shape=st.sampled_from([FINE, FINE, FINE, FAILING]),
    ms=st.floats(0.1, 100),
    root=st.booleans(),
    resource=st.integers(0, 1),
    sampled=st.just(True),
    covered=st.sampled_from([False, False, False, True]),
)
TURN = st.tuples(st.lists(ROW, max_size=12), st.sampled_from([0.0, 0.1, 0.6, 3.0]))


@settings(max_examples=200)
@given(
    turns=st.lists(TURN, min_size=1, max_size=15),
    ratio=st.sampled_from([0.0, 0.5, 1.0]),
    budget=st.sampled_from([0, 2, 50]),
    limit=st.sampled_from([10, 10**6]),
    remembered=st.sampled_from([4, 10**5]),
)
def test_every_row_is_returned_or_counted_once_and_no_trace_is_split_but_where_it_is_counted(
    turns: list[tuple[list[One], float]], ratio: float, budget: int, limit: int, remembered: int
) -> None:
    world = World(slowest=10.0, ratio=ratio, budget=budget, limit=limit, decisions=Decisions(remembered))
    of: dict[int, One] = {}
    for rows, seconds in turns:
        for row in rows:
            row.low = row.trace * (2**64 // 13)
        if rows:
            of.update(zip(world.take(*rows), rows, strict=True))
        world.decide(seconds)
        assert world.tail.held <= max(limit, 0)
    world.decide(everything=True)

    ours = {number for number, row in of.items() if not row.covered}
    counted = world.tail.spans
    assert world.tail.held == 0
    assert len(world.out) == len(set(world.out)), "none twice"
    assert set(world.out) <= ours
    assert sum(counted.values()) == len(ours)
    assert sum(n for (outcome, _), n in counted.items() if outcome == "kept") == len(world.out)
    by_trace = defaultdict(set)
    for number in ours:
        by_trace[of[number].trace].add(number in world.out)
    split = [trace for trace, kept in by_trace.items() if len(kept) > 1]
    assert not split or counted["dropped", "over_budget_late"] > 0 or world.decisions.forgotten > 0
    failed = {row.trace for row in of.values() if row.shape == FAILING}
    if not budget and limit > 10 and remembered > 4 and not world.tail.late_errors and not counted["dropped", "late"]:
        told = {trace for trace, kept in by_trace.items() if kept == {True}}
        late = {row.trace for row in of.values() if row.covered}  # an error of theirs may come after the decision
        assert failed - late <= told | (failed - set(by_trace))


def test_a_local_root_is_where_a_trace_came_to_this_host_or_began() -> None:
    rows = Spans.empty(10)
    rows.kind[:] = Kind.SERVER
    rows.parent[:] = 99
    cases = [
        "came",
        "child",
        "root",
        "call",
        "call, both ends",
        "its server",
        "SDK's call",
        "SDK's, here",
        "other",
        "told",
    ]
    rows.remote_link[[0, 6, 7]] = Link.TRACEPARENT
    rows.remote_parent[[0, 6, 7]] = 99
    rows.link[[1, 5, 7, 8]] = Link.CONNECTION
    rows.link[9] = Link.TCP_OPTION
    rows.parent[[2, 3, 4]] = 0
    rows.kind[[3, 4, 6]] = Kind.CLIENT
    mates = np.full(10, -1)
    mates[4], mates[5] = 5, 4
    found = local_roots(rows, mates).tolist()
    local = [case for case, root in zip(cases, found, strict=True) if root]
    assert local == ["came", "root", "call", "its server", "told"]
