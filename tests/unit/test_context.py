"""Trace contexts in request headers: each format, its order of precedence, and what must not be taken for one."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.model import Link
from otel_ebpf.protocols.headers import Lines
from otel_ebpf.tracing.context import Remote, remote

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
DATADOG = [f"x-datadog-trace-id: {int(TRACE[16:], 16)}", f"x-datadog-parent-id: {int(SPAN, 16)}"]
JAVA = "56a5e1c519ae4c76a2b8b11d92cead7f.12.16563474296430001"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def find(*messages: bytes) -> Remote:
    matrix = np.zeros((len(messages), 1024), np.uint8)
    for i, message in enumerate(messages):
        matrix[i, : len(message[:1024])] = np.frombuffer(message[:1024], np.uint8)
    return remote(Lines.of(matrix))


def request(*headers: str, body: bytes = b"", target: str = "/") -> bytes:
    return "\r\n".join([f"POST {target} HTTP/1.1", "Host: h", *headers, "", ""]).encode("latin-1") + body


def told(found: Remote, i: int = 0) -> tuple[Link, str, str, int]:
    trace = found.trace[i : i + 1].view(np.uint8).tobytes().hex()
    return Link(int(found.link[i])), trace, found.parent[i : i + 1].tobytes().hex(), int(found.flags[i])


def nothing() -> tuple[Link, str, str, int]:
    return Link.NONE, "0" * 32, "0" * 16, 0


@pytest.mark.parametrize(
    ("headers", "link", "trace", "sampled"),
    [
        ([f"traceparent: 00-{TRACE}-{SPAN}-01"], Link.TRACEPARENT, TRACE, 1),
        ([f"TraceParent:00-{TRACE}-{SPAN}-00"], Link.TRACEPARENT, TRACE, 0),
        ([f"traceparent: \t00-{TRACE}-{SPAN}-09 "], Link.TRACEPARENT, TRACE, 1),
        ([f"traceparent: cc-{TRACE}-{SPAN}-01-what-the-future-brings"], Link.TRACEPARENT, TRACE, 1),
        ([f"traceparent: cc-{TRACE}-{SPAN}-01"], Link.TRACEPARENT, TRACE, 1),
        ([f"b3: {TRACE}-{SPAN}-1"], Link.B3, TRACE, 1),
        ([f"b3: {TRACE}-{SPAN}-0"], Link.B3, TRACE, 0),
        ([f"b3: {TRACE}-{SPAN}-d-05e3ac9a4f6e3b90"], Link.B3, TRACE, 1),
        ([f"b3: {TRACE}-{SPAN}"], Link.B3, TRACE, 1),
        ([f"B3: {TRACE[:16]}-{SPAN}-1"], Link.B3, "0" * 16 + TRACE[:16], 1),
        ([f"X-B3-TraceId: {TRACE}", f"X-B3-SpanId: {SPAN}", "X-B3-Sampled: 1"], Link.B3, TRACE, 1),
        ([f"x-b3-spanid: {SPAN}", "x-b3-sampled: 0", f"x-b3-traceid: {TRACE}"], Link.B3, TRACE, 0),
        ([f"X-B3-TraceId: {TRACE[:16]}", f"X-B3-SpanId: {SPAN}"], Link.B3, "0" * 16 + TRACE[:16], 1),
        ([f"uber-trace-id: {TRACE}:{SPAN}:0:1"], Link.JAEGER, TRACE, 1),
        ([f"Uber-Trace-Id: {TRACE[:16]}:{SPAN}:0:0"], Link.JAEGER, "0" * 16 + TRACE[:16], 0),
        ([f"uber-trace-id: abc:{SPAN}:0:3"], Link.JAEGER, "abc".zfill(32), 1),
        ([f"uber-trace-id: {TRACE}%3A{SPAN}%3a0%3A1"], Link.JAEGER, TRACE, 1),
        ([f"uber-trace-id: {TRACE}:{SPAN}:5:1", f"b3: {TRACE[::-1]}-{SPAN}-1"], Link.B3, TRACE[::-1], 1),
        ([f"b3: {TRACE[::-1]}-{SPAN}-1", f"traceparent: 00-{TRACE}-{SPAN}-01"], Link.TRACEPARENT, TRACE, 1),
        ([f"b3: {TRACE}-{SPAN}-1", f"traceparent: ff-{TRACE}-{SPAN}-01"], Link.B3, TRACE, 1),
        ([*DATADOG, "x-datadog-sampling-priority: 1"], Link.DATADOG, "0" * 16 + TRACE[16:], 1),
        ([*DATADOG, "X-Datadog-Sampling-Priority: 2"], Link.DATADOG, "0" * 16 + TRACE[16:], 1),
        ([*DATADOG, "x-datadog-sampling-priority: 0"], Link.DATADOG, "0" * 16 + TRACE[16:], 0),
        ([*DATADOG, "x-datadog-sampling-priority: -1"], Link.DATADOG, "0" * 16 + TRACE[16:], 0),
        ([*DATADOG, f"x-datadog-tags: _dd.p.dm=-4,_dd.p.tid={TRACE[:16]}"], Link.DATADOG, TRACE, 1),
        ([*DATADOG, f"x-datadog-tags: _dd.p.tid={TRACE[:16]},_dd.p.dm=-4"], Link.DATADOG, TRACE, 1),
        ([*DATADOG, f"x-datadog-tags: x_dd.p.tid={TRACE[:16]}"], Link.DATADOG, "0" * 16 + TRACE[16:], 1),
        ([*DATADOG, f"traceparent: 00-{TRACE}-{SPAN}-00"], Link.TRACEPARENT, TRACE, 0),
        ([f"X-Amzn-Trace-Id: Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN};Sampled=1"], Link.XRAY, TRACE, 1),
        ([f"X-Amzn-Trace-Id: Sampled=0; Parent={SPAN}; Root=1-{TRACE[:8]}-{TRACE[8:]}"], Link.XRAY, TRACE, 0),
        ([f"x-amzn-trace-id: Self=1-2-3;Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN}"], Link.XRAY, TRACE, 1),
        ([f"x-amzn-trace-id: Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN};Sampled=?"], Link.XRAY, TRACE, 1),
    ],
)
def test_a_valid_context_is_read(headers: list[str], link: Link, trace: str, sampled: int) -> None:
    assert told(find(request(*headers))) == (link, trace, SPAN, sampled)


@pytest.mark.parametrize(
    "headers",
    [
        [f"traceparent: ff-{TRACE}-{SPAN}-01"],
        [f"traceparent: 00-{'0' * 32}-{SPAN}-01"],
        [f"traceparent: 00-{TRACE}-{'0' * 16}-01"],
        [f"traceparent: 00-{TRACE.upper()}-{SPAN}-01"],
        [f"traceparent: 00-{TRACE}-{SPAN}-01-more"],
        [f"traceparent: cc-{TRACE}-{SPAN}-01.more"],
        [f"traceparent: 00-{TRACE}-{SPAN}-0"],
        [f"traceparent: 00-{TRACE}-{SPAN}-xy"],
        [f"traceparent: 0-{TRACE}-{SPAN}-01"],
        [f"traceparent: 00_{TRACE}_{SPAN}_01"],
        [f"traceparent: 00-{TRACE}-{SPAN}-01", f"traceparent: 00-{TRACE}-{SPAN}-01"],
        ["traceparent:"],
        [f"x-traceparent: 00-{TRACE}-{SPAN}-01"],
        [f"traceparent : 00-{TRACE}-{SPAN}-01"],
        ["b3: 0"],
        ["b3: 1"],
        [f"b3: {TRACE}-{SPAN}-2"],
        [f"b3: {TRACE}-{SPAN[:-1]}-1"],
        [f"b3: {TRACE}{TRACE}-{SPAN}-1"],
        [f"b3: {'0' * 32}-{SPAN}-1"],
        [f"X-B3-TraceId: {TRACE}"],
        [f"X-B3-TraceId: {TRACE}x", f"X-B3-SpanId: {SPAN}"],
        [f"X\rB3-TraceId: {TRACE}", f"X-B3-SpanId: {SPAN}"],
        [f"uber-trace-id: {TRACE}:{SPAN}:0"],
        [f"uber-trace-id: {TRACE}:0:0:1"],
        [f"uber-trace-id: {TRACE}0:{SPAN}:0:1"],
        [f"uber-trace-id: {TRACE}:{SPAN}:0:xyz"],
        ["uber-trace-id: " + ":" * 200],
        ["uber-trace-id: " + "%3A" * 60],
        DATADOG[:1],
        DATADOG[1:],
        [DATADOG[0], "x-datadog-parent-id: 0"],
        [DATADOG[0], "x-datadog-parent-id: 18446744073709551616"],
        [DATADOG[0], f"x-datadog-parent-id: {SPAN}"],
        ["x-datadog-trace-id: 0", DATADOG[1]],
        ["x-datadog-trace-id:", DATADOG[1]],
        [f"x-amzn-trace-id: Root=1-{TRACE[:8]}-{TRACE[8:]}"],
        [f"x-amzn-trace-id: Root=2-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN}"],
        [f"x-amzn-trace-id: Root=1-{TRACE[:8]}_{TRACE[8:]};Parent={SPAN}"],
        [f"x-amzn-trace-id: Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN[:-1]}"],
        [f"x-amzn-trace-id: xRoot=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN}"],
        ["sw8: 1-a-b-3"],
        ["sw8: " + "-" * 300],
        [f"sw8: 2-{encoded(JAVA)}-{encoded(JAVA)}-3-x"],
        [f"sw8: 1-{encoded(JAVA)}-{encoded(JAVA)}-4294967296-x"],
        [f"sw8: 1-{encoded(JAVA)}-{encoded(JAVA)[:-1]}-3-x"],
        [f"sw8: 1-{encoded(JAVA[:-19])}-{encoded(JAVA)}-3-x"],
        [f"sw8: 1-{encoded(JAVA + '.1')}-{encoded(JAVA)}-3-x"],
        [f"sw8: 1-{encoded('x' + JAVA[1:])}-{encoded(JAVA)}-3-x"],
    ],
)
def test_an_invalid_context_is_none(headers: list[str]) -> None:
    assert told(find(request(*headers))) == nothing()


def test_only_the_header_block_counts() -> None:
    line = f"traceparent: 00-{TRACE}-{SPAN}-01"
    assert told(find(request(body=f"{line}\r\n\r\n".encode()))) == nothing()
    assert told(find(request(target=f"/?{line}"))) == nothing()
    assert told(find(f"{line}\r\nHost: h\r\n\r\n".encode())) == nothing()
    assert told(find(request(line)[:-10])) == nothing()  # its end was cut off
    assert told(find(request(line)[:-2]))[0] == Link.TRACEPARENT  # only the empty line was


def test_each_message_has_its_own() -> None:
    found = find(request(), request(f"b3: {TRACE}-{SPAN}-1"), b"", request(f"traceparent: 00-{TRACE}-{SPAN}-00"))
    assert found.link.tolist() == [Link.NONE, Link.B3, Link.NONE, Link.TRACEPARENT]


def skywalking_id(text: str, extra: int = 0) -> bytes:
    """As the Collector's skywalkingreceiver makes an id of a text: the plain twin."""
    first, _, rest = text.partition(".")
    thread, _, time = rest.partition(".")
    mask = extra.to_bytes(4, "little") + (int(thread or 0) % 2**32).to_bytes(4, "little")
    mask += int(time or 0).to_bytes(8, "little")
    return bytes(a ^ b for a, b in zip(bytes.fromhex(first.replace("-", "")), mask, strict=True))


@pytest.mark.parametrize("trace", [JAVA, JAVA[:32], "de5980b8-fce3-4a37-aab9-b4ac3af7eedd"])
@pytest.mark.parametrize("segment", [JAVA, JAVA[:32], "0" * 31 + "1.4294967295.18446744073709551615"])
@pytest.mark.parametrize("span", [0, 3, 2**32 - 1])
def test_skywalking_ids_are_those_of_the_collector(trace: str, segment: str, span: int) -> None:
    rest = "-".join(encoded(text) for text in ("service", "instance", "/endpoint", "127.0.0.1:80"))
    found = find(request(f"sw8: 1-{encoded(trace)}-{encoded(segment)}-{span}-{rest}"))
    whole = skywalking_id(segment, span)
    parent = bytes(a ^ b for a, b in zip(whole[:8], whole[8:], strict=True))
    assert told(found) == (Link.SKYWALKING, skywalking_id(trace).hex(), parent.hex(), 1)


# The plain-Python twin of the strictest format

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)


def plain_traceparent(value: bytes) -> tuple[str, str, int] | None:
    match = _TRACEPARENT.fullmatch(value.strip(b" \t"))
    if match is None or match[1] == b"ff" or (match[1] == b"00" and match[5] is not None):
        return None
    if set(match[2]) == {48} or set(match[3]) == {48}:
        return None
    return match[2].decode(), match[3].decode(), int(match[4], 16) & 1


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(b"0fF-g \t:"), st.integers(0, 3)), min_size=1, max_size=10)
)
def test_traceparent_agrees_with_its_plain_twin(changes: list[tuple[int, int, int]]) -> None:
    values = []
    for at, byte, cut in changes:
        value = bytearray(f"00-{TRACE}-{SPAN}-01-x".encode() if cut == 3 else f"01-{TRACE}-{SPAN}-01".encode())
        value[at % len(value)] = byte
        values.append(bytes(value[: len(value) - cut]))
    found = find(*(request(f"traceparent: {value.decode()}") for value in values))
    for i, text in enumerate(values):
        expected = plain_traceparent(text)
        assert told(found, i) == (nothing() if expected is None else (Link.TRACEPARENT, *expected))


@settings(max_examples=100)
@given(
    st.lists(st.binary(max_size=200) | st.text("=;-. 019azRootPnAampled,", max_size=400).map(str.encode), max_size=5),
    st.sampled_from([b"b3: ", b"uber-trace-id: ", b"x-b3-traceid: "])
    | st.sampled_from([b"sw8: ", b"x-datadog-trace-id: ", b"x-datadog-tags: ", b"x-amzn-trace-id: "]),
)
def test_no_bytes_make_it_fail(values: list[bytes], name: bytes) -> None:
    find(
        *(
            b"GET / HTTP/1.1\r\nx-b3-spanid: 1\r\nx-datadog-parent-id: 1\r\n" + name + value + b"\r\n\r\n"
            for value in values
        )
    )
    find(*values)
