"""From frames to exchanges: each stream of an HTTP/2 connection is one request and its response (RFC 9113 §8.1).

Theory of operation. Every end of a connection tells the frames that it sends and receives, each direction numbered. The
rings in which they come are read one after the other, so what is missing in a read may come with the next one, and what
came behind it waits for that; what is missing then is lost. Header blocks are decoded in their order, each direction
with its own table (hpack.py). A stream that is open is known by its number:

    request's HEADERS   opens it; nothing else does: of what was under way when we came, nothing is told
    response's HEADERS  answers it, unless it is interim (1xx); later ones are trailers
    DATA                goes on with the request or the response
    the response's end  makes it an exchange, and so do RST_STREAM and the connection's end; a tunnel (CONNECT) is made
                        one by the response's head, since what follows is no response

The head of a message is handed on in the form of HTTP/1 (message.py), by which module it is to be read is told by the
stream's content-type. An exchange of which it cannot be known whether it was answered is not told, but counted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Exchanges, Flag, Frames
from otel_ebpf.protocols.grpc import NOT_KNOWN, cut_off, given_up
from otel_ebpf.protocols.http2 import message
from otel_ebpf.protocols.http2.frames import (
    BEGINS,
    CLOSED,
    CUT,
    DATA,
    END_STREAM,
    ENDS,
    HEADERS,
    LOST,
    REQUEST,
    RESET,
    Frame,
    by_connection,
)
from otel_ebpf.protocols.http2.hpack import Table
from otel_ebpf.protocols.http2.message import Request, Response
from otel_ebpf.protocols.http2.rows import Ended, Stream, exchanges
from otel_ebpf.protocols.memory import Recent

CONNECTIONS, STREAMS, STREAMS_OF_ONE = 1 << 14, 1 << 14, 1 << 12
"""At most so many connections are known, and streams open; of more, those that were silent for longest are given up."""
TABLES = 1 << 23
"""Octets of all tables of header fields, as they count them, and of all blocks that are not whole."""
EARLY = 64
"""Records of responses that came before their requests."""
BLOCK = 1 << 16
"""Octets of a header block that comes in pieces."""
SLOW_NS = 3 * 10**9
"""A request that is open for longer is waited for by fewer: as SLOW_NS in bpf/include/pair.h."""
NO_ERROR, CANCEL = 0, 8
"""RFC 9113 §7."""
_REMEMBERED, _REMEMBERED_BLOCK = 2048, 256
"""Heads that are read once, and the length of their blocks."""
_UNKNOWN = Response(0, certain=False)
_ALL = 0xFFFFFFFF
_SERVER, _LAST, _RESET, _MIDSTREAM = (int(f) for f in (Flag.SERVER, Flag.LAST, Flag.RESET, Flag.MIDSTREAM))
_OPEN_SINCE = np.dtype([("t", "<u8"), ("recent", "<u8")])
_NEVER = 2**64 - 1


class _Direction:
    """What one side of a connection says: its table, and the pieces of a header block that is not whole.

    expected: the number of its next record.
    """

    __slots__ = ("block", "expected", "first", "lost", "size", "table")

    def __init__(self, fresh: bool) -> None:
        self.table = Table(fresh)
        self.expected = 0
        self.first: Frame | None = None
        self.block: list[bytes] = []
        self.size = 0
        self.lost = False

    @property
    def octets(self) -> int:
        return self.table.size + self.size

    def forget(self) -> None:
        self.table.forget()
        self.first, self.block, self.size = None, [], 0


class _Connection:
    """early: what was told of responses to streams that are not open yet. doubtful: since records were lost none came
    of responses."""

    __slots__ = ("doubtful", "early", "held", "highest", "octets", "requests", "responses", "streams")

    def __init__(self, fresh: bool) -> None:
        self.requests, self.responses = _Direction(fresh), _Direction(fresh)
        self.streams: dict[int, Stream] = {}
        self.held: list[Frame] = []
        self.highest = 0
        self.octets = 0
        self.early: list[tuple[Frame, Frame, Response | None]] = []
        self.doubtful = False


class Streams:
    """Makes exchanges of frames.

    exchange: dtype of `struct exchange`. timeout_ns: after which a whole request without any response is told as
    unanswered; one of gRPC may wait for as long as it likes.

    losses: what is not told, by reason: "frames_missing" (places in connections), "header_block" (blocks that could
    not be decoded), "no_method" (requests), "stream_not_followed" (streams whose end is not known),
    "too_many_streams", "too_many_connections".
    """

    def __init__(self, exchange: np.dtype[np.void], timeout_ns: int = 60 * 10**9) -> None:
        self._dtype = exchange
        self._timeout = timeout_ns
        self._connections: OrderedDict[int, _Connection] = OrderedDict()
        self._waiting: set[int] = set()
        """connections with frames that wait for what is missing before them"""
        self._busy: set[int] = set()
        """connections with open streams"""
        self._open = 0
        self._octets = 0
        self._checked = 0
        self._heads: Recent[tuple[int, bool, bytes], Request | Response | None] = Recent(_REMEMBERED)
        reasons = ("frames_missing", "header_block", "no_method", "stream_not_followed")
        self.losses = dict.fromkeys((*reasons, "too_many_streams", "too_many_connections"), 0)

    def __len__(self) -> int:
        """How many streams are open."""
        return self._open

    @property
    def pending(self) -> bool:
        """Whether frames wait for others, so that `read` is to be called even if there are no new ones."""
        return bool(self._waiting)

    def read(self, frames: Sequence[Frames], now: int) -> list[Exchanges]:
        """The exchanges that ended with these frames, which are all that there were at CLOCK_MONOTONIC `now`."""
        ended: list[Ended] = []
        came = by_connection(frames)
        for conn in self._waiting.difference(came):
            came[conn] = []
        self._waiting.clear()
        for conn, new in came.items():
            self._feed(conn, new, ended)
        self._time_out(now, ended)
        self._bound()
        return exchanges(ended, self._dtype)

    def finish(self) -> list[Exchanges]:
        """Nothing more will be read: what is being answered is told as it is."""
        ended: list[Ended] = []
        for conn, one in self._connections.items():
            for number, stream in one.streams.items():
                if stream.answered is not None:
                    ended.append(Ended(stream, conn, number, 0, status=NOT_KNOWN))
        self._connections.clear()
        self._waiting.clear()
        self._busy.clear()
        self._open = self._octets = 0
        return exchanges(ended, self._dtype)

    def open_since(
        self, known: tuple[NDArray[np.uint32], NDArray[np.void] | None], now: int
    ) -> tuple[NDArray[np.uint32], NDArray[np.void] | None]:
        """As `Drain.open_since`, with the streams that are open at servers beside what is `known` already."""
        since: dict[int, tuple[int, int]] = {}
        for conn in self._busy:
            for stream in self._connections[conn].streams.values():
                if stream.holed or not stream.opened.flags & _SERVER:
                    continue
                t, tgid = stream.opened.t, stream.opened.tgid
                recent = t if now - t < SLOW_NS else _NEVER
                before = since.get(tgid, (_NEVER, _NEVER))
                since[tgid] = min(t, before[0]), min(recent, before[1])
                if recent != _NEVER:
                    break  # all others of the connection were opened later
        if not since:
            return known
        if known[1] is not None:
            columns = (known[1]["t"].tolist(), known[1]["recent"].tolist())
            for tgid, t, recent in zip(known[0].tolist(), *columns, strict=True):
                before = since.get(tgid, (_NEVER, _NEVER))
                since[tgid] = min(t, before[0]), min(recent, before[1])
        return np.array(list(since), np.uint32), np.array(list(since.values()), _OPEN_SINCE)

    # The order of frames

    def _feed(self, conn: int, new: list[Frame], ended: list[Ended]) -> None:
        """Frames of one connection, in their order."""
        one = self._connections.get(conn)
        if one is None:
            first = new[0]
            one = self._connections[conn] = _Connection(fresh=not first.flags & _MIDSTREAM)
        self._connections.move_to_end(conn)
        held, one.held = one.held, []
        waited = {(frame.bits & REQUEST, frame.n) for frame in held}
        frames = sorted((*held, *new), key=lambda frame: (frame.t_end, frame.n)) if held else new
        for i, frame in enumerate(frames):
            side = one.requests if frame.bits & REQUEST else one.responses
            ahead = (frame.n - side.expected) & _ALL
            if 0 < ahead < 2**31:
                if (frame.bits & REQUEST, frame.n) not in waited:
                    one.held = frames[i:]
                    self._waiting.add(conn)
                    break
                self._missing(one, side)
            if ahead < 2**31:
                side.expected = (frame.n + 1) & _ALL
            if frame.kind == CLOSED:
                self._close(conn, one, frame, ended)
                return
            self._take(conn, one, frame, ended)
        octets = one.requests.octets + one.responses.octets
        self._octets += octets - one.octets
        one.octets = octets
        (self._busy.add if one.streams else self._busy.discard)(conn)

    def _missing(self, one: _Connection, side: _Direction) -> None:
        self.losses["frames_missing"] += 1
        side.forget()
        if side is one.requests:
            return
        one.doubtful = True
        for stream in one.streams.values():
            stream.holed = True

    def _take(self, conn: int, one: _Connection, frame: Frame, ended: list[Ended]) -> None:
        asks = frame.bits & REQUEST
        if frame.kind == HEADERS:
            self._piece(conn, one, frame, ended)
        elif frame.kind == DATA:
            if not asks:
                self._respond(conn, one, frame, frame, None, ended)
                return
            stream = one.streams.get(frame.stream)
            if stream is not None:
                stream.req_bytes += frame.size
                stream.t_req_end = frame.t_end
                stream.asked |= bool(frame.bits & END_STREAM)
        elif frame.kind == RESET and not asks:
            self._respond(conn, one, frame, frame, None, ended)
        elif frame.kind == RESET:
            stream = one.streams.get(frame.stream)
            if stream is not None:
                self._reset(conn, one, stream, frame, ended)
        elif frame.kind == LOST:
            (one.requests if asks else one.responses).lost = True
            (one.requests if asks else one.responses).forget()
            if not asks:
                self.losses["stream_not_followed"] += len(one.streams)
                self._open -= len(one.streams)
                one.streams.clear()

    # Header blocks

    def _piece(self, conn: int, one: _Connection, frame: Frame, ended: list[Ended]) -> None:
        """A piece of a header block; with its last one it is read."""
        side = one.requests if frame.bits & REQUEST else one.responses
        if frame.bits & BEGINS:
            if side.first is not None:  # the rest of the one before was lost
                side.forget()
            side.first, side.block, side.size = frame, [frame.block], len(frame.block)
            first = frame
        elif side.first is None:
            self._block(conn, one, side, frame, frame, None, ended)
            return
        else:
            first = side.first
            first.size += frame.size
            first.bits |= frame.bits & END_STREAM
            side.block.append(frame.block)
            side.size += len(frame.block)
        cut = bool(frame.bits & CUT) or side.size > BLOCK
        if cut or frame.bits & ENDS:
            block = b"".join(side.block)
            side.first, side.block, side.size = None, [], 0
            first.block = b""
            self._block(conn, one, side, first, frame, (block, cut), ended)

    def _block(
        self,
        conn: int,
        one: _Connection,
        side: _Direction,
        first: Frame,
        last: Frame,
        block: tuple[bytes, bool] | None,
        ended: list[Ended],
    ) -> None:
        """A header block, from `first` to `last`. block: its bytes, and whether more are missing; None: all are."""
        asks = bool(first.bits & REQUEST)
        head = self._head(side.table, asks, *block) if block is not None else None
        if block is None:
            side.table.forget()
        number = first.stream
        if not number & 1:  # RFC 9113 §5.1.1: pushed by the server, or no stream at all
            return
        stream = one.streams.get(number)
        if asks:
            if stream is not None:  # trailers
                stream.req_bytes += first.size
                stream.t_req_end = last.t_end
                stream.asked |= bool(first.bits & END_STREAM)
            elif isinstance(head, Request):
                self._open_stream(conn, one, first, last, head, ended)
            elif number > one.highest:
                self.losses["no_method"] += 1
            one.highest = max(one.highest, number)
            return
        self._respond(conn, one, first, last, head if isinstance(head, Response) else None, ended)

    def _respond(
        self, conn: int, one: _Connection, first: Frame, last: Frame, head: Response | None, ended: list[Ended]
    ) -> None:
        """A header block, DATA or RST_STREAM from the server. head: of a block, None: not known."""
        one.doubtful = False
        number = first.stream
        stream = one.streams.get(number)
        if stream is None:
            if number > one.highest and number & 1 and len(one.early) < EARLY:
                one.early.append((first, last, head))
        elif first.kind == RESET:
            self._reset(conn, one, stream, first, ended)
        elif first.kind == DATA:
            if stream.answered is None:  # its head was lost
                stream.answered, stream.response = first, _UNKNOWN
            stream.rsp_bytes += first.size
            stream.t_rsp_end = first.t_end
            if first.bits & END_STREAM:
                self._end(conn, one, number, 0, ended)
        else:
            self._answer(conn, one, stream, first, last, head or _UNKNOWN, ended)

    def _answer(
        self, conn: int, one: _Connection, stream: Stream, first: Frame, last: Frame, head: Response, ended: list[Ended]
    ) -> None:
        """A header block from the server: an interim response, the response's head, or its trailers."""
        if stream.answered is None or self._was_interim(stream, first):
            if 100 <= head.status < 200:  # RFC 9110 §15.2
                return
            stream.answered, stream.response, stream.rsp_bytes = first, head, 0
        else:
            stream.trailers = head
        stream.rsp_bytes += first.size
        stream.t_rsp_end = last.t_end
        if first.bits & END_STREAM or (stream.request.connect and 200 <= head.status < 300):
            self._end(conn, one, first.stream, 0, ended)

    @staticmethod
    def _was_interim(stream: Stream, frame: Frame) -> bool:
        """Whether the head before was no response, since this one is not the end, and so no trailers."""
        unknown = stream.response is None or not stream.response.status
        return (
            unknown and not frame.bits & END_STREAM and stream.answered is not None and stream.answered.kind == HEADERS
        )

    def _head(self, table: Table, asks: bool, block: bytes, cut: bool) -> Request | Response | None:
        """What a block says; equal blocks in equal tables say the same."""
        version = table.version
        key = (version, asks, block)
        known = self._heads.get(key) if not cut else None
        if known is not None:
            return known
        errors = table.errors
        fields = table.decode(block, cut)
        wrong = table.errors > errors
        self.losses["header_block"] += wrong
        head = message.request(fields, cut or wrong) if asks else message.response(fields, cut or wrong)
        if table.version == version and len(block) <= _REMEMBERED_BLOCK and head is not None:
            self._heads[key] = head
        return head

    # Streams

    def _open_stream(
        self, conn: int, one: _Connection, first: Frame, last: Frame, head: Request, ended: list[Ended]
    ) -> None:
        if one.responses.lost:
            self.losses["stream_not_followed"] += 1
            return
        if len(one.streams) >= STREAMS_OF_ONE:
            del one.streams[next(iter(one.streams))]
            self._open -= 1
            self.losses["too_many_streams"] += 1
        ends = bool(first.bits & END_STREAM)
        one.streams[first.stream] = Stream(first, head, first.size, last.t_end, ends, holed=one.doubtful)
        self._open += 1
        if one.early:  # a sender's call may end when its answer has been received by another thread
            early, one.early = one.early, []
            for told in early:
                if told[0].stream >= first.stream:
                    self._respond(conn, one, *told, ended)

    def _end(
        self,
        conn: int,
        one: _Connection,
        number: int,
        flags: int,
        ended: list[Ended],
        code: int = -1,
        status: int | None = None,
    ) -> None:
        stream = one.streams.pop(number)
        self._open -= 1
        ended.append(Ended(stream, conn, number, flags, code, status))

    def _reset(self, conn: int, one: _Connection, stream: Stream, frame: Frame, ended: list[Ended]) -> None:
        """RST_STREAM. A client that has its response, or as much of it as it wants, says NO_ERROR or CANCEL."""
        by_client = bool(frame.bits & REQUEST)
        status = given_up(frame.error, by_client, frame.t - stream.opened.t, stream.request.timeout)
        code = frame.error
        if stream.answered is not None and by_client and code in (NO_ERROR, CANCEL):
            code = -1
        stream.t_rsp_end = max(stream.t_rsp_end, frame.t)
        if stream.opened.flags & _SERVER:
            stream.handler = frame.unit
        self._end(conn, one, frame.stream, 0, ended, code, status)

    def _close(self, conn: int, one: _Connection, frame: Frame, ended: list[Ended]) -> None:
        """The connection has ended, and with it all that was in progress."""
        flags = frame.flags & _RESET
        for number, stream in list(one.streams.items()):
            if stream.holed and stream.answered is None:
                self.losses["stream_not_followed"] += 1
                del one.streams[number]
                self._open -= 1
                continue
            stream.t_rsp_end = max(stream.t_rsp_end, frame.t)
            status = cut_off(bool(stream.opened.flags & _SERVER))
            self._end(conn, one, number, flags, ended, status=status)
        if ended and ended[-1].conn == conn:
            ended[-1].flags |= _LAST
        self._forget(conn)

    def _time_out(self, now: int, ended: list[Ended]) -> None:
        if now - self._checked < self._timeout // 16:
            return
        self._checked = now
        for conn in list(self._busy):
            one = self._connections[conn]
            late = [
                number
                for number, stream in one.streams.items()
                if stream.answered is None
                and stream.asked
                and stream.request.grpc is False
                and now - stream.t_req_end > self._timeout
            ]
            for number in late:
                if one.streams[number].holed:
                    self.losses["stream_not_followed"] += 1
                    del one.streams[number]
                    self._open -= 1
                else:
                    self._end(conn, one, number, 0, ended)

    def _bound(self) -> None:
        """Give up connections that were silent for longest, until all bounds hold."""
        while len(self._connections) > CONNECTIONS or self._open > STREAMS or self._octets > TABLES:
            conn, one = next(iter(self._connections.items()))
            self.losses["too_many_connections"] += 1
            self.losses["too_many_streams"] += len(one.streams)
            self._open -= len(one.streams)
            self._forget(conn)

    def _forget(self, conn: int) -> None:
        one = self._connections.pop(conn)
        self._octets -= one.octets
        self._busy.discard(conn)
        self._waiting.discard(conn)
