"""What a search asks of spans, as a condition in SQL; values are always parameters of their own."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from otel_ebpf.viewer.api.answers import KINDS
from otel_ebpf.viewer.api.parameters import BadParameter, Given
from otel_ebpf.viewer.api.values import text
from otel_ebpf.viewer.api.window import SECOND
from otel_ebpf.viewer.contract import Reader
from otel_ebpf.viewer.decode.attributes import Value
from otel_ebpf.viewer.decode.peers import INTERNET, OTHER, UNKNOWN
from otel_ebpf.viewer.decode.signature import bits, words

_RESOURCES = 10_000
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_BEFORE, _AFTER = 60 * SECOND, 600 * SECOND
"""How far from a slice of time the other half of a call may lie: two clocks differ, and a request may have waited."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A parameter that depends on the slice of time that is looked at: so long after its start, or its end."""

    after: int
    end: bool


@dataclass(slots=True)
class Conditions:
    """Conditions that must all hold; cheap ones first. nothing: no span can fit.

    signs: conditions on the signature of a span's attributes, which all that fit fulfil and few others do.
    """

    texts: list[str] = field(default_factory=list)
    parameters: list[object] = field(default_factory=list)
    nothing: bool = False
    signs: list[str] = field(default_factory=list)

    def add(self, condition: str, *parameters: object) -> None:
        """One more; a `?` in it for each parameter."""
        self.texts.append(condition)
        self.parameters += parameters

    def values(self, start: int, end: int) -> list[object]:
        """The parameters for one slice of time."""
        return [(end if one.end else start) + one.after if isinstance(one, Edge) else one for one in self.parameters]

    @property
    def sql(self) -> str:
        """The whole."""
        return " AND ".join(self.texts) or "true"


def of_search(reader: Reader, given: Given) -> Conditions:
    """Those of GET /traces."""
    found = Conditions()
    service, operation = given.text("service"), given.text("operation")
    kind, status = given.text("kind"), given.text("status")
    low, high = given.number("min_ms"), given.number("max_ms")
    if low is not None and high is not None and low > high:
        raise BadParameter("min_ms: more than max_ms")
    if status:
        found.add("status = 2" if status == "error" else "status <> 2")
    if kind:
        found.add(f"kind = {list[str](KINDS).index(kind)}")
    if low is not None:
        found.add("duration >= ?", low)
    if high is not None:
        found.add("duration <= ?", high)
    if service:
        found.add("service = ?", service)
    if operation:
        found.add("name = ?", operation)
    client, server = given.text("client"), given.text("server")
    if client or server:
        add_edge(found, reader, client, server)
    for key, value in given.pairs("attr"):
        add_attribute(found, reader, key, value)
    return found


def add_attribute(found: Conditions, reader: Reader, key: str, value: str) -> None:
    """An attribute of the span, or of its resource, is `value`: as text, or as the number or truth value it writes.

    The stored text is searched for the pair, and only where it is found is it parsed.
    """
    # Without the first quote: DuckDB looks for the first byte first, and these texts are full of quotes; it takes a
    # third of the time. What is found too much, the exact comparison leaves out.
    pairs = [_json(key)[1:] + ":" + form for form in _forms(value)]
    pointer = "/" + key.replace("~", "~0").replace("/", "~1")
    holds = " OR ".join(["contains(attributes, ?)"] * len(pairs))
    exact = f"CASE WHEN {holds} THEN json_extract_string(attributes, ?) = ? ELSE false END"
    resources = [
        row["id"]
        for row in reader.rows(f"SELECT id FROM resources WHERE {exact} LIMIT {_RESOURCES}", [*pairs, pointer, value])
    ]
    if resources:
        found.add(f"(list_contains(?::UBIGINT[], resource) OR {exact})", resources, *pairs, pointer, value)
    else:
        found.add(exact, *pairs, pointer, value)
        found.signs.append(_signed(key, value))


def _signed(key: str, value: str) -> str:
    """The span's signature has the bits of the pair (decode/signature.py)."""
    masks = [words(bits(key, meant)) for meant in _meanings(value)]
    holds = (" AND ".join(f"sign_{w} & {m}::UBIGINT = {m}" for w, m in zip("abc", mask, strict=True)) for mask in masks)
    return "(" + " OR ".join(f"({one})" for one in holds) + ")"


def _meanings(value: str) -> list[Value]:
    """What a sender may have sent that is written so."""
    if value in ("true", "false"):
        return [value, value == "true"]
    if _INTEGER.fullmatch(value):
        return [value, int(value)]
    return [value, float(value)] if _NUMBER.fullmatch(value) else [value]


def _json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _forms(value: str) -> list[str]:
    """How the value may be written in JSON."""
    if value in ("true", "false") or _NUMBER.fullmatch(value):
        return [_json(value), value]
    return [_json(value)]


def add_edge(found: Conditions, reader: Reader, client: str | None, server: str | None) -> None:
    """Calls from `client`, or to `server`, or both.

    The client's span stands for a call whose client is a service, the server's span for any other. An end that is no
    service is known by the attributes of the other end's span: one of their values is its name.
    """
    names = [name for name in (client, server) if name]
    rows = reader.rows("SELECT DISTINCT service FROM resources WHERE list_contains(?, service)", [names])
    services = {text(row["service"]) for row in rows}
    if client is not None and client not in services:
        found.add("kind IN (2, 5)")
        if server is not None:
            found.add("service = ?", server)
        _add_peer(found, client)
    elif client is not None:
        found.add("kind IN (3, 4) AND service = ?", client)
        if server in services:
            _add_child(found, server)
        elif server is not None:
            _add_peer(found, server)
    elif server in services:
        found.add("kind IN (2, 5) AND service = ?", server)
    elif server is not None:
        found.add("kind IN (3, 4)")
        _add_peer(found, server)


def _add_child(found: Conditions, server: str | None) -> None:
    """The span has a child that the server served."""
    found.add(
        "(trace_low, span_id) IN (SELECT (trace_low, parent_id) FROM spans"
        " WHERE start >= ? AND start < ? AND kind IN (2, 5) AND service = ?)",
        Edge(-_BEFORE, end=False),
        Edge(_AFTER, end=True),
        server,
    )


def _add_peer(found: Conditions, name: str) -> None:
    if name in (INTERNET, UNKNOWN, OTHER):
        found.add("parent_id = 0")
        return
    match = re.fullmatch(r"(?:\[([^]]*)\]|([^:]*)):([0-9]{1,5})", name)
    host = (match[1] or match[2]) if match else name
    found.add("contains(attributes, ?)", ":" + _json(host))
    if match:
        found.add("contains(attributes, ?)", f'port":{match[3]}')
