"""The filter of `otel-ebpf tap`: terms that must all hold, compiled to a mask over a batch.

    service=shop duration>100ms status>=500 protocol=http,redis peer=10.0.0.* kind=server name~"GET /cart"

| key | holds | operators |
|---|---|---|
| service | `service.name` of the process that saw it | = != ~ !~ |
| protocol | http, redis, postgresql, mysql, dns, … | = != ~ !~ |
| peer | the other end: name, address, address:port, network (10.0.0.0/8) | = != ~ !~ |
| name | the span's name | = != ~ !~ |
| text | what is variable: path, query, SQL text, key | = != ~ !~ |
| status | as on the wire: 404, 42P01, NXDOMAIN | = != ~ !~ < > <= >= |
| kind | server, client | = != |
| error | true, false | = != |
| duration | a time with its unit: 100ms, 1.5s | < > <= >= |

`=` compares the whole value and `~` looks anywhere in it; both ignore case, and in both `*` stands for any text and `?`
for any character. Commas give alternatives (`status=404,410`); quotes make a value literal but for `*` and `?`. There
are no regular expressions: they can be made to take for ever by those who write the text.

A predicate on what is interned (shape, resource, endpoint) is asked once per distinct id; only `text` looks at rows,
and only at those that all other terms have let through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.config.keys import abbreviate
from otel_ebpf.config.kinds import Duration
from otel_ebpf.control.lines import peer_name, say, slot_text
from otel_ebpf.control.per_id import Failed, PerId, shape_and_kind, shape_ids
from otel_ebpf.control.tables import Tables, known
from otel_ebpf.errors import ConfigError
from otel_ebpf.model import Kind, Spans

Mask: TypeAlias = "NDArray[np.bool_]"
Text: TypeAlias = "Callable[[str], bool]"

_EQUAL = ("=", "!=")
_TEXT = (*_EQUAL, "~", "!~")
_ORDER = ("<", ">", "<=", ">=")
OPERATORS = {
    "service": _TEXT,
    "protocol": _TEXT,
    "peer": _TEXT,
    "status": _TEXT + _ORDER,
    "duration": _ORDER,
    "kind": _EQUAL,
    "name": _TEXT,
    "text": _TEXT,
    "error": _EQUAL,
}
"""The keys, and the operators that each takes."""
_WORDS = {"kind": ("server", "client"), "error": ("true", "false")}
_DURATION = Duration()
_TERM = re.compile(r"""([^\s=!~<>"']*)\s*(!=|!~|<=|>=|==|=|~|<|>)(?![=~<>!])\s*("[^"]*"|'[^']*'|[^\s"']+)(?=\s|$)""")
_COMPARE = {"<": np.less, ">": np.greater, "<=": np.less_equal, ">=": np.greater_equal}


@dataclass(frozen=True, slots=True)
class Term:
    """One term as it was read. values: the alternatives, lower case."""

    key: str
    operator: str
    values: tuple[str, ...]

    @property
    def negated(self) -> bool:
        return self.operator.startswith("!")


def parse(text: str, protocols: Collection[str] = ()) -> tuple[Term, ...]:
    """The terms of a filter. ConfigError names the key, the value and what was expected.

    protocols: the names that there are; a protocol that is none of them is refused. Empty: anything goes.

    >>> parse("service=shop duration>100ms")[1]
    Term(key='duration', operator='>', values=('100ms',))
    """
    terms, at = [], 0
    while rest := text[at:].lstrip():
        at = len(text) - len(rest)
        if word := re.match(r"(and|&&)(?=\s|$)", rest):
            at += word.end()
            continue
        match = _TERM.match(rest)
        if match is None:
            raise ConfigError(f"filter: {_problem(rest)}")
        at += match.end()
        terms.append(_term(match[1], match[2], match[3], protocols))
    return tuple(terms)


def _problem(rest: str) -> str:
    word = rest.split()[0]
    if word in ("or", "||", "not", "!", "(", ")"):
        return f"{word!r}: all terms must hold; alternatives are given by commas: status=404,410"
    if any(mark in word for mark in "\"'"):
        return f'{abbreviate(rest)}: a quote that is not closed, or text behind it; expected KEY OPERATOR "VALUE"'
    return f"{abbreviate(word)} is not KEY OPERATOR VALUE like service=shop; keys: {', '.join(OPERATORS)}"


def _term(key: str, operator: str, value: str, protocols: Collection[str]) -> Term:
    if key not in OPERATORS:
        import difflib

        near = difflib.get_close_matches(key, OPERATORS, 1, 0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"keys: {', '.join(OPERATORS)}"
        raise ConfigError(f"filter: {key!r}: unknown key, given {abbreviate(value)}; {hint}")
    operator = "=" if operator == "==" else operator
    if operator not in OPERATORS[key]:
        raise ConfigError(f"filter: {key}{operator}{value}: expected one of {' '.join(OPERATORS[key])} after '{key}'")
    quoted = value[0] in "\"'"
    values = (value[1:-1],) if quoted else tuple(part for part in value.split(",") if part)
    term = Term(key, operator, tuple(v.lower() for v in values))
    _check(term, value, protocols)
    return term


def _check(term: Term, value: str, protocols: Collection[str]) -> None:
    def refuse(expected: str) -> ConfigError:
        return ConfigError(f"filter: {term.key}: {abbreviate(value)} is not {expected}")

    if not term.values:
        raise refuse("a value")
    if term.operator in _ORDER and len(term.values) > 1:
        raise refuse("one value")
    if term.key == "duration":
        try:
            _DURATION.parse(term.values[0])
        except ValueError:
            raise refuse(_DURATION.expected) from None
    elif term.operator in _ORDER:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", term.values[0]):
            raise refuse("a number like 500")
    elif term.key in _WORDS:
        if any(v not in _WORDS[term.key] for v in term.values):
            raise refuse(" or ".join(_WORDS[term.key]))
    elif term.key == "protocol" and protocols and term.operator in _EQUAL:
        for v in term.values:
            if not _glob(v) and v not in protocols:
                raise refuse(f"one of {', '.join(protocols)}")
    elif term.key == "peer" and term.operator in _EQUAL:
        for v in term.values:
            if _is_network(v) and _network(v) is None:
                raise refuse("a network like 10.0.0.0/8")


def _glob(value: str) -> bool:
    return "*" in value or "?" in value


def _is_network(value: str) -> bool:
    return "/" in value and not value.startswith("/")  # that would be a unix socket


def _network(value: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(value, strict=False)
    except ValueError:
        return None


def glob(pattern: str, *, anywhere: bool) -> Text:
    """Whether a glob of `*` and `?` fits a whole text, or any part of it; ignores case, in linear time but for a
    factor of the pattern's length.

    >>> glob("10.0.*", anywhere=False)("10.0.0.1"), glob("GET ?cart", anywhere=True)("a get /cart b")
    (True, True)
    """
    folded = pattern.casefold()
    parts = folded.split("*")
    if anywhere:
        parts = ["", *parts, ""]
    if len(parts) == 1 and "?" not in folded:
        return lambda text: text.casefold() == folded
    finds = [re.compile(re.escape(part).replace(r"\?", "."), re.DOTALL) for part in parts]

    def fits(text: str) -> bool:
        # Leftmost matches of the parts in turn: no part can profit from a later place of the one before it.
        text = text.casefold()
        first = finds[0].match(text)
        if first is None:
            return False
        if len(finds) == 1:
            return first.end() == len(text)
        at = first.end()
        for find in finds[1:-1]:
            found = find.search(text, at)
            if found is None:
                return False
            at = found.end()
        begin = len(text) - len(parts[-1])
        return begin >= at and finds[-1].match(text, begin) is not None

    return fits


class Filter:
    """A compiled filter.

    >>> Filter.parse("status>=500").mask(spans, tables)
    array([False,  True])
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self._columns: list[Callable[[Spans, Tables], Mask]] = []
        self._texts: list[Text] = []
        for term in terms:
            if term.key == "text":
                self._texts.append(_any_of(term))
            else:
                self._columns.append(_COMPILE[term.key](term))

    @staticmethod
    def parse(text: str, protocols: Collection[str] = ()) -> Filter:
        """From the text that the user gave; see `parse`."""
        return Filter(parse(text, protocols))

    def mask(self, spans: Spans, tables: Tables) -> Mask:
        """(n,) which rows all terms hold for; never one that nobody could read."""
        mask = spans.shape >= 0
        if not mask.any():
            return mask
        for column in self._columns:
            mask &= column(spans, tables)
            if not mask.any():
                return mask
        if self._texts:
            for row in np.flatnonzero(mask).tolist():
                mask[row] = self._fits(spans, row)
        return mask

    def _fits(self, spans: Spans, row: int) -> bool:
        used = [i for i in range(spans.slot_length.shape[1]) if spans.slot_length[row, i]]
        text = " ".join(slot_text(spans, row, i, 1 << 16) for i in used)
        return all(fits(text) for fits in self._texts)


def _any_of(term: Term) -> Text:
    globs = [glob(v, anywhere="~" in term.operator) for v in term.values]
    negated = term.negated
    return lambda text: any(fits(text) for fits in globs) != negated


def _by_shape(attribute: str) -> Callable[[Term], Callable[[Spans, Tables], Mask]]:
    def compile_(term: Term) -> Callable[[Spans, Tables], Mask]:
        fits = _ordered(term) if term.operator in _ORDER else _any_of(term)

        def ask(tables: Tables, number: int) -> bool:
            shape, kind = shape_and_kind(number)
            return fits(str(getattr(say(known(tables.shapes, shape), kind), attribute)))

        cached = PerId(ask, np.bool_)
        return lambda spans, tables: cached.of(tables, shape_ids(spans))

    return compile_


def _ordered(term: Term) -> Text:
    bound, compare = float(term.values[0]), _COMPARE[term.operator]
    return lambda text: text.isascii() and text.isdigit() and bool(compare(float(text), bound))


def _service(term: Term) -> Callable[[Spans, Tables], Mask]:
    fits = _any_of(term)

    def ask(tables: Tables, number: int) -> bool:
        who = known(tables.resources, number)
        return fits(who.service if who else "")

    cached = PerId(ask, np.bool_)
    return lambda spans, tables: cached.of(tables, spans.resource)


def _peer(term: Term) -> Callable[[Spans, Tables], Mask]:
    masks = [_one_peer(v, anywhere="~" in term.operator) for v in term.values]

    def mask(spans: Spans, tables: Tables) -> Mask:
        found = np.zeros(len(spans), np.bool_)
        for one in masks:
            found |= one(spans, tables)
        return ~found if term.negated else found

    return mask


def _one_peer(value: str, *, anywhere: bool) -> Callable[[Spans, Tables], Mask]:
    host, port = _host_and_port(value)
    network = _network(host) if _is_network(host) and not anywhere else None
    fits = glob(host, anywhere=anywhere) if host else lambda _: True

    def name_fits(name: str) -> bool:
        if network is None:
            return fits(name)
        try:
            return ip_address(name) in network
        except ValueError:
            return False

    def by_endpoint(tables: Tables, number: int) -> bool:
        endpoint, kind = divmod(number, 4)
        found = known(tables.endpoints, endpoint)
        address = dict(found.always).get("network.peer.address", "") if found else ""
        return name_fits(peer_name(found, kind, "")) or name_fits(str(address))

    def by_shape(tables: Tables, number: int) -> bool:
        shape, kind = shape_and_kind(number)
        address = say(known(tables.shapes, shape), kind).address
        return bool(address) and name_fits(address)

    endpoints, shapes = PerId(by_endpoint, np.bool_), PerId(by_shape, np.bool_)

    def mask(spans: Spans, tables: Tables) -> Mask:
        numbers = spans.endpoint.astype(np.int64) * 4 + spans.kind
        found = endpoints.of(tables, numbers) | shapes.of(tables, shape_ids(spans))
        return found if port is None else found & (spans.peer_port == port)

    return mask


def _host_and_port(value: str) -> tuple[str, int | None]:
    """The port is what follows the last colon, unless the whole is an IPv6 address."""
    match = re.fullmatch(r"(?:\[([^]]*)\]|([^:]*)):([0-9]{1,5})", value)
    if match is None:
        return value.removeprefix("[").removesuffix("]"), None
    return match[1] or match[2] or "", int(match[3])


def _kind(term: Term) -> Callable[[Spans, Tables], Mask]:
    wanted = [Kind.CLIENT if v == "client" else Kind.SERVER for v in term.values]
    return lambda spans, _: np.isin(spans.kind, wanted, invert=term.negated)


def _error(term: Term) -> Callable[[Spans, Tables], Mask]:
    failed = Failed()
    wanted = [v == "true" for v in term.values]

    def mask(spans: Spans, tables: Tables) -> Mask:
        return np.isin(failed.of(spans, tables), wanted, invert=term.negated)

    return mask


def _duration(term: Term) -> Callable[[Spans, Tables], Mask]:
    bound, compare = round(_DURATION.parse(term.values[0]) * 1e9), _COMPARE[term.operator]

    def mask(spans: Spans, _: Tables) -> Mask:
        took: Mask = compare(np.maximum(spans.start, spans.end) - spans.start, np.uint64(bound))
        return took

    return mask


_COMPILE: dict[str, Callable[[Term], Callable[[Spans, Tables], Mask]]] = {
    "service": _service,
    "protocol": _by_shape("protocol"),
    "name": _by_shape("name"),
    "status": _by_shape("status"),
    "peer": _peer,
    "kind": _kind,
    "error": _error,
    "duration": _duration,
}
