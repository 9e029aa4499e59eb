"""Parents inside a process: programs whose truth is known, their rows delivered late and out of order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.tracing_world import Score, Simulation, deliver, score

SEEDS = st.integers(0, 2**32)
REQUESTS = st.integers(1, 25)


def run(simulation: Simulation) -> Score:
    simulation.run()
    decided = deliver(simulation.rows, delay=simulation.random)
    assert len(decided) == len(simulation.rows) and not decided.doubled
    return score(simulation, decided)


@settings(max_examples=40)
@given(seed=SEEDS, threads=st.integers(1, 8), requests=REQUESTS)
def test_every_call_of_a_blocking_thread_finds_its_request(seed: int, threads: int, requests: int) -> None:
    simulation = Simulation(random.Random(seed))
    server = simulation.host.process()
    for n in range(threads):
        simulation.start(simulation.blocking_thread(server.thread(n), requests))
    result = run(simulation)
    assert (result.wrong, result.undecided) == (0, 0)


@settings(max_examples=20)
@given(seed=SEEDS, threads=st.integers(1, 6), requests=REQUESTS)
def test_also_when_the_callee_is_on_the_same_host(seed: int, threads: int, requests: int) -> None:
    simulation = Simulation(random.Random(seed))
    server, database = simulation.host.process(), simulation.host.process()
    for n in range(threads):
        simulation.start(simulation.blocking_thread(server.thread(n), requests, database))
    result = run(simulation)
    assert (result.wrong, result.undecided) == (0, 0)


@settings(max_examples=40)
@given(seed=SEEDS, workers=st.integers(1, 8), requests=REQUESTS)
def test_hand_off_to_a_pool_never_gives_a_wrong_parent(seed: int, workers: int, requests: int) -> None:
    simulation = Simulation(random.Random(seed))
    simulation.hand_off(simulation.host.process(), workers, requests)
    assert run(simulation).wrong == 0


def test_hand_off_to_a_pool_with_idle_workers_is_decided() -> None:
    """But for the few requests that arrive in the very moment in which the worker that takes them gets free."""
    simulation = Simulation(random.Random(3))
    simulation.hand_off(simulation.host.process(), 16, 200)
    result = run(simulation)
    assert result.wrong == 0 and result.undecided <= 0.02 * result.right


@settings(max_examples=60)
@given(seed=SEEDS, requests=REQUESTS, gap=st.floats(0.5, 200))
def test_an_event_loop_with_requests_in_flight_never_gives_a_wrong_parent(seed: int, requests: int, gap: float) -> None:
    simulation = Simulation(random.Random(seed))
    simulation.arrivals([simulation.host.process()], requests, gap)
    assert run(simulation).wrong == 0


@settings(max_examples=60)
@given(seed=SEEDS, requests=REQUESTS, gap=st.floats(0.5, 100))
def test_two_loops_of_one_process_never_give_a_wrong_parent(seed: int, requests: int, gap: float) -> None:
    simulation = Simulation(random.Random(seed))
    process = simulation.host.process()
    simulation.arrivals([process], requests, gap)
    simulation.arrivals([process.thread(1)], requests, gap)
    assert run(simulation).wrong == 0


@settings(max_examples=60)
@given(seed=SEEDS, requests=REQUESTS, gap=st.floats(0.5, 100), threads=st.integers(2, 8))
def test_tasks_that_wander_between_threads_never_get_a_wrong_parent(
    seed: int, requests: int, gap: float, threads: int
) -> None:
    simulation = Simulation(random.Random(seed))
    process = simulation.host.process()
    simulation.arrivals([process.thread(n) for n in range(threads)], requests, gap)
    assert run(simulation).wrong == 0


@pytest.mark.parametrize("seed", range(20))
def test_tasks_on_sockets_that_no_epoll_set_has_are_recognised_by_their_wandering(seed: int) -> None:
    """Virtual threads with a connection per call: the socket is not polled yet when the request is sent."""
    simulation = Simulation(random.Random(seed))
    process = simulation.host.process()
    simulation.arrivals([process.thread(n) for n in range(4)], 100, 5, polled=False)
    assert run(simulation).wrong == 0


def test_an_event_loop_with_one_request_at_a_time_is_decided() -> None:
    simulation = Simulation(random.Random(5))
    process = simulation.host.process()
    for n in range(20):
        simulation.start(simulation.task([process], polled=True), at=200.0 * n)
    result = run(simulation)
    assert (result.wrong, result.undecided) == (0, 0) and result.right > 20
