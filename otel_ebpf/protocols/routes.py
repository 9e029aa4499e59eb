"""`http.route` from paths: a tree of routes, one per service, learned from what the service answers.

A segment that looks like an identifier becomes a placeholder at once: `{id}` (numbers, UUIDs, hashes, tokens),
`{date}`, `{email}`. A place where more than `SIBLINGS` different words were seen becomes `{name}` for all of them. A
service with more than `ROUTES` routes gets `/*` for the rest. Parameters of a segment (`/cart;jsessionid=…`) are no
part of a route. Patterns of the user win over all of this.

>>> routes = Routes(("/shop/{item}",))
>>> routes.route("/users/4711/orders/2024-05-01"), routes.route("/shop/blue-socks")
('/users/{id}/orders/{date}', '/shop/{item}')

Theory of operation. A node of the tree is a 64-bit hash: that of its parent, mixed with the hash of its segment, or
with a fixed number where the segment is a placeholder. So a batch of paths walks down the tree column by column, one
step per depth; where a place has become `{name}`, its node is in a sorted array. Only a path whose last node has never
been seen is looked at in Python, and teaches the tree. Paths that are answered with 404 do not teach: a scanner that
guesses thousands of paths must not wear the tree out, and frameworks report no route for them either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.errors import ConfigError
from otel_ebpf.protocols.memo import Memo, gather, hash_texts, random_odd, words_at

SIBLINGS = 100
ROUTES = 500
SERVICES = 256
WORDS = 1 << 14
"""Words of a service that are remembered: paths of the user's patterns make no routes, but have words without end."""
DEPTH = 12
"""Segments that are looked at; a longer path ends in `/*`."""
OVERFLOW = "/*"
LONGEST_WORD = 64
"""A longer segment is data, whatever it looks like."""
_NAMES = 1 << 16
_MEMO = 1 << 16

_DIGIT, _HEX_LOW, _LOW, _HEX_UP, _UP, _DASH, _POINT, _OTHER = (1 << i for i in range(8))
_CLASS = np.full(256, _OTHER, np.uint8)
_CLASS[list(b"0123456789")] = _DIGIT
_CLASS[list(b"abcdef")] = _HEX_LOW
_CLASS[list(b"ghijklmnopqrstuvwxyz")] = _LOW
_CLASS[list(b"ABCDEF")] = _HEX_UP
_CLASS[list(b"GHIJKLMNOPQRSTUVWXYZ")] = _UP
_CLASS[list(b"-_")] = _DASH
_CLASS[list(b".,:+~=")] = _POINT
_SLASH = 47
_SEMICOLON = ord(";")

_ODD = random_odd(1)[0]
_TOKEN = random_odd(6)
"""What stands for a placeholder in the hash of a node, by kind; the first begins a service, the last overflows."""

LITERAL, ID, DATE, EMAIL, NAME = range(5)
_PLACEHOLDER = ("", "{id}", "{date}", "{email}", "{name}")
_EMAIL = re.compile(rb"[^@%/]+(@|%40)[^@%/]+\.[^@%/]+")


def classify(flat: NDArray[np.uint8], start: NDArray[np.intp], length: NDArray[np.intp]) -> NDArray[np.uint8]:
    """(k,) LITERAL, ID, DATE or EMAIL of the segments that follow each other in `flat`, each led by its slash.

    start: position of the slash. length: of the segment with its slash.
    """
    kind = np.zeros(len(start), np.uint8)
    if not len(start):
        return kind
    classes = _CLASS.take(flat)
    classes[start] = 0
    seen = np.bitwise_or.reduceat(classes, start)
    kind[length > LONGEST_WORD + 1] = ID
    # Most segments are plain words: only those with a digit or an odd character are looked at further.
    some = (seen & (_DIGIT | _OTHER)).nonzero()[0]
    if not len(some):
        return kind
    start, length, seen = start[some], length[some] - 1, seen[some]
    before = np.cumsum(classes == _DIGIT, dtype=np.int32)  # the slash itself is no digit
    digits = before[start + length] - before[start]
    both_cases = ((seen & (_LOW | _HEX_LOW)) > 0) & ((seen & (_UP | _HEX_UP)) > 0)
    plain = (seen & _OTHER) == 0
    found = (digits > 0) & (
        ((seen & ~np.uint8(_DIGIT | _DASH | _POINT)) == 0)  # 17, 12.5, 555-1234
        | (((seen & ~np.uint8(_DIGIT | _HEX_LOW | _HEX_UP | _DASH)) == 0) & (length >= 8))  # UUIDs, hashes
        | (digits >= 5)  # order-12345
        | (plain & both_cases & (((digits >= 3) & (length >= 10)) | (length >= 22)))  # base 62 and base 64
    )
    which = found.astype(np.uint8)
    dated = ((digits >= 8) & (length >= 10)).nonzero()[0]
    if len(dated):
        at = start[dated] + 1
        year = flat[at[:, None] + np.arange(10)]
        figures = (year[:, [0, 1, 2, 3, 5, 6, 8, 9]] - np.uint8(48) < 10).all(1)
        good = figures & (year[:, 4] == ord("-")) & (year[:, 7] == ord("-"))
        which[dated[good]] = DATE
    for i in (seen & _OTHER).nonzero()[0].tolist():
        if _EMAIL.fullmatch(flat[start[i] + 1 : start[i] + 1 + length[i]].tobytes()):
            which[i] = EMAIL
    kind[some] = np.where(which == LITERAL, kind[some], which)
    return kind


def _compile(pattern: str) -> re.Pattern[str]:
    """A pattern of whole segments; `*` as the last one is the rest of the path."""
    if not re.fullmatch(r"(/(\{[^{}/]*\}|[^{}/*]*))*(/\*)?", pattern) or not pattern:
        raise ConfigError(f"routes: {pattern!r} is not a path of words, {{placeholders}} and at most a last *")
    parts = pattern.split("/")[1:]
    return re.compile(
        "".join(
            "/" + ("[^/]+" if part.startswith("{") else ".*" if part == "*" else re.escape(part)) for part in parts
        ),
        re.DOTALL,
    )


@dataclass(slots=True)
class _Service:
    routes: int = 0
    children: dict[int, set[int]] = field(default_factory=dict)
    """node → hashes of the words that were seen below it, SIBLINGS + 1 at most"""
    words: int = 0
    """in all of them"""
    crowds: list[int] = field(default_factory=list)
    """nodes below which all words are `{name}`"""


class Routes:
    """The routes of all services. Everything here is bounded: services, routes of each, the memory of paths.

    names: number → route, as `find` gives them.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self.names: list[str] = [OVERFLOW]
        self.overflows = 0
        """Paths that got `/*` because their service has too many routes."""
        self.collapses = 0
        """How many places became `{name}`; routes found before the last one may be out of date."""
        self._number: dict[str, int] = {OVERFLOW: 0}
        self._patterns = [(pattern, _compile(pattern)) for pattern in patterns]
        literals = {part.encode() for pattern in patterns for part in pattern.split("/")[1:] if "{" not in part}
        self._spared = np.sort(np.array([_hash(part) for part in literals], np.uint64))
        self._memo = Memo(_MEMO)
        self._crowds = np.zeros(0, np.uint64)
        self._services: dict[int, _Service] = {}

    def route(self, path: str, service: int = 0, teaches: bool = True) -> str:
        """The route of one path, e.g. "/users/{id}"; "" if none is known and it does not teach."""
        if not path.startswith("/"):
            return ""
        raw = path.encode("utf-8", "replace")
        found = self.find(
            np.frombuffer(raw + bytes(8), np.uint8),
            np.zeros(1, np.intp),
            np.array([len(raw)], np.intp),
            np.array([service], np.uint64),
            np.array([teaches]),
        )
        return self.names[int(found[0])] if found[0] >= 0 else ""

    def find(
        self,
        flat: NDArray[np.uint8],
        start: NDArray[np.intp],
        length: NDArray[np.intp],
        service: NDArray[np.uint64],
        teaches: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """(n,) number of each path's route in `names`; -1: none is known, and this path does not teach.

        flat: the bytes of the paths and at least 8 more; start, length: (n,) where each path lies; each begins with a
        slash. service: (n,) whose
        paths they are. teaches: (n,) whether a path that is new becomes a route.
        """
        nodes, walk = self._walk(flat, start, length, service)
        found = self._memo.find(nodes)
        new = ((found < 0) & teaches).nonzero()[0]
        if len(new):
            keys, first, inverse = np.unique(nodes[new], return_index=True, return_inverse=True)
            numbers = np.zeros(len(keys), np.int64)
            for i in np.argsort(first).tolist():  # in the order of arrival: the same paths always make the same tree
                numbers[i] = self._learn(walk, int(new[first[i]]), service)
            keep = numbers > 0
            self._memo.add(keys[keep], numbers[keep])
            found[new] = numbers[inverse]
        return found

    def _walk(
        self,
        flat: NDArray[np.uint8],
        start: NDArray[np.intp],
        length: NDArray[np.intp],
        service: NDArray[np.uint64],
    ) -> tuple[NDArray[np.uint64], _Walk]:
        """The last node of each path, and its segments."""
        paths, begins = gather(flat, start, length)
        if (paths == _SEMICOLON).any():
            paths, begins = _without_parameters(paths, begins)
        total = len(paths) - 8
        segment = (paths[:total] == _SLASH).nonzero()[0]
        opens = np.zeros(total, np.bool_)
        opens[begins] = True
        first = opens[segment].nonzero()[0]
        count = np.diff(np.append(first, len(segment)))
        size = np.diff(np.append(segment, total))
        kind = classify(paths[:total], segment, size)
        word = hash_texts(words_at(paths), segment + 1, size - 1)
        if len(self._spared):
            kind[_among(self._spared, word)] = LITERAL
        token = np.where(kind == LITERAL, word, _TOKEN[kind])
        node = np.broadcast_to(_step(service, _TOKEN[LITERAL]), (len(start),)).copy()
        depths = min(int(count.max(initial=0)), DEPTH)
        track = np.zeros((len(start), depths), np.uint8)
        above = np.zeros((depths, len(start)), np.uint64)
        least = int(count.min(initial=0))
        for depth in range(depths):
            going = slice(None) if depth < least else (count > depth).nonzero()[0]
            at = first[going] + depth
            here, step, below = node[going], kind[at], token[at]
            if len(self._crowds):
                named = (step == LITERAL) & _among(self._crowds, here)
                if len(self._spared):
                    named &= ~_among(self._spared, word[at])
                step = np.where(named, np.uint8(NAME), step)
                below = np.where(named, _TOKEN[NAME], below)
            above[depth, going] = here
            track[going, depth] = step
            node[going] = _step(here, below)
        longer = count > DEPTH
        if longer.any():
            node = np.where(longer, _step(node, _TOKEN[-1]), node)
        return node, _Walk(paths, segment, size, first, count, word, track, above)

    def _learn(self, walk: _Walk, i: int, services: NDArray[np.uint64]) -> int:
        """The route of path i of a walk, which was not known."""
        key = int(services[i])
        service = self._services.get(key)
        if service is None:
            if len(self._services) >= SERVICES:
                forgotten = self._services.pop(next(iter(self._services)))
                self._crowds = np.setdiff1d(self._crowds, np.array(forgotten.crowds, np.uint64))
            service = self._services[key] = _Service()
        if service.routes >= ROUTES and not self._patterns:
            self.overflows += 1
            return 0
        at, depths = int(walk.first[i]), min(int(walk.count[i]), DEPTH)
        texts = [walk.text(j) for j in range(at, at + int(walk.count[i]))]
        parts = []
        moved = False  # an earlier segment has become {name} since the walk
        node = np.zeros(1, np.uint64)
        for depth in range(depths):
            word, step = walk.word[at + depth : at + depth + 1], int(walk.track[i, depth])
            if not moved:
                node = walk.above[depth, i : i + 1]
            if step == LITERAL and not _among(self._spared, word)[0] and self._crowded(service, node, word):
                step, moved = NAME, True
            parts.append("/" + (_PLACEHOLDER[step] or texts[depth]))
            if moved:
                node = _step(node, word if step == LITERAL else _TOKEN[step])
        for pattern, expression in self._patterns:
            if expression.fullmatch("/" + "/".join(texts)):
                return self._named(pattern)
        if len(texts) > DEPTH:
            parts.append(OVERFLOW)
        name = "".join(parts)
        if name not in self._number:
            if service.routes >= ROUTES or len(self.names) >= _NAMES:
                self.overflows += 1
                return 0
            service.routes += 1
        return self._named(name)

    def _crowded(self, service: _Service, node: NDArray[np.uint64], word: NDArray[np.uint64]) -> bool:
        """Whether this place has too many words, this one included; then it is `{name}` from now on."""
        words = service.children.get(int(node[0]), set())
        if len(words) <= SIBLINGS and service.words < WORDS and int(word[0]) not in words:
            words.add(int(word[0]))
            service.children[int(node[0])] = words
            service.words += 1
            if len(words) > SIBLINGS:
                self.collapses += 1
                self._crowds = np.sort(np.append(self._crowds, node))
                service.crowds.append(int(node[0]))
        return len(words) > SIBLINGS

    def _named(self, name: str) -> int:
        number = self._number.get(name)
        if number is None:
            number = self._number[name] = len(self.names)
            self.names.append(name)
        return number


@dataclass(slots=True)
class _Walk:
    """A batch of paths as segments: k of them in n paths.

    segment, size: (k,) each begins at its slash. first, count: (n,) which segments are a path's. word: (k,) hashes.
    track: (n, depth) what each step was. above: (depth, n) the node from which it was made.
    """

    paths: NDArray[np.uint8]
    segment: NDArray[np.intp]
    size: NDArray[np.intp]
    first: NDArray[np.intp]
    count: NDArray[np.intp]
    word: NDArray[np.uint64]
    track: NDArray[np.uint8]
    above: NDArray[np.uint64]

    def text(self, segment: int) -> str:
        begin = int(self.segment[segment]) + 1
        return self.paths[begin : begin - 1 + int(self.size[segment])].tobytes().decode("utf-8", "replace")


def _without_parameters(
    paths: NDArray[np.uint8], begins: NDArray[np.intp]
) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """The paths and where they begin, without what follows a semicolon in a segment (RFC 3986 §3.3)."""
    edges = np.append((paths[:-8] == _SLASH).nonzero()[0], len(paths) - 8)
    marks = (paths[:-8] == _SEMICOLON).nonzero()[0]
    owner, first = np.unique(np.searchsorted(edges, marks, "right"), return_index=True)
    inside = np.zeros(len(paths), np.int8)
    inside[marks[first]] = 1
    inside[edges[owner]] -= 1
    kept = np.cumsum(inside, dtype=np.int8) == 0
    return paths[kept], np.cumsum(kept, dtype=np.intp)[begins] - 1


def _step(node: NDArray[np.uint64], token: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """The node below, by the hash of a word or the number of a placeholder."""
    below: NDArray[np.uint64] = (node ^ (node >> np.uint64(29))) * _ODD + token
    return below


def _hash(text: bytes) -> int:
    flat = np.frombuffer(text + bytes(8), np.uint8)
    return int(hash_texts(words_at(flat), np.zeros(1, np.intp), np.array([len(text)]))[0])


def _among(table: NDArray[np.uint64], items: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which items are in the sorted table."""
    if not len(table):
        return np.zeros(np.shape(items), np.bool_)
    at = np.minimum(np.searchsorted(table, items), len(table) - 1)
    found: NDArray[np.bool_] = table[at] == items
    return found
