"""`otel-ebpf infer` on recorded traces of which the truth is known."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from otel_ebpf import cli

pytestmark = pytest.mark.shared

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"
PUBLISHED = 0.984
"""Share of traces whole that the published algorithm reaches on the highest load."""


def _spans(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        span for resource in document["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]
    ]


def _link_method(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in attributes}


@pytest.mark.parametrize(("case", "sure"), [("hotel-150", 0.95), ("hotel-150-x10", 0.94)])
def test_parents_are_right_and_where_they_are_not_sure_they_are_links(case: str, sure: float, tmp_path: Path) -> None:
    source, output = TRACES / f"{case}.spans.json.gz", tmp_path / "out.json"
    truth: dict[str, str] = json.loads(gzip.decompress((TRACES / f"{case}.parents.json.gz").read_bytes()))["parents"]
    given = {span["spanId"]: span for span in _spans(json.loads(gzip.decompress(source.read_bytes())))}

    assert cli.main(["infer", str(source), "-o", str(output)]) == 0

    spans = _spans(json.loads(output.read_text()))
    assert [span["spanId"] for span in spans] == list(given)
    by_id = {span["spanId"]: span for span in spans}
    verdicts: Counter[str] = Counter()
    whole = {span["spanId"] for span in spans if span["kind"] == 2 and "parentSpanId" not in span}
    for span in spans:
        before = given[span["spanId"]]
        parent = span.get("parentSpanId")
        if parent:
            assert span["traceId"] == by_id[parent]["traceId"], "a span is in its parent's trace"
        if span["kind"] != 3:
            assert {**span, "traceId": ""} == {**before, "traceId": ""}
            continue
        likely = parent or next((link["spanId"] for link in span.get("links", ())), None)
        if parent:
            evidence = _link_method(span["attributes"])
            assert evidence["otel_ebpf.link.method"] == "statistics"
            assert 0.95 <= evidence["otel_ebpf.link.confidence"] <= 1
            assert int(evidence["otel_ebpf.link.candidates"]) >= 1
            verdicts["right" if parent == truth[span["spanId"]] else "wrong"] += 1
        elif likely:
            assert 0.5 <= _link_method(span["links"][0]["attributes"])["otel_ebpf.link.confidence"] <= 0.95
        if likely != truth[span["spanId"]]:
            whole.discard(_front(truth[span["spanId"]], by_id, truth))
    assert verdicts["wrong"] == 0
    assert verdicts["right"] / len(truth) >= sure


def _front(span: str, by_id: dict[str, Any], truth: dict[str, str]) -> str:
    """The request that the trace began with."""
    while above := by_id[span].get("parentSpanId") if by_id[span]["kind"] == 2 else truth[span]:
        span = above
    return span
