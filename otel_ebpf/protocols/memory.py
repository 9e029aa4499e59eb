"""What the engine remembers of readings: by the bytes that were read and by what the connection had said before.

The engine reads equal bytes once. For a protocol with memory "equal" includes the session: connections whose sessions
hold the same share readings, all others do not, so nothing leaks from one connection to another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import STREAM, Flag, Intern
from otel_ebpf.protocols.base import Fields, Protocol, Reading, Session, Side

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Outcome(IntEnum):
    READ = 0
    FAILED = 1
    """The module could not make sense of it."""
    IGNORED = 2
    """The protocol's own business: a handshake, a ping."""
    ORDERED = 3
    """To be read in its turn: it depends on what came before it on its connection."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What some bytes say: the readings as ids of shapes and encoded texts, and the carriers of those that have any."""

    outcome: Outcome
    shapes: tuple[int, ...] = ()
    texts: tuple[tuple[bytes, ...], ...] = ()
    carriers: tuple[tuple[int, bytes], ...] = ()


class Recent(Generic[K, V]):
    """A bounded dict: what was not asked for while `limit` new items came is gone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        value = self._young.get(key)
        if value is None and (value := self._old.get(key)) is not None:
            self[key] = value
        return value

    def __setitem__(self, key: K, value: V) -> None:
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def clear(self) -> None:
        self._young, self._old = {}, {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


class Lately:
    """Which hashes came lately: each has one place, which it leaves to the next that comes there."""

    def __init__(self, bits: int) -> None:
        self._places = np.zeros(1 << bits, np.uint64)
        self._mask = np.uint64((1 << bits) - 1)

    def again(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(n,) whether each of these distinct hashes was asked for before."""
        place = (keys & self._mask).astype(np.intp)
        known: NDArray[np.bool_] = self._places[place] == keys
        self._places[place] = keys
        return known


class Shapes:
    """Ids of Fields, by identity where a module hands out the same object again: hashing Fields is what costs."""

    _LIMIT = 8192

    def __init__(self, intern: Intern[Fields]) -> None:
        self._intern = intern
        self._known: dict[int, tuple[Fields, int]] = {}
        self._failed: Recent[tuple[int, str], tuple[Fields, Fields]] = Recent(1024)
        intern.on_forget.append(self._forget)
        self.forgotten = False
        """Some shape is no more since this was last set to False."""

    def _forget(self, _shape: int) -> None:
        self._known.clear()
        self.forgotten = True

    def id(self, fields: Fields) -> int:
        known = self._known.get(id(fields))
        if known is not None and known[0] is fields:
            return known[1]
        number = self._intern.id(fields)
        if len(self._known) >= self._LIMIT:
            self._known.clear()
        self._known[id(fields)] = (fields, number)
        return number

    def ids(self, fields: Sequence[Fields]) -> NDArray[np.int32]:
        """Ids of some Fields, which count as asked for just now."""
        numbers = [self.id(one) for one in fields]
        self._intern.touch(numbers)
        return np.array(numbers, np.int32)

    def entry(
        self, module: Protocol, request: bytes, response: bytes, readings: Sequence[Reading], failure: str
    ) -> Entry:
        """What a module said of these bytes; `failure`: they were never answered."""
        if not readings:
            return Entry(Outcome.IGNORED if module.detect(request, response) > 0 else Outcome.FAILED)
        shapes = tuple(self.id(self._unanswered(r.fields, failure) if failure else r.fields) for r in readings)
        texts = tuple(tuple(text.encode("utf-8", "replace") for text in r.texts) for r in readings)
        return Entry(Outcome.READ, shapes, texts, tuple((k, r.carrier) for k, r in enumerate(readings) if r.carrier))

    def _unanswered(self, fields: Fields, failure: str) -> Fields:
        known = self._failed.get((id(fields), failure))
        if known is not None and known[0] is fields:
            return known[1]
        failed = replace(fields, server=failed_side(fields.server, failure), client=failed_side(fields.client, failure))
        self._failed[(id(fields), failure)] = (fields, failed)
        return failed


def failed_side(side: Side, failure: str) -> Side:
    """This end of an exchange that was not answered; failure: as of `failure_of`."""
    if side.error:
        return side
    error = (("error.type", failure),)
    metric = (*side.metric, *error) if side.metric else ()
    return replace(side, error=True, attributes=(*side.attributes, *error), metric=metric)


NO_RESPONSE, CONNECTION_RESET = "no_response", "connection_reset"
_UNANSWERED, _RESET = int(Flag.UNANSWERED), int(Flag.RESET)
STREAM_ERRORS = (
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED"),
    *("FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"),
    *("INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
)
"""RFC 9113 §7, by code; one that is not known counts as INTERNAL_ERROR."""


def failure(head: np.void) -> str:
    """`error.type` of a record (`struct exchange`) whose response did not come, or not to its end; "": it did."""
    flags, ended = int(head["flags"]), int(head["seq_rsp"])
    if flags & STREAM and ended:
        return STREAM_ERRORS[ended - 1] if ended <= len(STREAM_ERRORS) else "INTERNAL_ERROR"
    return failure_of(flags)


def failure_of(flags: int) -> str:
    """`error.type` of a request without a response: CONNECTION_RESET or NO_RESPONSE; "" if there was one."""
    if not flags & _UNANSWERED:
        return ""
    return CONNECTION_RESET if flags & _RESET else NO_RESPONSE


class Tokens:
    """Numbers for what sessions hold: equal for equal contents, so that readings can be shared; 0: nothing."""

    _LIMIT = 4096

    def __init__(self) -> None:
        self._numbers: dict[frozenset[tuple[bytes, str]], int] = {}
        self._seen: OrderedDict[int, tuple[Session, int, int]] = OrderedDict()
        self._next = 1

    def of(self, row: int, session: Session | None) -> int:
        """The number of this row's session."""
        if session is None or not session.remembered:
            return 0
        seen = self._seen.get(row)
        if seen is not None and seen[0] is session and seen[1] == session.version:
            return seen[2]
        content = frozenset(session.remembered.items())
        number = self._numbers.get(content)
        if number is None:
            if len(self._numbers) >= self._LIMIT:
                self._numbers.clear()  # numbers are never used again: at worst something is read twice
            number = self._numbers[content] = self._next
            self._next += 1
        if len(self._seen) >= self._LIMIT:
            self._seen.popitem(last=False)
        self._seen[row] = (session, session.version, number)
        return number
