"""Which attributes spans have, and their values, by a look at the newest of them."""

from __future__ import annotations

import json
from collections import Counter

from otel_ebpf.viewer.api.answers import AttributeKeys, AttributeValues, KeyCount, ValueCount
from otel_ebpf.viewer.api.ask import Ask
from otel_ebpf.viewer.api.traces import slices
from otel_ebpf.viewer.api.values import attributes, text, whole
from otel_ebpf.viewer.contract import Reader

SAMPLE = 5_000
"""Spans that are looked at."""
_KEYS, _VALUES = 1000, 100
_DISTINCT = 50_000
"""Keys that are counted; a sender may make up as many as it likes."""
_BYTES = 16_384
"""Spans with longer attributes are not looked at."""
_LONGEST = 1024
"""Characters of a value that can be searched for."""


def keys(ask: Ask) -> AttributeKeys:
    """GET /attributes"""
    found, sampled = _sample(ask)
    counts: Counter[str] = Counter()
    for one, spans in found:
        for key in one:
            if key in counts or len(counts) < _DISTINCT:
                counts[key] += spans
    return AttributeKeys(
        keys=[KeyCount(key=key, spans=spans) for key, spans in counts.most_common(_KEYS)], sampled=sampled
    )


def values(ask: Ask) -> AttributeValues:
    """GET /attributes/KEY"""
    key, prefix = ask.given.text("key") or "", (ask.given.text("prefix") or "").casefold()
    found, sampled = _sample(ask)
    counts: Counter[str] = Counter()
    for one, spans in found:
        if key not in one:
            continue
        value = one[key]
        shown = value if isinstance(value, str) else json.dumps(value)
        if len(shown) <= _LONGEST and shown.casefold().startswith(prefix):
            counts[json.dumps(value)] += spans
    return AttributeValues(
        key=key,
        values=[ValueCount(value=json.loads(value), spans=spans) for value, spans in counts.most_common(_VALUES)],
        sampled=sampled,
    )


def _sample(ask: Ask) -> tuple[list[tuple[dict[str, object], int]], int]:
    """Attributes of the newest spans, and of their resources, with how many spans have each; and how many spans."""
    found: list[tuple[dict[str, object], int]] = []
    resources: Counter[int] = Counter()
    service = ask.given.text("service")
    which, parameters = ("service = ?", [service]) if service else ("true", [])
    for start, end in slices(ask.window):
        rows = ask.reader.rows(
            f"SELECT resource, attributes FROM spans WHERE start >= ? AND start < ? AND {which}"
            f" AND strlen(attributes) <= {_BYTES} LIMIT ?",
            [start, end, *parameters, SAMPLE - len(found)],
        )
        found += [(attributes(row["attributes"]), 1) for row in rows]
        resources.update(whole(row["resource"]) for row in rows)
        if len(found) >= SAMPLE:
            break
    sampled = len(found)
    of_resources = _of_resources(ask.reader, list(resources))
    found += [(of_resources[number], spans) for number, spans in resources.items() if number in of_resources]
    return found, sampled


def _of_resources(reader: Reader, numbers: list[int]) -> dict[int, dict[str, object]]:
    rows = reader.rows("SELECT id, attributes FROM resources WHERE list_contains(?::UBIGINT[], id)", [numbers])
    return {whole(row["id"]): attributes(text(row["attributes"])) for row in rows}
