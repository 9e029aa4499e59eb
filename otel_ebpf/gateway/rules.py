"""Which trace goes on in which: what the gateway knows of exchanges between hosts.

Theory of operation. Both ends of an exchange bear the same key (`otel_ebpf.link.key`), and a request that came from
another host without a context begins a trace whose id follows from the key (`tracing.ids.traces_of`). So the client's
span alone tells what that trace is to become: its own. Such a rule is a pair of trace ids and the span that is the
parent; where the client's trace has itself come from a third host, rules follow each other to the first one.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from otel_ebpf.tracing.ids import traces_of

FORGET_S = 120.0
MOST = 500_000
"""Rules that are remembered: some 300 bytes each."""
HOPS = 64
"""Hosts that a request can have come through."""


class Rule(NamedTuple):
    """What the trace that begins with an exchange becomes. trace, span, parent: of the client's span."""

    trace: bytes
    span: bytes
    parent: bytes


def traces(keys: list[str]) -> list[bytes]:
    """The trace ids that follow from keys; b"" for a text that is no key.

    >>> [len(trace) for trace in traces(["5f1c09aa3be2d471", "no key"])]
    [16, 0]
    """
    numbers = [_number(key) for key in keys]
    made = traces_of(np.array(numbers, np.uint64)).astype("<u8")
    return [row.tobytes() if number else b"" for row, number in zip(made, numbers, strict=True)]


def _number(key: str) -> int:
    try:
        return int(key, 16) if len(key) == 16 and key.isalnum() else 0
    except ValueError:
        return 0


class Rules:
    """Rules by the trace that they are for; bounded in number and age.

    forgotten: rules that made room before their time. conflicts: keys that two different client spans bore: the first
    one holds.
    """

    def __init__(self, most: int = MOST, forget_s: float = FORGET_S) -> None:
        self.forgotten = 0
        self.conflicts = 0
        self._most, self._forget = most, forget_s
        self._rules: OrderedDict[bytes, tuple[float, Rule]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def learn(self, trace: bytes, rule: Rule, now: float) -> bool:
        """The trace becomes the rule's; False if it was known."""
        known = self._rules.get(trace)
        if known is not None:
            self.conflicts += known[1].span != rule.span
            return False
        if len(self._rules) >= self._most:
            self._rules.popitem(last=False)
            self.forgotten += 1
        self._rules[trace] = (now, rule)
        return True

    def of(self, trace: bytes) -> Rule | None:
        """What this trace becomes, for the span that begins it."""
        known = self._rules.get(trace)
        return None if known is None else known[1]

    def final(self, trace: bytes) -> bytes:
        """What the trace is called in the end: itself, if no rule is for it. Of a ring, none is followed."""
        at = trace
        for _ in range(HOPS):
            known = self._rules.get(at)
            if known is None:
                return at
            at = known[1].trace
            if at == trace:
                break
        return trace

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        rules = self._rules
        while rules:
            trace = next(iter(rules))
            if rules[trace][0] + self._forget > now:
                return
            del rules[trace]
