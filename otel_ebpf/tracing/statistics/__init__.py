"""The last rung: which request a call was made for, from times alone.

A request is a chain of events of its process: it arrives, calls are sent, their answers come, the response leaves.
What the process does next, and after how long, follows distributions that are its own; they are learned from the chains
whose calls are known, or, where none is, from how much more often than by chance one event follows another. Then the
calls are put into the chains so that all chains together are most likely, and each is asked how much worse the next
best assignment would be: that is its confidence.

    Columns     what was seen of one service: columns of requests and calls
    Delays      what follows what, after how long; `cost` = -log of the density of a step
    Chains      the events of all requests in order, and what it costs to put calls between them
    History     of a live process: what is fixed there, and what follows from it for the rest
    assign_all  all of it, window by window: Columns → Assignment
"""

from otel_ebpf.tracing.statistics.assign import Assignment
from otel_ebpf.tracing.statistics.delays import Delays
from otel_ebpf.tracing.statistics.observed import NONE, Columns
from otel_ebpf.tracing.statistics.windows import assign_all

__all__ = ["NONE", "Assignment", "Columns", "Delays", "assign_all"]
