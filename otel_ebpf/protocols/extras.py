"""What a protocol module may offer beside `Protocol` (base.py); the engine uses what is there.

- `response_prefix: int`: so many bytes of the response decide what `parse` says (default: all that were kept).
- `Stateful`: some requests mean something only with what the connection said before.
- `Framed`: answers come in the order of the requests; the engine carries over what is not answered yet.
- `Completing`: can say whether a response is whole.
- `Leaving`: the connection may turn into something else (WebSocket, a tunnel).
- `Columnar`: reads whole batches without a step in Python per exchange (http_columns.py).
- `Plural`: the same where an exchange may be several requests and `parse` reads what is unusual (redis_columns.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol as Interface
from typing import runtime_checkable

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.protocols.base import Fields, Options, Reading, Session
from otel_ebpf.protocols.headers import Lines


@runtime_checkable
class Stateful(Interface):
    def stateful(self, request: bytes) -> bool:
        """Whether reading this request needs or changes the session. Such exchanges are parsed one by one, in order."""


@runtime_checkable
class Framed(Interface):
    def split(self, request: bytes) -> Sequence[int]:
        """Where each whole request ends, ascending; the last may end behind what was kept: its length was announced."""

    def replies(self, response: bytes) -> Sequence[int]:
        """The same for responses: the n-th is the answer to the n-th request."""


@runtime_checkable
class Completing(Interface):
    def complete(self, request: bytes, response: bytes, req_bytes: int, rsp_bytes: int) -> bool | None:
        """Whether the response is whole; None: it cannot be told. req_bytes, rsp_bytes: lengths before any cut."""


class Leave(IntEnum):
    NO = 0
    UNKNOWN = 1
    """What follows is no protocol of ours, e.g. WebSocket."""
    UNDECIDED = 2
    """What follows may be anything, e.g. in a tunnel."""


@runtime_checkable
class Leaving(Interface):
    def leaves(self, request: bytes, response: bytes) -> Leave:
        """What the connection turns into after this exchange."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known about an exchange beside its bytes.

    answered: there was a response, even if none of its bytes could be read. failure: `error.type` if there was none.
    service: whose routes apply. server: this end is the server's. address, port: of the server; "" and 0 = not known.
    stream: it is one of HTTP/2, its heads written like those of HTTP/1.
    """

    https: bool = False
    failure: str = ""
    service: int = 0
    server: bool = False
    address: str = ""
    port: int = 0
    stream: bool = False


@dataclass(slots=True)
class Batch:
    """The exchanges of one size class that speak one protocol: n rows.

    head: (n,) `struct exchange`. request: (n, W), response: (n, V) zero padded uint8. row: (n,) in the table of
    connections. table: (capacity,) `struct connection`.
    """

    head: NDArray[np.void]
    request: NDArray[np.uint8]
    response: NDArray[np.uint8]
    row: NDArray[np.intp]
    table: NDArray[np.void]


@dataclass(slots=True)
class Columns:
    """What a columnar reader understood of a Batch of n rows.

    shape: (n,) id in Intern[Fields], or -1: this exchange is to be read one by one.
    text, slot_start, slot_length: as in Spans. lines: the request's header lines, for trace contexts.
    """

    shape: NDArray[np.int32]
    slot_start: NDArray[np.int64]
    slot_length: NDArray[np.int32]
    text: NDArray[np.uint8]
    lines: Lines


class Reader(Interface):
    """Reads exchanges of one protocol; lives as long as the engine and remembers what repeats."""

    @property
    def left_out(self) -> dict[str, int]:
        """How often a text did not become an attribute because there were too many different ones, by kind."""

    def detect(self, request: NDArray[np.uint8], response: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(n,) whether these (n, W), (n, V) bytes cannot be anything but this protocol."""

    def read(self, batch: Batch) -> Columns:
        """What can be understood without a step in Python per exchange."""

    def read_one(self, request: bytes, response: bytes, told: Told) -> Reading | None:
        """One exchange; None: not understood."""

    def complete(self, batch: Batch) -> NDArray[np.int8]:
        """(n,) 1: the response is whole, 0: it is not, -1: it cannot be told."""

    def forget(self, shape: int) -> None:
        """This shape is no more."""


@runtime_checkable
class Alike(Interface):
    """A Reader that says the same of equal exchanges with one service, whatever came before on their connections."""

    compared: int
    """So many bytes of a response, a multiple of 8, decide what `read` says."""

    @property
    def changed(self) -> int:
        """Another number than before when `read` may say something else of the same bytes than before."""

    def read(self, batch: Batch) -> Columns:
        """As `Reader.read`."""


@runtime_checkable
class Columnar(Interface):
    def reader(self, options: Options, intern: Interning) -> Reader:
        """A reader of its own for one engine."""


class Interning(Interface):
    """The part of Intern[Fields] that a reader needs."""

    def id(self, item: Fields) -> int: ...

    def touch(self, numbers: Iterable[int]) -> None: ...


@dataclass(slots=True)
class Readings:
    """What was understood of a Batch of n rows, k readings in all; what `parse` would have said.

    first, count: (n,) each row's readings; count 0: the row is to be parsed. fields: the different ones; which: (k,)
    index into it. slot_start, slot_length: (k, SLOTS). text: flat bytes. All as in Spans.
    """

    first: NDArray[np.intp]
    count: NDArray[np.intp]
    fields: Sequence[Fields]
    which: NDArray[np.intp]
    slot_start: NDArray[np.int64]
    slot_length: NDArray[np.int32]
    text: NDArray[np.uint8]


@runtime_checkable
class Plural(Interface):
    def read(self, batch: Batch, sessions: Mapping[int, Session], options: Options) -> Readings:
        """What can be understood without a step in Python per exchange, and changes no session. n > 0.

        A row that is read is answered, and has a reply to each of its requests unless its response was cut.
        """
