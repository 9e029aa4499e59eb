"""Our own attributes are those, and have the types and values, that docs/semconv/otel_ebpf.yaml says."""

from __future__ import annotations

from pathlib import Path

import yaml

from otel_ebpf.model import Link
from otel_ebpf.otlp.encoder import SpanEncoder
from tests.unit.otlp_twin import OFFSET, Row, parse_traces, simple_tables, spans_of

REGISTRY = Path(__file__).resolve().parents[2] / "docs" / "semconv" / "otel_ebpf.yaml"


def registered() -> dict[str, object]:
    """Attribute name → "int", or the values of its members."""
    groups = yaml.safe_load(REGISTRY.read_text())["groups"]
    types = {attribute["id"]: attribute["type"] for group in groups for attribute in group["attributes"]}
    return {
        name: kind if isinstance(kind, str) else {member["value"] for member in kind["members"]}
        for name, kind in types.items()
    }


def test_what_is_emitted_under_our_name_is_registered() -> None:
    """Given spans with every link, when encoded, then ours are the registered names, types and values, all of them."""
    rows = [Row(link=link, parent=1, key=1) for link in Link]
    (message,) = SpanEncoder(*simple_tables().all()).encode(spans_of(rows), OFFSET)
    spans = parse_traces(message.data).resource_spans[0].scope_spans[0].spans
    seen: dict[str, set[object]] = {}
    plain = {name for name, kind in registered().items() if kind == "string"}
    for span in spans:
        for attribute in span.attributes:
            if attribute.key.startswith("otel_ebpf."):
                kind = attribute.value.WhichOneof("value")
                assert kind is not None
                listed = kind == "string_value" and attribute.key not in plain
                value = attribute.value.string_value if listed else kind.removesuffix("_value")
                seen.setdefault(attribute.key, set()).add(value)
    expected = {name: {kind} if isinstance(kind, str) else kind for name, kind in registered().items()}
    assert seen == expected
