"""Redis for whole batches: everything that redis.py reads of plain commands and their replies, by columns.

A text is what stays of the payload when lengths are taken out: values are copied with the byte before them, which has
become a blank; a hidden one with its first byte, which has become a `?`.

Rows that are anything else (values with line breaks, inline commands, EXEC before other commands, pushes, CLIENT REPLY,
what was cut elsewhere than in a hidden value) have count 0 and go through `Redis.parse`, which says the same of all
the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.heap import distinct
from otel_ebpf.model import SLOTS, Flag
from otel_ebpf.otlp.columns import factorize
from otel_ebpf.protocols import redis_commands as table
from otel_ebpf.protocols.base import Fields, Session
from otel_ebpf.protocols.extras import Batch, Readings
from otel_ebpf.protocols.memo import Memo, gather, mix, words_at
from otel_ebpf.protocols.redis_replies import batch_size, error_of
from otel_ebpf.protocols.resp_columns import (
    KEEP,
    MAX_ARGUMENTS,
    NEVER,
    REPLY,
    Bytes,
    Commands,
    Index,
    Mask,
    commands_of,
    flat_of,
    replies_of,
    words_of,
)

LONGEST_NAME = 16
MAX_COMMANDS = 256
KINDS = 4096
"""Most (name, number of arguments) that are remembered; then it starts afresh."""
_ERROR = 40
"""So many bytes of an error reply tell its prefix."""
_HIDDEN, _SHOWN, _OPTION = 0, 1, 2
_LOOKS, _PROCEDURE, _EXECUTES = 1, 2, 4
"""Traits of a kind: its letters depend on its arguments by more than being options; the first of them is a text of its
own; its reply has the replies to others in it."""
_UNANSWERED = int(Flag.UNANSWERED)
_UNUSUAL = {b"reply", b"queued"}
"""What a session may remember that makes more than a name of what is read."""
_BLANK, _MARK = 32, 63
_CAPITAL = np.uint64(0xDFDFDFDFDFDFDFDF)
_NEEDS_QUOTES = np.array([table.PLAIN.fullmatch(bytes([byte])) is None for byte in range(256)])
_OPTIONS = np.sort(mix(*words_of([*table.OPTIONS]).T, np.array([len(option) for option in table.OPTIONS], np.uint64)))


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
        self._operations = [""]
        self._shown = np.full((64, MAX_ARGUMENTS), _SHOWN, np.uint8)
        self._traits = np.zeros(64, np.uint8)

    def read(self, batch: Batch, sessions: Mapping[int, Session], redact: bool) -> Readings:
        """The readings of each row; texts hide what `redact` says."""
        n = len(batch.head)
        good = (batch.head["flags"] & _UNANSWERED) == 0
        databases, database = _databases(batch.row, sessions, good)
        flat, width = flat_of(batch.request, int(batch.head["req_cap"].max(initial=0)))
        words = words_at(flat)
        base = np.arange(n) * width
        commands = commands_of(flat, words, base, base + batch.head["req_cap"], good)
        count = np.bincount(commands.row, minlength=n)
        good &= count <= MAX_COMMANDS
        kind = self._kind(flat, words, commands)
        good[commands.row[kind == 0]] = False
        traits = self._traits[kind]
        outcomes, outcome = _outcomes(batch, commands, count, (traits & _EXECUTES) > 0, good)

        text, edges = self._texts(flat, words, commands, kind, traits, redact, good)
        starts, lengths = np.zeros((len(kind), SLOTS), np.int64), np.zeros((len(kind), SLOTS), np.int32)
        starts[:, 0] = edges[commands.first]
        lengths[:, 0] = edges[commands.first + commands.size] - starts[:, 0]
        named = ((traits & _PROCEDURE) > 0) & (commands.size > 1)
        second = commands.first[named] + 1
        starts[named, 1] = edges[second] + 1
        lengths[named, 1] = edges[second + 1] - edges[second] - 1
        good[commands.row[lengths[:, 0] > table.TEXT_LIMIT]] = False

        read = good[commands.row].nonzero()[0]
        which = np.zeros(len(kind), np.intp)
        number = kind + len(self._operations) * (database[commands.row] + len(databases) * outcome)
        distinct, which[read] = factorize(number[read])
        fields = []
        for each in distinct:
            rest, operation = divmod(each, len(self._operations))
            result, chosen = divmod(rest, len(databases))
            fields.append(self._describe(self._operations[operation], databases[chosen], *outcomes[result]))
        return Readings(np.cumsum(count) - count, np.where(good, count, 0), fields, which, starts, lengths, text)

    def _kind(self, flat: Bytes, words: NDArray[np.uint64], commands: Commands) -> Index:
        """(m,) number in `_kinds` of each command; 0: not to be read here."""
        if not len(commands.row):
            return commands.row
        start, length = commands.start[commands.first], commands.length[commands.first]
        low = words[start] & KEEP[np.minimum(length, 8)]
        high = np.zeros(len(low), np.uint64)
        long = (length > 8).nonzero()[0]
        high[long] = words[start[long] + 8] & KEEP[np.minimum(length[long] - 8, 8)]
        keys = mix(low, high, (length << 4 | commands.size).astype(np.uint64))
        found = self._numbers.find(keys)
        new = (found < 0).nonzero()[0]
        if not len(new):
            return found
        distinct, first, inverse = np.unique(keys[new], return_index=True, return_inverse=True)
        if len(self._operations) + len(distinct) > KINDS and len(self._operations) > 1:
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
        number = len(self._operations)
        self._operations.append(operation)
        if number == len(self._shown):
            self._shown = np.concatenate([self._shown, np.full_like(self._shown, _SHOWN)])
            self._traits = np.concatenate([self._traits, np.zeros_like(self._traits)])
        if not looks:
            self._shown[number, 1 : arguments + 1] = ["?ko".index(letter) for letter in letters]
        self._traits[number] = (
            looks * _LOOKS | (operation in table.PROCEDURES) * _PROCEDURE | (operation == "EXEC") * _EXECUTES
        )
        return number

    def _texts(
        self,
        flat: Bytes,
        words: NDArray[np.uint64],
        commands: Commands,
        kind: Index,
        traits: Bytes,
        redact: bool,
        good: Mask,
    ) -> tuple[Bytes, Index]:
        """The texts of all commands, end to end, and (v + 1,) where each value begins and the last ends.

        A value begins with the blank in front of it. Writes to `flat`.
        """
        start, first = commands.start, commands.first
        values = len(start)
        if not values:
            return np.zeros(0, np.uint8), np.zeros(1, np.intp)
        if redact:
            place = np.repeat(kind * MAX_ARGUMENTS - first, commands.size) + np.arange(values)
            shown = self._shown.ravel()[place]
            self._look(flat, commands, kind, ((traits & _LOOKS) > 0) & good[commands.row], shown)
            options = (shown == _OPTION).nonzero()[0]
            shown[options] = _is_option(words, start[options], commands.length[options])
            hidden = (shown == _HIDDEN).nonzero()[0]
        else:
            shown = np.full(values, _SHOWN, np.uint8)
            hidden = first[:0]
        if commands.cut:
            cut = np.array(commands.cut)
            part = cut[shown[cut] > _HIDDEN]
            good[commands.row[first.searchsorted(part, "right") - 1]] = False
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
            for i in distinct(value[inside]).tolist():
                at = int(start[i])
                quoted[i] = b" " + table.quoted(flat[at : at + int(commands.length[i])].tobytes()).encode()
        if quoted:
            rows = np.fromiter(quoted, np.intp, len(quoted))
            sizes = np.array([len(q) for q in quoted.values()], np.intp)
            length[rows], begin[rows] = sizes, len(flat) + np.cumsum(sizes) - sizes
            flat = np.concatenate([flat, np.frombuffer(b"".join(quoted.values()), np.uint8)])
            text, begins = gather(flat, begin, length)
        return text[:-8], np.append(begins, len(text) - 8)

    def _look(self, flat: Bytes, commands: Commands, kind: Index, which: Mask, shown: Bytes) -> None:
        """Letters of the commands that are to be looked at one by one."""
        for m in which.nonzero()[0].tolist():
            begin = int(commands.first[m]) + 1
            end = begin + int(commands.size[m]) - 1
            places = zip(commands.start[begin:end].tolist(), commands.length[begin:end].tolist(), strict=True)
            arguments = [flat[at : at + size].tobytes() for at, size in places]
            letters = table.letters(self._operations[int(kind[m])], arguments)
            shown[begin:end] = [letter == "k" for letter in letters]


def _databases(rows: Index, sessions: Mapping[int, Session], good: Mask) -> tuple[list[str | None], NDArray[np.int64]]:
    """The databases that are known, and (n,) the number of each row's. Takes rows with _UNUSUAL out of `good`."""
    names: dict[str | None, int] = {None: 0}
    if not sessions:
        return [None], np.zeros(len(rows), np.int64)
    distinct, inverse = np.unique(rows, return_inverse=True)
    number, plain = np.zeros(len(distinct), np.int64), np.ones(len(distinct), np.bool_)
    for i, row in enumerate(distinct.tolist()):
        session = sessions.get(row)
        if session is not None:
            number[i] = names.setdefault(session.remembered.get(b"db"), len(names))
            plain[i] = not _UNUSUAL & session.remembered.keys()
    good &= plain[inverse]
    return list(names), number[inverse]


def _is_option(words: NDArray[np.uint64], start: Index, length: Index) -> Mask:
    """Whether these values are words of table.OPTIONS, in upper or lower case."""
    low = words[start] & KEEP[np.minimum(length, 8)] & _CAPITAL
    high = words[start + 8] & KEEP[np.clip(length - 8, 0, 8)] & _CAPITAL
    key = mix(low, high, length.astype(np.uint64))
    at = np.minimum(_OPTIONS.searchsorted(key), len(_OPTIONS) - 1)
    result: Mask = _OPTIONS[at] == key
    return result


def _outcomes(
    batch: Batch, commands: Commands, count: Index, executes: Mask, good: Mask
) -> tuple[list[tuple[str, int]], NDArray[np.int64]]:
    """(error, batch size) of the replies, ("", -1) first, and (m,) the number of each command's.

    Takes out of `good` whose replies are not as plain as that.
    """
    flat, width = flat_of(batch.response, int(batch.head["rsp_cap"].max(initial=0)))
    cap = batch.head["rsp_cap"].astype(np.intp)
    base = np.arange(len(cap)) * width
    words = words_at(flat)
    if (good & (count > 1)).any():
        begin, found = replies_of(flat, words, base, base + cap, count, good)
    else:
        found = np.minimum(cap, 1)
        begin = np.where(cap > 0, base, -1)[commands.row]
    # All replies have come, and fewer than there are commands: the others' come later.
    good &= (found >= count) | (batch.head["rsp_bytes"] > cap)
    answered = (begin >= 0).nonzero()[0]
    kind = REPLY[(words[begin[answered]] & np.uint64(0xFFFF)).astype(np.intp)]
    good[commands.row[answered[kind == NEVER]]] = False
    outcomes = {("", -1): 0}
    outcome = np.zeros(len(begin), np.int64)
    for m in answered[(flat[begin[answered]] == ord("-")) | executes[answered]].tolist():
        at, row = int(begin[m]), int(commands.row[m])
        end = int(base[row] + cap[row])
        if executes[m]:
            response = flat[at:end].tobytes()
            told = error_of(response, 0, "EXEC"), batch_size(response, 0)
        else:
            told = error_of(flat[at : min(at + _ERROR, end)].tobytes(), 0, ""), -1
        outcome[m] = outcomes.setdefault(told, len(outcomes))
    return list(outcomes), outcome
