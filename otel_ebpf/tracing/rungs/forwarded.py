"""Rung 1: the context in the message. A proxy that passes a request on leaves its traceparent (b3, …) as it came.

The same context in a request and in a call of the same process, the call within the request: the call was made for it.
A process with an SDK of its own writes a new span id instead; then nothing matches here, and the arbiter takes the
context in the call for what it is, the SDK's span.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Link
from otel_ebpf.tracing.ids import splitmix64
from otel_ebpf.tracing.processes import SERVES
from otel_ebpf.tracing.rungs.base import NONE, Calls, Proposal, Requests, Rung


class Forwarded(Rung):
    """Exact, provided that one request only bore this context."""

    link = Link.TRACEPARENT

    def propose(self, calls: Calls, requests: Requests) -> Proposal:
        said = Proposal.silent(len(calls))
        asked = (calls.remote_parent != 0).nonzero()[0]
        if not len(asked):
            return said
        said.open[asked] = calls.of_process(SERVES)[asked]
        bearing = ((requests.remote_parent != 0) & requests.single).nonzero()[0]
        if not len(bearing):
            return said
        keys = _key(requests, bearing)
        order = np.argsort(keys)
        keys = keys[order]
        wanted = _key(calls, asked)
        left, right = np.searchsorted(keys, wanted), np.searchsorted(keys, wanted, "right")
        request = bearing[order[np.minimum(left, len(order) - 1)]]
        fits = (right - left == 1) & (requests.start[request] <= calls.start[asked])
        fits &= calls.end[asked] <= requests.end[request]
        fits &= requests.tgid[request] == calls.tgid[asked]
        fits &= requests.remote_parent[request] == calls.remote_parent[asked]
        fits &= (requests.remote_trace[request] == calls.remote_trace[asked]).all(axis=1)
        said.request[asked] = np.where(fits, request, NONE)
        said.open[asked[right > left]] = False
        return said


def _key(rows: Calls | Requests, at: NDArray[np.intp]) -> NDArray[np.uint64]:
    trace = rows.remote_trace[at]
    return splitmix64(rows.remote_parent[at] ^ trace[:, 1]) ^ trace[:, 0] ^ rows.tgid[at]
