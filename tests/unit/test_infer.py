"""Specification of `otel-ebpf infer`: what it reads, what it writes, and what it says of what it cannot use."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf import cli
from otel_ebpf.infer import reading
from tests.unit.statistics_world import World, cached, in_sequence, world

Document = dict[str, Any]


def _span(number: int, kind: object, start: int, end: int, **more: object) -> dict[str, Any]:
    return {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "GET",
        "kind": kind,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        **more,
    }


def _document(*spans: object, service: str = "shop") -> Document:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}


def document_of(of: World) -> Document:
    """Requests are spans 1 …, the calls follow."""
    columns = of.columns
    m = len(columns.request_start)
    spans = [
        _span(i + 1, 2, int(start), int(end))
        for i, (start, end) in enumerate(zip(columns.request_start, columns.request_end, strict=True))
    ]
    for i, (start, end, kind) in enumerate(
        zip(columns.call_start, columns.call_end, columns.call_kind, strict=True), m + 1
    ):
        peer = [{"key": "server.address", "value": {"stringValue": f"callee-{kind}"}}]
        spans.append(_span(i, "SPAN_KIND_CLIENT", int(start), int(end), attributes=peer))
    return _document(*spans)


def all_spans(document: Document) -> Iterator[dict[str, Any]]:
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            yield from scope["spans"]


def _infer(tmp_path: Path, data: bytes, *options: str) -> tuple[int, list[Document]]:
    source, output = tmp_path / "in.json", tmp_path / "out.json"
    source.write_bytes(data)
    code = cli.main(["infer", str(source), "-o", str(output), *options])
    return code, [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []


def test_calls_get_their_requests_as_parents_and_how_that_was_found(tmp_path: Path) -> None:
    of = world(cached, requests=300, in_flight=4)
    code, [document] = _infer(tmp_path, json.dumps(document_of(of)).encode())
    assert code == 0
    spans = list(all_spans(document))
    by_id = {span["spanId"]: span for span in spans}
    m = len(of.columns.request_start)
    wrong = right = 0
    for i, truth in enumerate(of.truth):
        span = spans[m + i]
        if parent := span.get("parentSpanId"):
            right += parent == f"{truth + 1:016x}"
            wrong += parent != f"{truth + 1:016x}"
            assert span["traceId"] == by_id[parent]["traceId"]
            assert {"key": "otel_ebpf.link.method", "value": {"stringValue": "statistics"}} in span["attributes"]
        for link in span.get("links", ()):
            assert by_id[link["spanId"]]["kind"] == 2
    assert right >= 0.95 * len(of.truth)
    assert wrong <= 0.002 * len(of.truth)


def test_what_was_known_stays_and_what_is_below_a_call_follows_it_into_its_trace(tmp_path: Path) -> None:
    request = _span(1, 2, 1_000, 9_000)
    inner = _span(2, 1, 1_500, 8_500, traceId=request["traceId"], parentSpanId=request["spanId"])
    known = _span(3, 3, 2_000, 3_000, traceId=request["traceId"], parentSpanId=inner["spanId"])
    foreign = _span(4, 3, 2_000, 3_000, parentSpanId="00000000000000ff")
    given_document = _document(request, inner, known, foreign)
    _, [document] = _infer(tmp_path, json.dumps(given_document).encode())
    assert document == given_document


def test_the_trace_of_a_call_goes_down_to_all_that_it_caused(tmp_path: Path) -> None:
    of = world(in_sequence, requests=60, in_flight=0.3)
    document = document_of(of)
    m = len(of.columns.request_start)
    called = [
        {**_span(10_000 + i, 2, int(span["startTimeUnixNano"]) + 1, int(span["endTimeUnixNano"]) - 1)}
        | {"traceId": span["traceId"], "parentSpanId": span["spanId"]}
        for i, span in enumerate(list(all_spans(document))[m:])
    ]
    document["resourceSpans"] += _document(*called, service="callee")["resourceSpans"]
    _, [result] = _infer(tmp_path, json.dumps(document).encode())
    spans = {span["spanId"]: span for span in all_spans(result)}
    below = [span for span in spans.values() if span["spanId"] >= f"{10_000:016x}"]
    assert sum("parentSpanId" in spans[span["parentSpanId"]] for span in below) > 0.9 * len(below)
    for span in below:
        call = spans[span["parentSpanId"]]
        assert span["traceId"] == call["traceId"]
        if "parentSpanId" in call:
            assert call["traceId"] == spans[call["parentSpanId"]]["traceId"]


def test_one_document_in_each_line_compressed_from_stdin_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = [document_of(world(cached, requests=50, in_flight=1, seed=seed)) for seed in (1, 2)]
    for i, span in enumerate(all_spans(documents[1])):
        span["spanId"] = f"{5_000 + i:016x}"
    lines = "\n".join(json.dumps(document) for document in documents) + "\n\n"
    stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(gzip.compress(lines.encode()))))
    monkeypatch.setattr("sys.stdin", stdin)
    assert cli.main(["infer", "-", "--json"]) == 0
    written = capsys.readouterr()
    results = [json.loads(line) for line in written.out.splitlines()]
    counts = [len(list(all_spans(document))) for document in documents]
    assert [len(list(all_spans(result))) for result in results] == counts
    report = json.loads(written.err)
    assert report["spans"] == sum(counts)
    total = report["total"]
    assert total["calls"] == sum(total[key] for key in ("given", "parents", "links", "declined", "outside"))


def test_given_more_spans_than_are_held_at_once_then_what_was_learned_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_ebpf.infer.main.SPANS", 500)
    of = world(cached, requests=900, in_flight=3)
    spans = sorted(all_spans(document_of(of)), key=lambda span: int(span["endTimeUnixNano"]))
    lines = [json.dumps(_document(*spans[i : i + 100])) for i in range(0, len(spans), 100)]
    code, documents = _infer(tmp_path, "\n".join(lines).encode())
    assert code == 0
    assert len(documents) == len(lines)
    parents = {span["spanId"]: span.get("parentSpanId") for document in documents for span in all_spans(document)}
    m = len(of.columns.request_start)
    right = [parents[f"{m + 1 + i:016x}"] == f"{truth + 1:016x}" for i, truth in enumerate(of.truth)]
    assert sum(right) > 0.9 * len(right)


@pytest.mark.parametrize(
    ("span", "problem"),
    [
        ("text", "an object was expected, not 'text'"),
        (_span(1, 2, 5, 9, spanId="12"), "spanId '12' is not 16 hexadecimal digits"),
        (_span(1, 2, 5, 9, spanId=None), "spanId None is not 16 hexadecimal digits"),
        (_span(7, 2, 5, 9), "spanId 0000000000000007 was there before"),
        (_span(1, 2, 5, 9, parentSpanId=[1]), "parentSpanId [1] is not 16 hexadecimal digits"),
        (_span(1, 17, 5, 9), "kind 17 is none"),
        (_span(1, True, 5, 9), "kind True is none"),
        (_span(1, [2], 5, 9), "kind [2] is none"),
        (_span(1, 2, 5, 9, startTimeUnixNano="yesterday"), "startTimeUnixNano 'yesterday' is not a time in ns"),
        (_span(1, 2, 5, 9, endTimeUnixNano=1e300), "endTimeUnixNano 1e+300 is not a time in ns"),
        (_span(1, 2, 5, 9, endTimeUnixNano="9" * 19), f"endTimeUnixNano '{'9' * 19}' is not a time in ns"),
        (_span(1, 2, 9, 5), "ends 4 ns before it starts"),
    ],
)
def test_a_span_that_cannot_be_used_is_told_with_its_place_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], span: object, problem: str
) -> None:
    given_document = _document(_span(7, 2, 1, 2), span)
    code, [document] = _infer(tmp_path, json.dumps(given_document).encode())
    assert code == 0
    assert document == given_document
    where = f"{tmp_path}/in.json: resourceSpans[0].scopeSpans[0].spans[1]"
    assert f"otel-ebpf: warning: {where}: {problem}\n" in capsys.readouterr().err


def test_of_many_problems_the_first_are_told_and_the_others_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _infer(tmp_path, json.dumps(_document(*range(100))).encode())
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 21
    assert warnings[-1].endswith("and 80 more")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "an object with a list `resourceSpans` was expected"),
        (b'{"resourceSpans": 5}', "an object with a list `resourceSpans` was expected"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"resourceSpans": [' + b"9" * 10_000 + b"]}", "not JSON"),
        (gzip.compress(b"{}" * 500)[:20], "cannot be read"),
        (gzip.compress(bytes(1000))[:10] + bytes(50), "cannot be read"),
    ],
)
def test_what_is_no_otlp_json_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, message: str
) -> None:
    code, documents = _infer(tmp_path, data)
    told = capsys.readouterr().err
    assert code == 1
    assert not documents
    assert message in told
    assert told.startswith(f"otel-ebpf: error: {tmp_path}/in.json")
    assert told.count("\n") == 1


def test_a_line_that_is_no_document_is_told_and_the_others_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [json.dumps(_document(_span(i, 2, 5, 9))) for i in (1, 2, 3)]
    for at in (0, 1):
        lines = [*good[:at], "}{", *good[at:]]
        code, documents = _infer(tmp_path, "\n".join(lines).encode())
        assert code == 0
        assert len(documents) == 3
        assert f"line {at + 1}: not JSON" in capsys.readouterr().err


def test_a_document_in_several_lines_is_one(tmp_path: Path) -> None:
    document = _document(_span(1, 2, 5, 9))
    assert _infer(tmp_path, json.dumps(document, indent=2).encode()) == (0, [document])


def test_a_document_that_is_too_large_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BYTES", 1 << 20)
    code, _ = _infer(tmp_path, gzip.compress(b" " * (2 << 20)))
    assert code == 1
    assert "give one document in each line" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["/no/such"], "/no/such: cannot be read: No such file"), (["/"], "/: cannot be read: Is a directory")],
)
def test_a_file_that_cannot_be_opened_is_told(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["infer", *arguments]) == 1
    assert message in capsys.readouterr().err


_TIME = st.one_of(st.integers(0, 1 << 64), st.integers(1, 60)).map(str)
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_SPANS = st.fixed_dictionaries(
    {
        "spanId": st.integers(0, 30).map(lambda i: f"{i:016x}") | _ANY,
        "kind": st.sampled_from([1, 2, 3, 3, 3]) | _ANY,
        "startTimeUnixNano": _TIME | _ANY,
        "endTimeUnixNano": _TIME | _ANY,
    },
    optional={
        "parentSpanId": st.integers(0, 30).map(lambda i: f"{i:016x}") | _ANY,
        "traceId": _ANY,
        "attributes": _ANY,
        "links": _ANY,
        "name": _ANY,
    },
)


@settings(max_examples=60)
@given(st.lists(_SPANS | _ANY, max_size=25))
def test_whatever_is_given_comes_out_again(tmp_path_factory: pytest.TempPathFactory, spans: list[Any]) -> None:
    given_text = json.dumps(_document(*spans))
    code, [document] = _infer(tmp_path_factory.mktemp("any"), given_text.encode())
    assert code == 0
    added = {"parentSpanId", "traceId", "links", "attributes"}

    def without(span: object) -> object:
        return {k: v for k, v in span.items() if k not in added} if isinstance(span, dict) else span

    before = json.loads(given_text)
    assert json.dumps([without(s) for s in all_spans(document)]) == json.dumps([without(s) for s in all_spans(before)])


def test_times_far_apart_and_far_too_long_do_no_harm(tmp_path: Path) -> None:
    latest = (1 << 62) - 1
    spans = [_span(i, 2 + i % 2, 1 + i, latest - i) for i in range(1, 40)]
    spans += [_span(100 + i, 3, latest - i, latest) for i in range(20)]
    code, [document] = _infer(tmp_path, json.dumps(_document(*spans)).encode())
    assert code == 0
    assert len(list(all_spans(document))) == len(spans)
