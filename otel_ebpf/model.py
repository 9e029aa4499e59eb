"""The columns that the stages hand to each other: `Exchanges` out of capture, `Spans` from there on.

Every stage takes and returns whole batches; one row is one exchange as one end of a connection saw it. Nothing here
touches a single row in Python: `take` and `concat` are the only ways by which rows move.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

AttributeValue: TypeAlias = "str | bool | int | float | tuple[str, ...] | tuple[int, ...]"
Attributes: TypeAlias = tuple[tuple[str, AttributeValue], ...]
"""Ordered, hashable attributes: what is interned and encoded once per distinct set."""

SLOTS = 3
"""Variable texts that one span can carry beside its interned attributes (for HTTP: target, path, query)."""


T = TypeVar("T", bound=Hashable)


class Intern(Generic[T]):
    """What repeats, by number: `id` gives equal items the same id; ids ascend and are never used again.

    Holds at most `limit` items: the one that was asked for longest ago makes room, and everybody in `on_forget` is
    told, so that what they cached under its id goes as well. Columns must not keep ids for longer than tracing holds
    rows.

    >>> table = Intern[str](limit=2)
    >>> table.id("a"), table.id("b"), table.id("a")
    (0, 1, 0)
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.on_forget: list[Callable[[int], None]] = []
        self._ids: dict[T, int] = {}
        self._items: OrderedDict[int, T] = OrderedDict()
        self._next = 0

    def id(self, item: T) -> int:
        """The item's id; a new one if it was not there."""
        known = self._ids.get(item)
        if known is not None:
            self._items.move_to_end(known)
            return known
        if len(self._ids) >= self.limit:
            oldest, forgotten = self._items.popitem(last=False)
            del self._ids[forgotten]
            for forget in self.on_forget:
                forget(oldest)
        number = self._next
        self._next += 1
        self._ids[item] = number
        self._items[number] = item
        return number

    def touch(self, numbers: Iterable[int]) -> None:
        """As if the items of these ids had been asked for; for who remembers ids by a shorter way."""
        for number in numbers:
            if number in self._items:
                self._items.move_to_end(number)

    def __getitem__(self, number: int) -> T:
        return self._items[number]

    def __len__(self) -> int:
        return len(self._items)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The addresses of one end of a connection as attributes; the peer's ephemeral port is a column of its own.

    always: network.peer.address, network.transport, network.type, client.address (server kind) …
    unless_addressed: server.address, server.port; left out when the protocol's own bytes name the server (Host).
    """

    always: Attributes
    unless_addressed: Attributes


@dataclass(frozen=True, slots=True)
class Resource:
    """Who: the attributes of one OTLP Resource. `service` is its `service.name`, for tables and live lines."""

    service: str
    attributes: Attributes


class Kind(IntEnum):
    """OTLP `Span.SpanKind` of the ends that we see."""

    SERVER = 2
    CLIENT = 3


class Flag(IntFlag):
    """`enum exchange_flags` of bpf/include/records.h; a test holds the two against each other through BTF."""

    SERVER = 1 << 0
    UNANSWERED = 1 << 1
    RESET = 1 << 2
    TLS = 1 << 3
    PEER = 1 << 4
    HEAD = 1 << 5
    REQUEST_CUT = 1 << 6
    RESPONSE_CUT = 1 << 7
    NO_REQUEST = 1 << 8
    NO_RESPONSE = 1 << 9
    PARTIAL = 1 << 10
    AMENDS = 1 << 11
    LAST = 1 << 12
    EPOLL = 1 << 13
    DISTURBED = 1 << 14
    MANY = 1 << 15
    MIDSTREAM = 1 << 16
    ANSWERING = 1 << 17
    BORN = 1 << 18
    CARRIED = 1 << 19
    SUCCEEDS = 1 << 20


STREAM = 1 << 31
"""Beside `Flag`, from user space: the exchange is one stream of an HTTP/2 connection; `n` and `seq_req` are its number,
`seq_rsp` the error code (RFC 9113 §7) that ended it before its time plus 1, 0: none did."""


class Unit(IntEnum):
    """`enum unit_kind` of bpf/include/records.h, the top byte of `unit_req` and `unit_rsp`."""

    THREAD = 0
    GOROUTINE = 1
    CONTEXT = 2
    GREENLET = 3
    ASYNC = 4
    VIRTUAL = 5
    OPAQUE = 255


class Link(IntEnum):
    """How a span's parent was found (`otel_ebpf.link.method`); the order is that of the ladder in docs/."""

    NONE = 0
    TRACEPARENT = 1
    B3 = 2
    JAEGER = 3
    CONNECTION = 4
    """Server span: the client span at the other end of the same connection, on this host."""
    THREAD_RESPONSE = 5
    """The blocking thread that sent the request also wrote the response of the parent."""
    THREAD_ALONE = 6
    """The sending thread had exactly this one request open."""
    UNIT = 7
    """The unit of execution (goroutine, CPython context, …) that sent it, or its ancestor, wrote the response."""
    ASYNC_ID = 9
    """Node: the asynchronous resource was made while this request was being handled."""
    TURN = 10
    """Event loop: sent in the turn that began with this request, or with the response of a call for it."""
    ORDER = 11
    """Event loop: calls go out in the order in which requests came in."""
    STATISTICS = 12
    """By the distributions of delays, calibrated on links that were certain."""
    REQUEST_ID = 13
    """The call bears the X-Request-Id of the parent."""
    ALLOCATION = 14
    """JVM: the job that the thread worked on, or the virtual thread, was made by the thread that handled the parent."""
    SKYWALKING = 32
    DATADOG = 33
    XRAY = 34
    """In the message, as 1 to 3 are."""
    TCP_OPTION = 35
    """In a TCP option beside the message, from the agent of the other host."""
    PENDING = 255
    """Not decided yet; never exported."""

    @property
    def label(self) -> str:
        """The attribute's value, e.g. `Link.THREAD_ALONE.label == "thread-alone"`."""
        return self.name.lower().replace("_", "-")


FROM_MESSAGE = (Link.TRACEPARENT, Link.B3, Link.JAEGER, Link.SKYWALKING, Link.DATADOG, Link.XRAY)
"""The formats of contexts that requests carry."""


@dataclass(slots=True)
class Exchanges:
    """What capture hands over: records of one size class, columns aligned, n rows.

    head: (n,) structured array, dtype of `struct exchange` (otel_ebpf.kernel.btf).
    request: (n, W) uint8, the first bytes of each request; only `head["req_cap"]` of a row are valid, the rest is zero.
    response: (n, V) uint8, likewise with `head["rsp_cap"]`.
    W and V are multiples of 8 and 0 for records without payload.
    protocol: name of the module that all rows are to be read by; "": that is told by the connection.
    """

    head: NDArray[np.void]
    request: NDArray[np.uint8]
    response: NDArray[np.uint8]
    protocol: str = ""

    def __len__(self) -> int:
        return len(self.head)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Exchanges:
        """The given rows (index array or mask)."""
        return Exchanges(self.head[rows], self.request[rows], self.response[rows], self.protocol)


@dataclass(slots=True)
class Frames:
    """What capture hands over of HTTP/2 (RFC 9113): records of one size class, columns aligned, n rows.

    head: (n,) structured array, dtype of `struct frame` (otel_ebpf.kernel.btf).
    block: (n, W) uint8, a piece of a header block; only `head["cap"]` of a row are valid, the rest is zero. W is a
    multiple of 8 and 0 for records without one.
    """

    head: NDArray[np.void]
    block: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.head)


@dataclass(slots=True)
class Spans:
    """One row per span, n rows. Times are CLOCK_MONOTONIC ns until the encoder.

    A pipelined exchange (16 Redis commands in one write) has become several rows. A client end whose payload the other
    end carries (Flag.HEAD) has shape -1 until tracing has joined it with its server end.
    """

    span_id: NDArray[np.uint64]
    conn: NDArray[np.uint64]
    """(n,) connection.id of this end"""
    pair: NDArray[np.uint64]
    """(n,) the same for both ends of one connection on this host, else unique to this end"""
    key: NDArray[np.uint64]
    """(n,) the connection's key, the same on whatever host its ends are, 0: none. After tracing that of the exchange
    (`otel_ebpf.link.key`), where the other end is not known on this host; else 0"""
    seq: NDArray[np.uint32]
    """(n,) TCP sequence number of the message's first byte (TLS: behind the request's last): with `pair` the key that
    joins both ends"""
    start: NDArray[np.uint64]
    wanted: NDArray[np.uint64]
    """(n,) when the process began to want it: the connect of a connection of which it is the first, else `start`"""
    end: NDArray[np.uint64]
    """(n,) last byte of the response; if unanswered: when it was waited for no longer (close, reset, timeout)"""
    first_byte: NDArray[np.uint64]
    """(n,) first byte of the response; 0 if unanswered"""
    kind: NDArray[np.uint8]
    flags: NDArray[np.uint32]
    """(n,) Flag of the record"""
    tgid: NDArray[np.uint32]
    tid_req: NDArray[np.uint32]
    tid_rsp: NDArray[np.uint32]
    """(n,) threads that received (server) or sent (client) the request; that wrote or received the response; 0: none"""
    unit_req: NDArray[np.uint64]
    unit_rsp: NDArray[np.uint64]
    """(n,) units of execution of the same (`enum unit_kind` in the top byte); 0: the thread is the unit"""
    cause: NDArray[np.uint64]
    """(n,) client: span id of the one request that the sending thread had open; else 0"""
    after: NDArray[np.uint64]
    """(n,) span id of the exchange of which the thread received bytes last, before it sent the request (client) or the
    response (server); 0: none"""
    req_bytes: NDArray[np.uint64]
    rsp_bytes: NDArray[np.uint64]
    resource: NDArray[np.int32]
    """(n,) id in Intern[Resource]; -1: not asked yet"""
    endpoint: NDArray[np.int32]
    """(n,) id in Intern[Endpoint]; -1: none"""
    peer_port: NDArray[np.uint16]
    """(n,) the other end's port (`network.peer.port`); 0: none (unix)"""
    shape: NDArray[np.int32]
    """(n,) id in Intern[Fields] (otel_ebpf.protocols); -1: payload not known (yet); -2: protocol not recognised"""
    slot_start: NDArray[np.int64]
    """(n, SLOTS) where in `text` the row's variable texts begin"""
    slot_length: NDArray[np.int32]
    """(n, SLOTS) and how long they are, bytes; 0 = absent"""
    text: NDArray[np.uint8]
    """flat bytes, redacted, valid UTF-8 within each slot; shared by all rows, compacted by `take`"""
    remote_link: NDArray[np.uint8]
    """(n,) one of FROM_MESSAGE: the request carried a context; else Link.NONE"""
    remote_trace: NDArray[np.uint64]
    """(n, 2) its trace id, big-endian halves as stored on the wire (view as 16 uint8)"""
    remote_parent: NDArray[np.uint64]
    """(n,) its span id, bytes as on the wire"""
    remote_flags: NDArray[np.uint8]
    """(n,) its trace flags; bit 0: sampled"""
    request_id: NDArray[np.uint64]
    """(n,) a number for the id in its X-Request-Id (`tracing.request_ids`)"""
    trace: NDArray[np.uint64]
    """(n, 2) trace id as (n, 16) bytes on the wire; 0 until tracing has decided"""
    parent: NDArray[np.uint64]
    """(n,) parent span id, bytes as on the wire; 0 = root or not decided"""
    link: NDArray[np.uint8]
    """(n,) Link: how `parent` was found, or, where that is 0, the span in `like_span`"""
    confidence: NDArray[np.uint8]
    """(n,) of that, in percent; 100: certain"""
    candidates: NDArray[np.uint8]
    """(n,) how many spans it could have been, 255 or more: 255"""
    like_trace: NDArray[np.uint64]
    like_span: NDArray[np.uint64]
    """(n, 2), (n,) the likely parent, for an OTLP span link: not certain enough for `parent`; 0: none"""

    def __len__(self) -> int:
        return len(self.span_id)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Spans:
        """The given rows (index array or mask) as a batch of their own, which holds no other row's text alive."""
        picked = {name: getattr(self, name)[rows] for name in COLUMNS}
        lengths = picked["slot_length"].astype(np.int64).ravel()
        starts = picked["slot_start"].ravel()
        ends = np.cumsum(lengths)
        begins = ends - lengths
        total = int(ends[-1]) if len(ends) else 0
        source = np.arange(total, dtype=np.int64) + np.repeat(starts - begins, lengths)
        picked["slot_start"] = begins.reshape(-1, SLOTS)
        return Spans(text=self.text[source], **picked)

    def part(self, begin: int, end: int) -> Spans:
        """Rows that follow each other, without a copy: all texts stay alive."""
        return Spans(text=self.text, **{name: getattr(self, name)[begin:end] for name in COLUMNS})

    @staticmethod
    def concat(batches: Sequence[Spans]) -> Spans:
        """All rows of all batches, in order; an empty sequence gives an empty batch."""
        if not batches:
            return Spans.empty()
        if len(batches) == 1:
            return batches[0]
        offset = 0
        starts = []
        for batch in batches:
            starts.append(batch.slot_start + offset)
            offset += len(batch.text)
        joined = {name: np.concatenate([getattr(b, name) for b in batches]) for name in (*COLUMNS, "text")}
        joined["slot_start"] = np.concatenate(starts)
        return Spans(**joined)

    @staticmethod
    def room(n: int) -> Spans:
        """n rows that are still to be written, without text."""
        columns = {name: np.empty((n, *shape), dtype) for name, (dtype, shape) in COLUMNS.items()}
        return Spans(text=np.zeros(0, np.uint8), **columns)

    @staticmethod
    def empty(n: int = 0) -> Spans:
        """n rows of zeros, shape -1."""
        columns = {name: np.zeros((n, *shape), dtype) for name, (dtype, shape) in COLUMNS.items()}
        for name in ("shape", "resource", "endpoint"):
            columns[name] -= 1
        return Spans(text=np.zeros(0, np.uint8), **columns)


_OTHER_COLUMNS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "slot_start": (np.int64, (SLOTS,)),
    "slot_length": (np.int32, (SLOTS,)),
    "remote_trace": (np.uint64, (2,)),
    "trace": (np.uint64, (2,)),
    "like_trace": (np.uint64, (2,)),
    "peer_port": (np.uint16, ()),
    **dict.fromkeys(("shape", "resource", "endpoint"), (np.int32, ())),
    **dict.fromkeys(("kind", "remote_link", "remote_flags", "link", "confidence", "candidates"), (np.uint8, ())),
    **dict.fromkeys(("seq", "flags", "tgid", "tid_req", "tid_rsp"), (np.uint32, ())),
}
COLUMNS = {f.name: _OTHER_COLUMNS.get(f.name, (np.uint64, ())) for f in fields(Spans) if f.name != "text"}
"""What `Spans` has for each row: dtype, and shape of one item; (uint64, ()) unless told otherwise."""
