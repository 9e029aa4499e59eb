"""Which call of an event loop has which request's rank: whole columns say what removing one after the other says."""

from __future__ import annotations

import numpy as np
import pytest

import otel_ebpf.tracing.assemble  # noqa: F401 - the ladder first: its rungs need each other
from otel_ebpf.tracing.queues import matched
from otel_ebpf.tracing.tables import CallTable, RequestTable, empty


def plainly(calls: CallTable, requests: RequestTable) -> tuple[set[tuple[int, int]], set[int], set[int]]:
    """Pairs, calls without a request, requests without a call: of the first pair that cannot be, one leaves; again."""
    pairs: set[tuple[int, int]] = set()
    no_request: set[int] = set()
    no_call: set[int] = set()
    for thread in set(calls.thread.tolist()) & set(requests.thread.tolist()):
        left = sorted((calls.start[i], i) for i in range(len(calls)) if calls.thread[i] == thread)
        queue = sorted((requests.start[i], i) for i in range(len(requests)) if requests.thread[i] == thread)
        while True:
            for place, ((time, call), (start, request)) in enumerate(zip(left, queue, strict=False)):
                if requests.first_byte[request] < time:
                    no_call.add(request)
                    del queue[place]
                    break
                if start > calls.wanted[call]:
                    no_request.add(call)
                    del left[place]
                    break
            else:
                break
        pairs |= {(call, request) for (_, call), (_, request) in zip(left, queue, strict=False)}
    return pairs, no_request, no_call


@pytest.mark.parametrize("seed", range(60))
def test_calls_and_requests_are_matched_as_one_after_the_other(seed: int) -> None:
    random = np.random.default_rng(seed)
    calls, requests = empty(CallTable, int(random.integers(0, 40))), empty(RequestTable, int(random.integers(0, 40)))
    span = int(random.choice([50, 1000, 10**6]))
    for table in (calls, requests):
        table.thread = random.integers(1, 4, len(table), dtype=np.uint64)
        table.start = random.integers(0, span, len(table), dtype=np.uint64)
    calls.wanted = calls.start - np.minimum(calls.start, random.integers(0, 5, len(calls), dtype=np.uint64))
    requests.first_byte = requests.start + random.integers(1, span, len(requests), dtype=np.uint64)
    everything = np.arange(len(calls)), np.arange(len(requests))

    call, request, no_request, no_call = matched(
        calls, everything[0], calls.start, requests, everything[1], requests.start
    )

    found = set(zip(call.tolist(), request.tolist(), strict=True)), set(no_request.tolist()), set(no_call.tolist())
    assert found == plainly(calls, requests)
    assert len(call) == len(found[0]) and len(no_request) == len(found[1]) and len(no_call) == len(found[2])
