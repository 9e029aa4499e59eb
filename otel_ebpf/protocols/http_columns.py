"""HTTP for whole batches: everything that http.py reads of one exchange, by columns.

A row is read here if it holds one request in origin-form whose request line was kept whole, and a final response that
was kept up to its status, or none. All others (absolute-form, pipelined, interim responses, odd methods …) get shape -1
and go through `Plain`, one by one. Texts that need redaction or are not ASCII are the only Python step per row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import SLOTS, STREAM, Flag
from otel_ebpf.protocols.base import Options, Reading
from otel_ebpf.protocols.extras import Batch, Columns, Interning, Told
from otel_ebpf.protocols.headers import Lines, Values, numbers
from otel_ebpf.protocols.http import METHODS, PATH, QUERY, TARGET, Kind, Plain, split_host
from otel_ebpf.protocols.memo import Memo, gather, hash_rows, mix
from otel_ebpf.protocols.texts import Texts

HOSTS, AGENTS, ODD_METHODS = 1024, 128, 32
"""How many different texts of a kind may become part of shapes within RENEW_NS; the rest is left out, and counted."""
_SHAPES = 1 << 15
# Plain numbers: numpy takes three times as long with members of a Flag.
_SERVER, _TLS, _UNANSWERED, _RESET = (int(f) for f in (Flag.SERVER, Flag.TLS, Flag.UNANSWERED, Flag.RESET))
_STREAM = np.uint32(STREAM)
_FEW, _PATHS = 512, 1 << 13
"""A batch of at most so many rows, whose fixed cost counts, asks first for paths that were in such a batch before."""
_VERSIONS = ("1.0", "1.1", "2")
_FAILURES = ("", "no_response", "connection_reset")
_HIGH = np.uint64(0x8080808080808080)
_QUESTION, _AMPERSAND, _SEMICOLON, _BLANK, _SLASH = 63, 38, 59, 32, 47


def _word(text: bytes) -> np.uint64:
    word: np.uint64 = np.uint64(int.from_bytes(text[:8].ljust(8, b"\0"), "little"))
    return word


_NEWER, _OLDER, _STREAMED = _word(b"HTTP/1.1"), _word(b"HTTP/1.0"), _word(b"HTTP/2.0")
_METHOD_WORDS = [
    (i, _word(f"{method} ".encode()), np.uint64((1 << 8 * min(len(method) + 1, 8)) - 1))
    for i, method in enumerate(METHODS)
]
_METHOD_SIZES = np.array([len(m) for m in METHODS], np.intp)


class HttpReader:
    """Reader of the registry's Http module; see `extras.Reader`."""

    compared = 16

    def __init__(self, options: Options, intern: Interning) -> None:
        self._intern = intern
        self._texts = {
            "host": Texts(HOSTS, lambda host: split_host(host) is not None),
            "agent": Texts(AGENTS),
            "method": Texts(ODD_METHODS),
        }
        self._plain = Plain(options, keep=self._keep)
        self._routes = self._plain.routes
        self._shapes = Memo(_SHAPES)
        self._paths = Memo(_PATHS)
        self._collapses = 0

    def _keep(self, kind: str, text: bytes) -> str:
        table = self._texts[kind]
        return table.texts.get(table.number(text), "")

    @property
    def left_out(self) -> dict[str, int]:
        counts = {kind: table.left_out for kind, table in self._texts.items()}
        return {**counts, "route": self._routes.overflows}

    @property
    def changed(self) -> int:
        return self._routes.collapses + len(self._routes.names)

    def forget(self, shape: int) -> None:
        self._shapes.forget(shape)

    def read_one(self, request: bytes, response: bytes, told: Told) -> Reading | None:
        return self._plain.read(request, response, told)

    def detect(self, request: NDArray[np.uint8], response: NDArray[np.uint8]) -> NDArray[np.bool_]:
        n = len(request)
        if request.shape[1] < 16 or response.shape[1] < 16:
            return np.zeros(n, np.bool_)
        method = _methods(_first_words(request))
        status, good = _status(response)
        silent = (response[:, :8] == 0).all(1)
        likely = (method >= 0) & ((good & (status > 0)) | silent)
        rows = likely.nonzero()[0]
        if len(rows):
            lines = Lines.of(request[rows])
            end = np.arange(len(rows)) * lines.width + lines.first - 8
            word = lines.words[np.maximum(end, 0)]
            likely[rows] = (lines.first > 12) & ((word == _NEWER) | (word == _OLDER))
        result: NDArray[np.bool_] = likely
        return result

    def read(self, batch: Batch) -> Columns:
        n, width = batch.request.shape
        if n:
            width = min(width, -(-int(batch.head["req_cap"].max()) // 8) * 8)  # the rest of each row is zero
        lines = Lines.of(batch.request[:, :width])
        if not n or width < 16 or batch.response.shape[1] < 16:
            return _nothing(n, lines)
        flat, base = lines.flat, np.arange(n) * width
        words = flat[: n * width].view("<u8").reshape(n, width // 8)
        method = _methods(words[:, 0])
        begin = _METHOD_SIZES[method] + 1
        end = lines.first - 9  # in front of " HTTP/1.1"
        at = np.maximum(base + end, 0)
        version = lines.words[at + 1]
        flags = batch.head["flags"]
        streamed = bool(flags[0] & _STREAM)  # a batch has either streams or none
        newer = version == (_STREAMED if streamed else _NEWER)
        good = (method >= 0) & (end > begin) & (newer | (version == _OLDER) & (not streamed)) & (flat[at] == _BLANK)
        good &= flat[base + begin] == _SLASH
        status, fits = _status(batch.response, streamed)
        good &= fits
        if streamed:
            good &= batch.head["seq_rsp"] == 0
        else:
            self._one_request(batch, lines, good)
        good &= method != METHODS.index("CONNECT")

        for table in self._texts.values():
            table.renew(int(batch.head["t_req"][-1]))
        host = self._texts["host"].find(lines, lines.values(b"host:"), n)
        good &= host > 0
        rows = good.nonzero()[0]
        if not len(rows):
            return _nothing(n, lines)
        server = (flags & _SERVER) > 0
        agent = self._texts["agent"].find(lines, _of(lines.values(b"user-agent:"), server), n)

        widest = int(end[rows].max())
        size, mark = end - begin, _question(flat, n, width, widest, begin, end)
        asked = mark >= 0
        path = np.where(asked, mark - begin, size)
        route = np.full(n, -1, np.int64)
        served = (good & server).nonzero()[0]
        if len(served):
            route[served] = self._route(batch, words, served, begin, path, status, flat, base)

        silent = status == 0
        failure = np.where(silent & ((flags & _UNANSWERED) > 0), 1 + ((flags & _RESET) > 0), 0)
        tls = (flags & _TLS) > 0
        small = method | newer.astype(np.int64) << 4 | tls.astype(np.int64) << 5 | failure << 6 | status << 8
        small |= int(streamed) << 20
        shape = np.full(n, -1, np.int32)
        shape[rows] = self._shape(small[rows], host[rows], agent[rows], route[rows] + 1)

        starts, lengths = np.zeros((n, SLOTS), np.int64), np.zeros((n, SLOTS), np.int32)
        text, begins = gather(flat, (base + begin)[rows], size[rows])
        starts[rows, TARGET] = starts[rows, PATH] = begins
        starts[rows, QUERY] = begins + path[rows] + 1
        lengths[rows, TARGET], lengths[rows, PATH] = size[rows], path[rows]
        lengths[rows, QUERY] = np.where(asked, size - path - 1, 0)[rows]
        text = self._clean(text[:-8], rows, words, widest, flat, n, width, begin, mark, end, starts, lengths)
        return Columns(shape, starts, lengths, text, lines)

    def complete(self, batch: Batch) -> NDArray[np.int8]:
        n, width = batch.response.shape
        result = np.full(n, -1, np.int8)
        if not n or width < 16 or batch.request.shape[1] < 8:
            return result
        status, fits = _status(batch.response)
        lines = Lines.of(batch.response)
        known = fits & (status >= 200) & (lines.block > 0)
        values = lines.values(b"content-length:")
        length = np.full(n, -1, np.int64)
        length[values.row] = numbers(lines, values)
        chunked = lines.row[lines.lines(b"transfer-encoding:")]
        length[chunked] = -1
        told = known & (length >= 0)
        result[told] = (batch.head["rsp_bytes"].astype(np.int64) >= lines.block + length)[told]
        head = _methods(_first_words(batch.request)) == METHODS.index("HEAD")
        result[known & (head | (status == 204) | (status == 304))] = 1
        for i in chunked[known[chunked]].tolist():
            head_row = batch.head[i]
            if head_row["rsp_cap"] == head_row["rsp_bytes"] and result[i] < 0:
                whole = batch.response[i, : head_row["rsp_cap"]].tobytes()
                result[i] = 1 if whole.endswith(b"\n0\r\n\r\n") else -1
        return result

    def _one_request(self, batch: Batch, lines: Lines, good: NDArray[np.bool_]) -> None:
        """Take out of `good` the rows in which something follows the request."""
        beyond = batch.head["req_bytes"].astype(np.int64) - lines.block
        more = good & (lines.block > 0) & (beyond > 0)
        if not more.any():
            return
        body = np.zeros(len(good), np.int64)
        values = lines.values(b"content-length:")
        body[values.row] = numbers(lines, values)
        body[lines.row[lines.lines(b"transfer-encoding:")]] = 1 << 62  # its end is not looked for
        good &= ~(more & (body < beyond))

    def _route(
        self,
        batch: Batch,
        words: NDArray[np.uint64],
        rows: NDArray[np.intp],
        begin: NDArray[np.intp],
        path: NDArray[np.intp],
        status: NDArray[np.int64],
        flat: NDArray[np.uint8],
        base: NDArray[np.intp],
    ) -> NDArray[np.int64]:
        """Number of the route of each of the rows; each distinct path is looked at once."""
        end = (begin + path)[rows]
        keys = hash_rows(words[rows, : (int(end.max()) + 7) // 8], end)
        connection = batch.row[rows]
        service = batch.table["netns"][connection].astype(np.uint64) << np.uint64(16)
        service |= batch.table["local_port"][connection]
        keys = mix(keys, service)
        small = len(rows) <= _FEW
        if small:
            if self._collapses != self._routes.collapses:
                self._paths, self._collapses = Memo(_PATHS), self._routes.collapses
            known = self._paths.find(keys)
            if known.min() >= 0:
                return known
        distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        teaches = np.zeros(len(first), np.bool_)
        teaches[inverse[status[rows] != 404]] = True
        one = rows[first]
        found = self._routes.find(flat, (base + begin)[one], path[one], service[first], teaches)
        if small:
            new = (found >= 0) & (known[first] < 0)
            self._paths.add(distinct[new], found[new])
        result: NDArray[np.int64] = found[inverse]
        return result

    def _shape(
        self,
        small: NDArray[np.int64],
        host: NDArray[np.int64],
        agent: NDArray[np.int64],
        route: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """(k,) id of each row's Fields; those of a new combination are made."""
        keys = mix(small.astype(np.uint64), (host << 32 | agent).astype(np.uint64), route.astype(np.uint64))
        found = self._shapes.find(keys)
        self._intern.touch(self._shapes.recent().tolist())
        new = (found < 0).nonzero()[0]
        if not len(new):
            return found
        distinct, first, inverse = np.unique(keys[new], return_index=True, return_inverse=True)
        ids = np.zeros(len(distinct), np.int64)
        hosts, agents = self._texts["host"].texts, self._texts["agent"].texts
        for i, row in enumerate(new[first].tolist()):
            number = int(small[row])
            kind = Kind(
                METHODS[number & 15],
                _VERSIONS[2 if number >> 20 else number >> 4 & 1],
                "https" if number >> 5 & 1 else "http",
                hosts[int(host[row])],
                self._routes.names[int(route[row]) - 1] if route[row] else "",
                agents.get(int(agent[row]), ""),
                number >> 8 & 1023,
                _FAILURES[number >> 6 & 3],
            )
            ids[i] = self._intern.id(kind.fields())
        self._shapes.add(distinct, ids)
        found[new] = ids[inverse]
        return found

    def _clean(
        self,
        text: NDArray[np.uint8],
        rows: NDArray[np.intp],
        words: NDArray[np.uint64],
        widest: int,
        flat: NDArray[np.uint8],
        n: int,
        width: int,
        begin: NDArray[np.intp],
        mark: NDArray[np.intp],
        end: NDArray[np.intp],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int32],
    ) -> NDArray[np.uint8]:
        """The texts, with those that hold secrets or are no ASCII replaced by what `Plain` makes of them."""
        odd = np.zeros(n, np.bool_)
        high = words[:, : widest // 8 + 1] & _HIGH
        if high.any():
            odd |= high.any(1)
        redactor = self._plain.redactor
        if redactor is not None:
            line = flat[: n * width].reshape(n, width)[:, :widest]
            semicolon = line == _SEMICOLON
            asked = (mark >= 0).nonzero()[0]
            if len(asked):
                part = line if len(asked) == n else line[asked]
                part = (part == _AMPERSAND) | (semicolon if len(asked) == n else semicolon[asked])
                part[np.arange(len(asked)), np.minimum(mark[asked], widest - 1)] = True
                hit = part.ravel().nonzero()[0]
                row, column = asked[hit // widest], hit % widest
                inside = (column >= mark[row]) & (column < end[row])
                row, column = row[inside], column[inside]
                odd[row[redactor.candidates(flat, row * width + column + 1)]] = True
            if semicolon.any():
                odd |= semicolon.any(1)
        rewrite = rows[odd[rows]]
        if not len(rewrite):
            return text
        parts, at = [text], len(text)
        for i in rewrite.tolist():
            raw = flat[i * width + begin[i] : i * width + end[i]].tobytes().decode("utf-8", "replace")
            path, question, query = raw.partition("?")
            if redactor is not None:
                path, query = redactor.path(path), redactor.query(query)
            encoded = [t.encode() for t in (path + question + query, path, query)]
            starts[i] = at, at, at + len(encoded[1]) + len(question)
            lengths[i] = [len(t) for t in encoded]
            parts.append(np.frombuffer(encoded[0], np.uint8))
            at += len(encoded[0])
        return np.concatenate(parts)


def _nothing(n: int, lines: Lines) -> Columns:
    slots = np.zeros((n, SLOTS), np.int64)
    return Columns(np.full(n, -1, np.int32), slots, slots.astype(np.int32), np.zeros(0, np.uint8), lines)


def _of(values: Values, wanted: NDArray[np.bool_]) -> Values:
    """The values of the wanted rows."""
    pick = wanted[values.row]
    return values if pick.all() else Values(values.row[pick], values.start[pick], values.length[pick])


def _first_words(matrix: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(matrix[:, :8]).view("<u8").ravel()


def _methods(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(n,) index into METHODS by the first 8 bytes of each request; -1: none of them."""
    method = np.full(len(words), -1, np.int64)
    left: NDArray[np.intp] | slice = slice(None)
    for index, word, mask in _METHOD_WORDS:
        open_words = words[left]
        if not len(open_words):
            break
        hit = (open_words & mask) == word
        if not hit.any():
            continue
        rows = hit.nonzero()[0] if isinstance(left, slice) else left[hit]
        method[rows] = index
        left = (method < 0).nonzero()[0]
    return method


def _status(response: NDArray[np.uint8], streamed: bool = False) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(n,) status and whether it can be relied on: a final status, or 0 for a response without any bytes."""
    word = _first_words(response)
    tail = np.ascontiguousarray(response[:, 8:16]).view("<u8").ravel()
    # A blank and three digits: high halves of the bytes 2 3 3 3, low halves of the digits at most 9.
    low = tail & np.uint64(0x0F0F0F00)
    proper = ((tail & np.uint64(0xF0F0F0FF)) == np.uint64(0x30303020)) & (
        ((low + np.uint64(0x06060600)) & np.uint64(0xF0F0F000)) == 0
    )
    status = ((low >> np.uint64(8) & np.uint64(15)) * 100 + (low >> np.uint64(16) & np.uint64(15)) * 10).astype(
        np.int64
    )
    status += (low >> np.uint64(24)).astype(np.int64)
    proper &= (word == _STREAMED if streamed else (word == _NEWER) | (word == _OLDER)) & (status >= 200)
    return np.where(proper, status, 0), proper | ((word == 0) & (tail == 0))


def _question(
    flat: NDArray[np.uint8], n: int, width: int, widest: int, begin: NDArray[np.intp], end: NDArray[np.intp]
) -> NDArray[np.intp]:
    """(n,) column of the first `?` of each target; -1: none."""
    marks = flat[: n * width].reshape(n, width)[:, :widest] == _QUESTION
    at = marks.argmax(1)
    found = marks[np.arange(n), at] & (at >= begin) & (at < end)
    return np.where(found, at, -1)
