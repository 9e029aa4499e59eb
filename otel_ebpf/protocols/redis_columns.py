"""Redis for whole batches: everything that redis.py reads of plain commands and their replies, by columns.

Theory of operation. A batch's requests are one run of bytes, cut into lines at every CRLF. A plain command is the line
`*c`, then c times the line `$length` and a line that is so long. That is not walked but guessed and then proved: each
line that looks like `*c` is taken for a command's first, and a row is read here only if its first line is one, after
each such line the next one, or the row's end, comes exactly 2c lines later, and every other line between them states
the length of the one behind it. By induction from the row's first line no byte of a value can pass for structure.
Replies likewise: the line behind a `$length` is data, and a row where data looks like a length is not read here.

A text is what stays of the payload when lengths are taken out: values are copied with the byte before them, which has
become a blank; a hidden one with its first byte, which has become a `?`.

Rows that are anything else (values with line breaks, inline commands, transactions, pushes, CLIENT REPLY, what was cut)
have count 0 and go through `Redis.parse`, which says the same of all the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import SLOTS, Flag
from otel_ebpf.otlp.columns import factorize
from otel_ebpf.protocols import redis_commands as table
from otel_ebpf.protocols.base import Fields, Session
from otel_ebpf.protocols.extras import Batch, Readings
from otel_ebpf.protocols.memo import Memo, gather, mix, words_at
from otel_ebpf.protocols.redis_replies import error_of

Bytes = NDArray[np.uint8]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

MAX_ARGUMENTS = 9
"""The name included; `*9` is the longest first line with one digit."""
LONGEST_NAME = 16
LONGEST_VALUE = 1024
MAX_COMMANDS = 256
KINDS = 4096
"""Most (name, number of arguments) that are remembered; then it starts afresh."""
_PAD = 24
"""Zeros behind the last row, so that words can be read from any byte."""
_ERROR = 40
"""So many bytes of an error reply tell its prefix."""
_HIDDEN, _SHOWN, _OPTION = 0, 1, 2
_UNANSWERED = int(Flag.UNANSWERED)
_CR, _LF, _BLANK, _MARK, _STAR = 13, 10, 32, 63, 42

_KEEP = np.array([(1 << 8 * i) - 1 for i in range(9)], np.uint64)
_CAPITAL = np.uint64(0xDFDFDFDFDFDFDFDF)


def _words(texts: list[bytes]) -> NDArray[np.uint64]:
    """(n, 2) little-endian words of texts of at most 16 bytes."""
    words: NDArray[np.uint64] = np.frombuffer(b"".join(t.ljust(16, b"\0") for t in texts), "<u8").reshape(-1, 2)
    return words


_LENGTHS = _words([b"$%d" % size for size in range(LONGEST_VALUE)])[:, 0].copy()
"""The line that states each length."""
_NIL = _words([b"$-1"])[0, 0]
_NEVER, _LAST, _ANYWHERE = 0, 1, 2
_REPLY = np.full(1 << 16, _NEVER, np.uint8)
"""Where a reply may stand that begins with these two bytes: _LAST: its end is not looked for."""
for _first in b"$:*_#%~,(+-":
    _REPLY[_first::256] = _LAST if _first in b"*%~" else _ANYWHERE
_REPLY[[ord("+") + 256 * digit for digit in b"0123456789"]] = _NEVER  # may be a line of MONITOR
_NEEDS_QUOTES = np.array([table.PLAIN.fullmatch(bytes([byte])) is None for byte in range(256)])
_OPTIONS = np.sort(mix(*_words(sorted(table.OPTIONS)).T))


@dataclass(frozen=True, slots=True)
class Kind:
    """A command's name with so many arguments. shown: for each argument, the name first."""

    operation: str
    shown: tuple[int, ...]
    looks: bool
    """its letters depend on its arguments by more than being options"""


@dataclass(slots=True)
class _Commands:
    """The commands of some rows, m in all, with v values (names among them).

    row: (m,). start, length: (v,) of values in the flat bytes. first: (m,) each command's first value; size: how many.
    """

    row: Index
    first: Index
    size: Index
    start: Index
    length: Index


class RedisColumns:
    """Reads batches for one instance of Redis; remembers the names it has seen.

    learn: what may be known of a command's name; None: it is not for here.
    """

    def __init__(
        self, learn: Callable[[bytes], str | None], describe: Callable[[str, str | None, str, int], Fields]
    ) -> None:
        self._learn = learn
        self._describe = describe
        self._forget()

    def _forget(self) -> None:
        self._numbers = Memo(2 * KINDS)
        self._kinds = [Kind("", (_SHOWN,) * MAX_ARGUMENTS, False)]
        self._shown = np.full((64, MAX_ARGUMENTS), _SHOWN, np.uint8)

    def read(self, batch: Batch, sessions: Mapping[int, Session], redact: bool) -> Readings:
        """The readings of each row; texts hide what `redact` says."""
        n = len(batch.head)
        good = (batch.head["flags"] & _UNANSWERED) == 0
        databases, database = _databases(batch.row, sessions, good)
        flat, width = _flat(batch.request, int(batch.head["req_cap"].max(initial=0)))
        words = words_at(flat)
        base = np.arange(n) * width
        commands = _commands(flat, words, base, base + batch.head["req_cap"], good)
        count = np.bincount(commands.row, minlength=n)
        good &= count <= MAX_COMMANDS
        kind = self._kind(flat, words, commands)
        good[commands.row[kind == 0]] = False
        errors, error = _errors(batch, commands, count, good)

        text, begins = self._texts(flat, words, commands, kind, redact, good)
        starts, lengths = np.zeros((len(kind), SLOTS), np.int64), np.zeros((len(kind), SLOTS), np.int32)
        ends = np.append(begins[1:], len(text))
        starts[:, 0], lengths[:, 0] = begins, ends - begins
        good[commands.row[lengths[:, 0] > table.TEXT_LIMIT]] = False

        read = good[commands.row].nonzero()[0]
        which = np.zeros(len(kind), np.intp)
        number = kind + len(self._kinds) * (database[commands.row] + len(databases) * error)
        distinct, which[read] = factorize(number[read])
        fields = []
        for each in distinct:
            rest, named = divmod(each, len(self._kinds))
            failed, chosen = divmod(rest, len(databases))
            fields.append(self._describe(self._kinds[named].operation, databases[chosen], errors[failed], -1))
        return Readings(np.cumsum(count) - count, np.where(good, count, 0), fields, which, starts, lengths, text)

    def _kind(self, flat: Bytes, words: NDArray[np.uint64], commands: _Commands) -> Index:
        """(m,) number in `_kinds` of each command; 0: not to be read here."""
        if not len(commands.row):
            return commands.row
        start, length = commands.start[commands.first], commands.length[commands.first]
        low = words[start] & _KEEP[np.minimum(length, 8)]
        high = np.zeros(len(low), np.uint64)
        long = (length > 8).nonzero()[0]
        high[long] = words[start[long] + 8] & _KEEP[np.minimum(length[long] - 8, 8)]
        keys = mix(low, high, (length << 4 | commands.size).astype(np.uint64))
        found = self._numbers.find(keys)
        new = (found < 0).nonzero()[0]
        if not len(new):
            return found
        distinct, first, inverse = np.unique(keys[new], return_index=True, return_inverse=True)
        if len(self._kinds) + len(distinct) > KINDS and len(self._kinds) > 1:
            self._forget()
            return self._kind(flat, words, commands)
        numbers = np.zeros(len(distinct), np.int64)
        for i, at in enumerate(new[first].tolist()):
            if length[at] <= LONGEST_NAME:
                begin = int(start[at])
                numbers[i] = self._number(flat[begin : begin + int(length[at])].tobytes(), int(commands.size[at]) - 1)
        self._numbers.add(distinct, numbers)
        found[new] = numbers[inverse]
        return found

    def _number(self, name: bytes, arguments: int) -> int:
        """The number of a kind that was not there."""
        operation = self._learn(name)
        if operation is None:
            return 0
        looks, letters = operation in table.SPECIAL, ""
        if not looks:
            letters = table.expanded(table.pattern_of(operation), arguments)
            looks = "n" in letters
        shown = (_SHOWN, *(("?ko".index(letter) for letter in letters) if not looks else (_SHOWN,) * arguments))
        number = len(self._kinds)
        self._kinds.append(Kind(operation, shown, looks))
        if number == len(self._shown):
            self._shown = np.concatenate([self._shown, np.full_like(self._shown, _SHOWN)])
        self._shown[number, : len(shown)] = shown
        return number

    def _texts(
        self, flat: Bytes, words: NDArray[np.uint64], commands: _Commands, kind: Index, redact: bool, good: Mask
    ) -> tuple[Bytes, Index]:
        """The texts of all commands, end to end, and (m,) where each begins. Writes to `flat`."""
        start, first = commands.start, commands.first
        values = len(start)
        if not values:
            return np.zeros(0, np.uint8), first
        if redact:
            place = np.repeat(kind * MAX_ARGUMENTS - first, commands.size) + np.arange(values)
            shown = self._shown.ravel()[place]
            self._look(flat, commands, kind, shown, good)
            options = (shown == _OPTION).nonzero()[0]
            shown[options] = _is_option(words, start[options], commands.length[options])
            hidden = (shown == _HIDDEN).nonzero()[0]
        else:
            hidden = first[:0]
        length = commands.length + 1
        length[hidden] = 2
        quoted = {i: b" " + table.quoted(b"").encode() for i in (length == 1).nonzero()[0].tolist()}
        length[first] -= 1
        begin = start - 1
        begin[first] += 1
        flat[start - 1] = _BLANK
        flat[start[hidden]] = _MARK
        text, begins = gather(flat, begin, length)
        blanks = values - len(first)
        quotes = _NEEDS_QUOTES.take(text[:-8])
        if np.count_nonzero(quotes) > blanks:
            odd = quotes.nonzero()[0]
            value = begins.searchsorted(odd, "right") - 1
            inside = odd > begins[value]
            for i in np.unique(value[inside]).tolist():
                at = int(start[i])
                quoted[i] = b" " + table.quoted(flat[at : at + int(commands.length[i])].tobytes()).encode()
        if quoted:
            rows = np.fromiter(quoted, np.intp, len(quoted))
            sizes = np.array([len(q) for q in quoted.values()], np.intp)
            length[rows], begin[rows] = sizes, len(flat) + np.cumsum(sizes) - sizes
            flat = np.concatenate([flat, np.frombuffer(b"".join(quoted.values()), np.uint8)])
            text, begins = gather(flat, begin, length)
        return text[:-8], begins[first]

    def _look(self, flat: Bytes, commands: _Commands, kind: Index, shown: Bytes, good: Mask) -> None:
        """Letters of the commands of which each is looked at."""
        looks = np.array([one.looks for one in self._kinds])
        if not looks.any():
            return
        for m in looks[kind].nonzero()[0].tolist():
            if not good[commands.row[m]]:
                continue
            begin = int(commands.first[m]) + 1
            end = begin + int(commands.size[m]) - 1
            places = zip(commands.start[begin:end].tolist(), commands.length[begin:end].tolist(), strict=True)
            arguments = [flat[at : at + size].tobytes() for at, size in places]
            letters = table.letters(self._kinds[int(kind[m])].operation, arguments)
            shown[begin:end] = [letter == "k" for letter in letters]


def _databases(rows: Index, sessions: Mapping[int, Session], good: Mask) -> tuple[list[str | None], NDArray[np.int64]]:
    """The databases that are known, and (n,) the number of each row's. Takes rows with CLIENT REPLY out of `good`."""
    names: dict[str | None, int] = {None: 0}
    if not sessions:
        return [None], np.zeros(len(rows), np.int64)
    distinct, inverse = np.unique(rows, return_inverse=True)
    number, plain = np.zeros(len(distinct), np.int64), np.ones(len(distinct), np.bool_)
    for i, row in enumerate(distinct.tolist()):
        session = sessions.get(row)
        if session is not None:
            number[i] = names.setdefault(session.remembered.get(b"db"), len(names))
            plain[i] = b"reply" not in session.remembered
    good &= plain[inverse]
    return list(names), number[inverse]


def _flat(matrix: Bytes, longest: int) -> tuple[Bytes, int]:
    """A copy of the rows as one run of bytes with zeros behind, and how long each row is there."""
    n, width = len(matrix), min(matrix.shape[1], -(-longest // 8) * 8)
    flat = np.empty(n * width + _PAD, np.uint8)
    flat[: n * width].reshape(n, width)[:] = matrix[:, :width]
    flat[n * width :] = 0
    return flat, width


def _breaks(flat: Bytes, end: Index) -> tuple[Index, Index, Index]:
    """Where each CRLF is; and (n,) which of them are each row's: from, to. end: (n,) behind each row."""
    feeds = (flat == _LF).nonzero()[0]
    breaks = feeds[flat.take(feeds - 1) == _CR] - 1
    until = breaks.searchsorted(end)
    return breaks[: until[-1]], np.append(0, until[:-1]), until


def _commands(flat: Bytes, words: NDArray[np.uint64], base: Index, end: Index, good: Mask) -> _Commands:
    """The commands of all rows in `good` that have no others; the rest is taken out of it."""
    stop, since, until = _breaks(flat, end)
    good &= until > since
    rows = good.nonzero()[0]
    good[rows] &= stop[until[rows] - 1] + 2 == end[rows]
    lines = until - since
    start = np.empty(len(stop), np.intp)
    start[1:] = stop[:-1] + 2
    begins = since[lines > 0]
    start[begins] = base[lines > 0]
    row = np.repeat(np.arange(len(base)), lines)
    length = stop - start
    heads = (flat.take(start) == _STAR).nonzero()[0]
    sizes = flat.take(start[heads] + 1) - np.uint8(ord("0"))
    likely = (length[heads] == 2) & (sizes - np.uint8(1) < MAX_ARGUMENTS)
    heads, sizes = heads[likely], sizes[likely].astype(np.intp)
    other = np.ones(len(row), np.bool_)
    other[heads] = False
    good[row[begins[other[begins]]]] = False
    following = np.minimum(np.append(heads[1:], len(row)), until[row[heads]])
    good[row[heads[following - heads != 1 + 2 * sizes]]] = False
    if not good.all():
        keep = good[row]
        sizes = sizes[keep[heads]]
        row, start, length, other = row[keep], start[keep], length[keep], other[keep]
        heads = (~other).nonzero()[0]
    others = other.nonzero()[0]
    told, value = others[::2], others[1::2]
    stated = words[start[told]] & _KEEP[np.minimum(length[told], 8)]
    wrong = stated != _LENGTHS[np.minimum(length[value], LONGEST_VALUE - 1)]
    wrong |= (length[told] > 8) | (length[value] >= LONGEST_VALUE)
    good[row[told[wrong]]] = False
    return _Commands(row[heads], np.cumsum(sizes) - sizes, sizes, start[value], length[value])


def _is_option(words: NDArray[np.uint64], start: Index, length: Index) -> Mask:
    """Whether these values are words of table.OPTIONS, in upper or lower case."""
    low = words[start] & _KEEP[np.minimum(length, 8)] & _CAPITAL
    high = words[start + 8] & _KEEP[np.clip(length - 8, 0, 8)] & _CAPITAL
    key = mix(low, high)
    at = np.minimum(_OPTIONS.searchsorted(key), len(_OPTIONS) - 1)
    result: Mask = (_OPTIONS[at] == key) & (length <= 16)
    return result


def _errors(batch: Batch, commands: _Commands, count: Index, good: Mask) -> tuple[list[str], NDArray[np.int64]]:
    """The errors that were answered, "" first, and (m,) the number of each command's.

    Takes out of `good` whose replies are not as plain as that.
    """
    flat, width = _flat(batch.response, int(batch.head["rsp_cap"].max(initial=0)))
    cap = batch.head["rsp_cap"].astype(np.intp)
    base = np.arange(len(cap)) * width
    words = words_at(flat)
    if (good & (count > 1)).any():
        begin, found = _replies(flat, words, base, base + cap, count, good)
    else:
        found = np.minimum(cap, 1)
        begin = np.where(cap > 0, base, -1)[commands.row]
    # All replies have come, and fewer than there are commands: the others' come later.
    good &= (found >= count) | (batch.head["rsp_bytes"] > cap)
    answered = (begin >= 0).nonzero()[0]
    kind = _REPLY[(words[begin[answered]] & np.uint64(0xFFFF)).astype(np.intp)]
    good[commands.row[answered[kind == _NEVER]]] = False
    errors = {"": 0}
    error = np.zeros(len(begin), np.int64)
    for m in answered[flat[begin[answered]] == ord("-")].tolist():
        row = int(commands.row[m])
        at = int(begin[m])
        name = error_of(flat[at : min(at + _ERROR, int(base[row] + cap[row]))].tobytes(), 0, "")
        error[m] = errors.setdefault(name, len(errors))
    return list(errors), error


def _replies(
    flat: Bytes, words: NDArray[np.uint64], base: Index, end: Index, count: Index, good: Mask
) -> tuple[Index, Index]:
    """Where the reply to each of all m commands begins, -1: not kept; and (n,) how many replies each row has.

    Takes rows out of `good` in which a reply that another one follows has no plain end.
    """
    stop, since, until = _breaks(flat, end)
    # Each row's last line is what is behind its last CRLF.
    lines = until - since + 1
    row = np.repeat(np.arange(len(base)), lines)
    final = np.cumsum(lines) - 1
    last = np.zeros(len(row), np.bool_)
    last[final] = True
    start, length = np.empty(len(row), np.intp), np.empty(len(row), np.intp)
    start[final - lines + 1] = base
    start[1:][~last[:-1]] = stop + 2
    length[~last], length[final] = stop, end
    length -= start

    stated = words[start] & _KEEP[np.clip(length, 0, 8)]
    sized = (flat[start] == ord("$")) & (stated != _NIL) & ~last
    data = np.append(False, sized[:-1])
    good[row[sized & data]] = False
    sizes = sized.nonzero()[0]
    size = length[sizes + 1]
    proper = (stated[sizes] == _LENGTHS[np.clip(size, 0, LONGEST_VALUE - 1)]) & (size < LONGEST_VALUE)
    proper &= length[sizes] <= 8
    good[row[sizes[~(proper | last[sizes + 1])]]] = False

    heads = (~data & ~(last & (length <= 0))).nonzero()[0]
    row = row[heads]
    found = np.bincount(row, minlength=len(base))
    rank = np.arange(len(heads)) - np.repeat(np.cumsum(found) - found, found)
    wanted = rank < count[row]
    heads, row, rank = heads[wanted], row[wanted], rank[wanted]
    inner = ~last[heads] & (rank < count[row] - 1)
    kind = _REPLY[(words[start[heads]] & np.uint64(0xFFFF)).astype(np.intp)]
    good[row[inner & (kind == _LAST)]] = False
    begin = np.full(int(count.sum()), -1, np.intp)
    begin[(np.cumsum(count) - count)[row] + rank] = start[heads]
    return begin, found
