"""Specification of the last rung in a live process: what it says when, and what that is worth."""

from __future__ import annotations

from dataclasses import fields
from typing import TypeVar

import numpy as np
import pytest

from otel_ebpf.tracing.counters import Counters
from otel_ebpf.tracing.processes import SERVES
from otel_ebpf.tracing.rungs import Calls, Requests
from otel_ebpf.tracing.rungs.base import NONE
from otel_ebpf.tracing.rungs.statistics import Statistics
from otel_ebpf.tracing.statistics.calibration import Calibration
from tests.unit.statistics_world import BEGIN, World, in_sequence, mixed, world

T = TypeVar("T", Calls, Requests)
_PID = 77
_PASS = 100 * 10**6
_LAG = 600 * 10**6
_REQUEST, _CALL = 1_000_000, 2_000_000


def _columns(of: type[T], n: int, **given: object) -> T:
    """n rows of zeros but for what is given."""
    return of(**{f.name: given.get(f.name, np.zeros(n, np.uint64)) for f in fields(of)})  # type: ignore[arg-type]


def _live(given: World, fixed: float, rung: Statistics) -> tuple[int, int, int]:
    """Passes every 100 ms over what has ended. A share of the calls is fixed by other rungs; of the others: how many
    got the right request with at least 95 %, a wrong one, none."""
    columns, random = given.columns, np.random.default_rng(3)
    certain = (random.random(len(given.truth)) < fixed) & (given.truth != NONE)
    right = wrong = none = 0
    known = np.zeros(0, np.int64)
    ended = columns.request_end.max()
    for now in range(BEGIN, int(ended) + 2 * _LAG, _PASS):
        due = now - _LAG
        fresh = ((columns.request_end <= due) & (columns.request_end > due - _PASS)).nonzero()[0]
        # A call is judged in the pass in which no request that began before it is open any more.
        oldest = columns.request_start[columns.request_end > due].min(initial=np.iinfo(np.int64).max)
        ripe = (columns.call_end <= due) & (columns.call_start < oldest)
        judged = np.setdiff1d(ripe.nonzero()[0], known)
        known = np.union1d(known, judged)
        fresh_requests = _requests(given, fresh, True)
        calls = _columns(
            Calls,
            len(judged),
            span_id=(_CALL + judged).astype(np.uint64),
            tgid=np.full(len(judged), _PID, np.uint32),
            start=columns.call_start[judged].astype(np.uint64),
            end=columns.call_end[judged].astype(np.uint64),
            kind=columns.call_kind[judged].astype(np.uint64),
            waiting=np.zeros(len(judged), np.bool_),
            traits=np.full(len(judged), SERVES, np.uint8),
            found=np.full(len(judged), NONE),
        )
        wanted = np.unique(
            np.concatenate(
                [rung.wants(calls, fresh_requests), (_REQUEST + given.truth[judged[certain[judged]]]).astype(np.uint64)]
            )
        )
        late = np.setdiff1d(wanted.astype(np.int64) - _REQUEST, fresh)
        requests = _requests(given, np.concatenate([fresh, late]), False)
        of_id = {int(one): i for i, one in enumerate(requests.span_id)}
        calls.found = np.array(
            [of_id[int(_REQUEST + given.truth[i])] if certain[i] else NONE for i in judged.tolist()], np.intp
        )
        said = rung.propose(calls, requests)
        for i, request, confidence in zip(judged, said.request, said.confidence, strict=True):
            if certain[i]:
                assert request == NONE
            elif request == NONE or confidence < 0.95:
                none += 1
            else:
                is_right = int(requests.span_id[request]) == _REQUEST + given.truth[i]
                right += is_right
                wrong += not is_right
    return right, wrong, none


def _requests(given: World, which: np.ndarray[tuple[int], np.dtype[np.int64]], fresh: bool) -> Requests:
    columns = given.columns
    return _columns(
        Requests,
        len(which),
        span_id=(_REQUEST + which).astype(np.uint64),
        tgid=np.full(len(which), _PID, np.uint32),
        fresh=np.full(len(which), fresh),
        start=columns.request_start[which].astype(np.uint64),
        end=columns.request_end[which].astype(np.uint64),
        kind=columns.request_kind[which].astype(np.uint64),
        single=np.ones(len(which), np.bool_),
    )


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """No budget: what is found must not depend on the machine."""
    monkeypatch.setattr("otel_ebpf.tracing.rungs.statistics._ADVANCE_S", 1e9)


@pytest.mark.parametrize("handle", [in_sequence, mixed])
def test_given_enough_certain_links_then_most_of_the_rest_is_found_and_hardly_one_is_wrong(
    handle: object,
) -> None:
    right, wrong, none = _live(world(handle, requests=800, in_flight=5), 0.8, Statistics(Counters()))  # type: ignore[arg-type]
    assert right > 0.6 * (right + wrong + none)
    assert wrong <= 0.02 * right


def test_given_no_certain_link_then_nothing_is_said() -> None:
    right, wrong, _ = _live(world(in_sequence, requests=150), 0.0, Statistics(Counters()))
    assert (right, wrong) == (0, 0)


def test_given_no_time_then_nothing_is_said_and_that_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_ebpf.tracing.rungs.statistics._ADVANCE_S", -1e9)
    rung = Statistics(counters := Counters())
    right, wrong, none = _live(world(in_sequence, requests=150), 0.8, rung)
    assert (right, wrong) == (0, 0)
    assert counters.no_time == none


def test_a_process_that_is_gone_is_forgotten() -> None:
    rung = Statistics(Counters())
    _live(world(in_sequence, requests=100), 0.8, rung)
    assert rung._of
    rung.forget(np.array([_PID], np.uint32))
    assert not rung._of


def test_a_claim_is_worth_what_claims_alike_were() -> None:
    calibration = Calibration()
    assert (calibration.of(np.array([1.0])) == 0).all()
    claimed = np.concatenate([np.linspace(0.4, 0.6, 200), np.linspace(0.9, 1.0, 400)])
    right = np.concatenate([np.arange(200) % 2 == 0, np.ones(400, np.bool_)])
    calibration.learn(claimed, right)
    worth = calibration.of(np.array([0.1, 0.5, 0.95, 1.0]))
    assert worth[0] == 0
    assert 0.3 < worth[1] < 0.7
    assert worth[2] > 0.98
    assert worth[3] < 1


def test_few_successes_do_not_make_a_certainty() -> None:
    calibration = Calibration()
    calibration.learn(np.append(np.full(60, 0.5), np.full(5, 0.99)), np.append(np.arange(60) % 2 == 0, np.ones(5) > 0))
    assert calibration.of(np.array([0.99]))[0] < 0.95
