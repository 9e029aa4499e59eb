"""The spans of documents as columns, and what is wrong with those that are not used. Nothing is changed here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from otel_ebpf.infer.reading import Document

REQUEST, CALL, INTERNAL = range(3)
_KINDS: dict[object, int] = {
    **dict.fromkeys((2, "2", "SPAN_KIND_SERVER", 5, "5", "SPAN_KIND_CONSUMER"), REQUEST),
    **dict.fromkeys((3, "3", "SPAN_KIND_CLIENT", 4, "4", "SPAN_KIND_PRODUCER"), CALL),
    **dict.fromkeys((0, 1, None, "", "0", "1", "SPAN_KIND_INTERNAL", "SPAN_KIND_UNSPECIFIED"), INTERNAL),
}
_SERVICE = ("service.namespace", "service.name")
_PLACE = (
    *("service.instance.id", "host.id", "host.name", "k8s.pod.uid", "k8s.pod.name", "container.id", "process.pid"),
)
_PEER = (
    "server.address",
    "peer.service",
    "network.peer.address",
    "net.peer.name",
    "db.system.name",
    "messaging.system",
)
_PORT = ("server.port", "network.peer.port", "net.peer.port")
_ID = re.compile(r"[0-9a-fA-F]{16}")
_LATEST = 1 << 62
_PROBLEMS = 20
"""So many are told in full; the others are counted."""


@dataclass(slots=True)
class Problems:
    """What was wrong: a line for each of the first ones, and how many there were."""

    lines: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, where: str, what: str) -> None:
        self.count += 1
        if len(self.lines) < _PROBLEMS:
            self.lines.append(f"{where}: {what}")


@dataclass(slots=True)
class Spans:
    """Columns of all usable spans; `span` is the document's own object of each."""

    span: list[dict[str, object]] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    parent: list[str] = field(default_factory=list)
    """"" if it has none."""
    kind: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    service: list[str] = field(default_factory=list)
    place: list[str] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    peer: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.span)


def read(documents: list[tuple[int, Document]], name: str, problems: Problems) -> Spans:
    """All spans that can be used. documents: with the lines that they were in."""
    spans = Spans()
    known: set[str] = set()
    for line, document in documents:
        begin = f"{name}: " if len(documents) == 1 and line == 1 else f"{name}: line {line}: "
        for where, service, place, span in _walk(document, begin, problems):
            problem = _add(spans, known, service, place, span)
            if problem:
                problems.add(where, problem)
    return spans


def _walk(document: Document, begin: str, problems: Problems) -> Iterator[tuple[str, str, str, dict[str, object]]]:
    """(where it is, service, place, span) of each span that is an object."""
    for i, of_resource in _objects(document, "resourceSpans", begin, problems):
        where = f"{begin}resourceSpans[{i}]"
        resource = of_resource.get("resource")
        attributes = _attributes(resource if isinstance(resource, dict) else {})
        service = "/".join(attributes.get(key, "") for key in _SERVICE)
        place = "\0".join(attributes.get(key, "") for key in _PLACE)
        for j, scope in _objects(of_resource, "scopeSpans", f"{where}.", problems):
            for k, span in _objects(scope, "spans", f"{where}.scopeSpans[{j}].", problems):
                yield f"{where}.scopeSpans[{j}].spans[{k}]", service, place, span


def _objects(
    holder: dict[str, object], key: str, where: str, problems: Problems
) -> Iterator[tuple[int, dict[str, object]]]:
    values = holder.get(key, [])
    if not isinstance(values, list):
        problems.add(f"{where}{key}", f"a list was expected, not {_shown(values)}")
        return
    for i, value in enumerate(values):
        if isinstance(value, dict):
            yield i, value
        else:
            problems.add(f"{where}{key}[{i}]", f"an object was expected, not {_shown(value)}")


def _add(spans: Spans, known: set[str], service: str, place: str, span: dict[str, object]) -> str | None:
    """None, or why the span cannot be used."""
    identity, parent, kind = span.get("spanId"), span.get("parentSpanId") or "", span.get("kind")
    if not isinstance(identity, str) or not _ID.fullmatch(identity):
        return f"spanId {_shown(identity)} is not 16 hexadecimal digits"
    identity = identity.lower()
    if identity in known:
        return f"spanId {identity} was there before"
    if not isinstance(parent, str) or (parent and not _ID.fullmatch(parent)):
        return f"parentSpanId {_shown(parent)} is not 16 hexadecimal digits"
    if isinstance(kind, bool) or not isinstance(kind, int | str | None) or kind not in _KINDS:
        return f"kind {_shown(kind)} is none"
    start, end = _time(span.get("startTimeUnixNano")), _time(span.get("endTimeUnixNano"))
    if start is None or end is None:
        key = "startTimeUnixNano" if start is None else "endTimeUnixNano"
        return f"{key} {_shown(span.get(key))} is not a time in ns"
    if end < start:
        return f"ends {start - end} ns before it starts"
    known.add(identity)
    spans.span.append(span)
    spans.id.append(identity)
    spans.parent.append(parent.lower() if parent.strip("0") else "")
    spans.kind.append(_KINDS[kind])
    spans.start.append(start)
    spans.end.append(end)
    spans.service.append(service)
    spans.place.append(place)
    name = span.get("name")
    spans.name.append(name if isinstance(name, str) else "")
    spans.peer.append(_peer(span) if _KINDS[kind] == CALL else "")
    return None


def _peer(span: dict[str, object]) -> str:
    attributes = _attributes(span)
    peer = next((attributes[key] for key in _PEER if attributes.get(key)), "")
    port = next((attributes[key] for key in _PORT if attributes.get(key)), "")
    return f"{peer}:{port}" if port else peer


def _attributes(holder: dict[str, object]) -> dict[str, str]:
    """Those whose value is a text or a number, as texts."""
    attributes = holder.get("attributes")
    found: dict[str, str] = {}
    for attribute in attributes if isinstance(attributes, list) else ():
        if isinstance(attribute, dict) and isinstance(value := attribute.get("value"), dict):
            text = value.get("stringValue", value.get("intValue"))
            if isinstance(text, str | int):
                found[str(attribute.get("key"))] = str(text)
    return found


def _time(value: object) -> int | None:
    """ns, or None. The JSON mapping writes 64-bit numbers as texts; numbers are taken too."""
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) <= 19:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LATEST:
        return value
    return None


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
