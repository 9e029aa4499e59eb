"""What a header block says, as the head of a message in the form of HTTP/1."""

from __future__ import annotations

from otel_ebpf.protocols.http2.hpack import Field
from otel_ebpf.protocols.http2.message import LONGEST, request

GET: list[Field] = [(b":method", b"GET"), (b":path", b"/cart"), (b":authority", b"shop.example")]


def test_a_head_is_that_of_http_1() -> None:
    head = request([*GET, (b"user-agent", b"curl/8"), (b"x-other", b"1")])
    assert head is not None and head.whole and head.grpc is False
    assert head.text == b"GET /cart HTTP/2.0\r\nhost: shop.example\r\nuser-agent: curl/8\r\n\r\n"


def test_a_block_that_says_the_same_long_field_many_times_is_cut() -> None:
    """Each of them costs its sender a byte (RFC 7541 §7.3), and us no more than that."""
    head = request([*GET, *[(b"user-agent", b"x" * 200)] * 60_000])
    assert head is not None and not head.whole and len(head.text) == LONGEST
    assert head.text.startswith(b"GET /cart HTTP/2.0\r\nhost: shop.example\r\nuser-agent: xxx")
    # what was not kept is still known
    assert head.grpc is False


def test_a_field_that_is_not_known_may_be_any() -> None:
    head = request([*GET, (None, None)])
    assert head is not None and not head.whole and head.grpc is None
