"""DNS: what dig, BIND and dnsmasq say to each other, and how it is reported."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_ebpf.model import AttributeValue
from otel_ebpf.protocols.base import Options, Reading, Session
from otel_ebpf.protocols.dns import MAX_ANSWERS, MAX_FIELDS, MAX_NAMES, RATIO, Dns
from otel_ebpf.protocols.dns_messages import MAX_MESSAGES, messages, text_of
from tests.servers import Server, dnsmasq
from tests.unit.recorded import lookups

A, AAAA, CNAME = 1, 28, 5


RECORDED = lookups()


def name(text: str) -> bytes:
    labels = [label.encode() for label in text.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def query(asked: str = "www.test", kind: int = A, number: int = 7, flags: int = 0x0100, questions: int = 1) -> bytes:
    return (
        struct.pack("!6H", number, flags, questions, 0, 0, 0) + (name(asked) + struct.pack("!HH", kind, 1)) * questions
    )


def answer(
    *records: tuple[bytes, int, bytes], asked: str = "www.test", kind: int = A, number: int = 7, rcode: int = 0
) -> bytes:
    """An answer with records (owner, type, data) that live for 60 s."""
    head = struct.pack("!6H", number, 0x8180 | rcode, 1, len(records), 0, 0) + name(asked) + struct.pack("!HH", kind, 1)
    return head + b"".join(owner + struct.pack("!HHIH", of, 1, 60, len(data)) + data for owner, of, data in records)


def read(request: bytes, response: bytes = b"", dns: Dns | None = None) -> list[Reading]:
    return list((dns or Dns()).parse(request, response, Session(), Options()))


def attributes(reading: Reading) -> dict[str, AttributeValue]:
    return dict(reading.fields.client.attributes)


# What a reading says


def test_a_lookup_is_described_by_the_conventions() -> None:
    [reading] = read(*RECORDED["address"])
    fields = reading.fields
    assert (fields.protocol, fields.status) == ("dns", "NOERROR")
    assert fields.client.name == fields.server.name == "DNS A"
    assert fields.client.attributes == (("dns.answers", ("192.0.2.1", "192.0.2.2")),)
    assert [(slot.attribute, slot.index, slot.prefix) for slot in fields.client.slots] == [("dns.question.name", 0, "")]
    assert reading.texts == ("edge.example.test",)
    assert fields.client.metric == (("dns.question.name", "edge.example.test"),)
    assert fields.server.metric == ()
    assert not fields.client.error


@pytest.mark.parametrize(
    ("title", "span", "asked", "status"),
    [
        ("address of IPv6", "DNS AAAA", "edge.example.test", "NOERROR"),
        ("aliases", "DNS A", "www.example.test", "NOERROR"),
        ("randomised case", "DNS A", "edge.example.test", "NOERROR"),
        ("international", "DNS A", "xn--bcher-kva.example.test", "NOERROR"),
        ("dot in a label", "DNS A", r"odd\.label.example.test", "NOERROR"),
        ("service", "DNS SRV", "_http._tcp.example.test", "NOERROR"),
        ("no such name", "DNS A", "nowhere.example.test", "NXDOMAIN"),
        ("no such type", "DNS AAAA", "text.example.test", "NOERROR"),
        ("refused", "DNS A", "www.elsewhere.invalid", "REFUSED"),
        ("unknown type", "DNS TYPE65400", "edge.example.test", "NOERROR"),
        ("chaos class", "DNS TXT", "version.bind", "NOERROR"),
        ("bad version", "DNS A", "edge.example.test", "BADVERS"),
        ("truncated", "DNS A", "big.example.test", "NOERROR"),
        ("over TCP", "DNS A", "www.example.test", "NOERROR"),
        ("zone transfer", "DNS AXFR", "example.test", "NOERROR"),
        ("iterative", "DNS A", "edge.example.test", "NOERROR"),
        ("notify", "DNS NOTIFY", "example.test", "NOERROR"),
        ("update", "DNS UPDATE", "example.test", "REFUSED"),
    ],
)
def test_what_bind_answers_dig(title: str, span: str, asked: str, status: str) -> None:
    [reading] = read(*RECORDED[title])
    assert (reading.fields.client.name, reading.texts, reading.fields.status) == (span, (asked,), status)
    failed = status != "NOERROR"
    assert reading.fields.client.error == reading.fields.server.error == failed
    assert attributes(reading).get("error.type") == (status if failed else None)
    assert dict(reading.fields.client.metric).get("error.type") == (status if failed else None)


def test_every_recorded_exchange_is_recognised_and_recognised_when_it_is_cut() -> None:
    dns = Dns()
    for request, response in RECORDED.values():
        assert dns.detect(request, response) >= 0.9
        assert dns.detect(request, response[:64]) >= 0.9
        assert dns.detect(request, b"") >= 0.5
        assert dns.detect(b"", response) >= 0.5
        assert dns.detect(response, request) == 0


def test_of_many_addresses_some_are_reported_and_of_a_cut_answer_those_that_are_there() -> None:
    request, response = RECORDED["large over TCP"]
    assert len(Dns().answers(response)) == 100
    [reading] = read(request, response)
    assert len(attributes(reading)["dns.answers"]) == MAX_ANSWERS  # type: ignore[arg-type]
    [reading] = read(request, response[:100])
    assert len(attributes(reading)["dns.answers"]) == 4  # type: ignore[arg-type]


def test_an_unanswered_question_has_no_status() -> None:
    [reading] = read(query())
    assert reading.fields.status == ""
    assert reading.fields.client.attributes == ()
    assert reading.texts == ("www.test",)


def test_an_answer_without_its_question_tells_what_was_asked() -> None:
    [reading] = read(b"", RECORDED["no such name"][1])
    assert (reading.texts, reading.fields.status) == (("nowhere.example.test",), "NXDOMAIN")


# What belongs together


def test_an_answer_with_another_id_or_question_is_not_paired() -> None:
    for other in (answer(number=8, rcode=3), answer(asked="www.other", rcode=3), answer(kind=AAAA, rcode=3)):
        [reading] = read(query(), other)
        assert reading.fields.status == ""
    [reading] = read(query("WwW.TeSt"), answer(asked="wWw.test", rcode=3))
    assert reading.fields.status == "NXDOMAIN"


def test_an_answer_need_not_repeat_the_question() -> None:
    [reading] = read(query(), struct.pack("!6H", 7, 0x8181, 0, 0, 0, 0))
    assert reading.fields.status == "FORMERR"


def framed(*parts: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(part)) + part for part in parts)


def test_questions_in_one_stream_are_answered_in_any_order() -> None:
    asked = framed(query(number=1), query(kind=AAAA, number=2))
    answered = framed(answer(kind=AAAA, number=2, rcode=2), answer((b"\xc0\x0c", A, b"\x7f\0\0\4"), number=1))
    first, second = read(asked, answered)
    assert (first.fields.client.name, first.fields.status) == ("DNS A", "NOERROR")
    assert attributes(first)["dns.answers"] == ("127.0.0.4",)
    assert (second.fields.client.name, second.fields.status) == ("DNS AAAA", "SERVFAIL")


def test_a_datagram_whose_id_could_be_its_length_is_a_datagram() -> None:
    asked = query()
    for number in range(len(asked) + 3):
        [message] = messages(query(number=number))
        assert (message.id, message.name) == (number, "www.test")
        [message] = messages(framed(query(number=number, flags=0)))
        assert (message.id, message.name) == (number, "www.test")


def test_multicast_dns_is_read_too() -> None:
    """RFC 6762: id 0, several questions, the top bit of the class, names in UTF-8, answers without a question."""
    asked = struct.pack("!6H", 0, 0, 2, 0, 0, 0) + name("Küche._http._tcp.local") + struct.pack("!HH", 33, 0x8001)
    asked += name("küche.local") + struct.pack("!HH", A, 1)
    answered = struct.pack("!6H", 0, 0x8400, 0, 1, 0, 0) + name("küche.local") + struct.pack("!HHIH", A, 0x8001, 120, 4)
    [reading] = read(asked, answered + b"\x0a\0\0\1")
    assert (reading.fields.client.name, reading.texts) == ("DNS SRV", ("küche._http._tcp.local",))
    assert Dns().answers(answered + b"\x0a\0\0\1") == [("küche.local", "10.0.0.1", 120)]


# Names


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([], "."),
        ([b"WWW", b"Example"], "www.example"),
        ([b"a.b", b"c"], r"a\.b.c"),
        ([b"a b", b"\x00\x1f"], r"a\032b.\000\031"),
        ([b"\xff\xfe"], r"\255\254"),
        ([b'q"\\'], r"q\"\\"),
        ("bücher".encode().split(), "bücher"),
        (["a\u200bb".encode()], r"a\226\128\139b"),
        ([b"\xed\xa0\x80"], r"\237\160\128"),
    ],
)
def test_names_are_written_as_in_master_files(labels: list[bytes], text: str) -> None:
    assert text_of(labels) == text


def test_the_root_is_a_name() -> None:
    [reading] = read(query("", 2))
    assert (reading.fields.client.name, reading.texts) == ("DNS NS", (".",))


# Naming peers


def test_answers_bear_the_name_that_was_asked_for_and_the_shortest_life() -> None:
    assert sorted(Dns().answers(RECORDED["aliases"][1])) == [
        ("www.example.test", "192.0.2.1", 60),
        ("www.example.test", "192.0.2.2", 60),
    ]
    assert Dns().answers(RECORDED["no such name"][1]) == []
    assert Dns().answers(RECORDED["over TCP"][0]) == []


def test_addresses_of_other_names_are_not_believed() -> None:
    response = answer(
        (name("bank.test"), A, b"\x0a\0\0\1"), (b"\xc0\x0c", CNAME, name("x.test")), (name("x.test"), A, b"\1\2\3\4")
    )
    assert Dns().answers(response) == [("www.test", "1.2.3.4", 60)]


# The real server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with dnsmasq({"www.test": "127.0.0.4,fd00::4"}) as running:
        yield running


def test_dnsmasq_over_udp_and_over_tcp(server: Server) -> None:
    for kind, address in ((A, "127.0.0.4"), (AAAA, "fd00::4")):
        asked = query("WWW.test", kind, number=kind)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(20)
            udp.sendto(asked, ("127.0.0.1", server.port))
            by_udp = udp.recv(4096)
        with socket.create_connection(("127.0.0.1", server.port), 20) as tcp:
            tcp.sendall(framed(asked))
            by_tcp = tcp.recv(2)
            while len(by_tcp) < 2 + int.from_bytes(by_tcp[:2], "big"):
                by_tcp += tcp.recv(4096)
        for request, response in ((asked, by_udp), (framed(asked), by_tcp)):
            [reading] = read(request, response)
            assert attributes(reading) == {"dns.answers": (address,)}
            assert [(asked_for, found) for asked_for, found, _ in Dns().answers(response)] == [("www.test", address)]
            assert Dns().detect(request, response) >= 0.9


# What varies without end stays bounded


def test_the_metric_tells_a_bounded_number_of_names_apart() -> None:
    dns = Dns()
    readings = [read(query(f"host{i}.test"), b"", dns)[0] for i in range(MAX_NAMES + 500)]
    assert len({reading.fields for reading in readings}) == MAX_NAMES + 1
    assert readings[-1].fields.client.metric == (("otel.metric.overflow", True),)
    assert readings[-1].texts == (f"host{MAX_NAMES + 499}.test",)
    [again] = read(query("host0.test"), b"", dns)
    assert again.fields is readings[0].fields


def test_answers_that_never_repeat_are_left_out_sooner_or_later() -> None:
    dns = Dns()
    count = 3 * MAX_FIELDS
    kinds = set()
    for i in range(count):
        record = (b"\xc0\x0c", A, struct.pack("!I", i))
        [reading] = read(query(f"host{i}.test"), answer(record, asked=f"host{i}.test"), dns)
        kinds.add(reading.fields)
    assert len(kinds) <= MAX_FIELDS + count // RATIO + MAX_NAMES + 1
    assert len(dns._fields) <= MAX_FIELDS


# Other protocols, and bytes that are nothing


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
        (b"Q\x00\x00\x00\x0dselect 1\x00", b"T\x00\x00\x00\x21"),
        (b"\x09\x00\x00\x00\x03select 1", b"\x01\x00\x00\x01\x01"),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"N"),
        (b"\x00" * 64, b"\x00" * 64),
        (b"\xff" * 64, b"\xff" * 64),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(50)), b"\x16\x03\x03\x00\x7a\x02"),
        (b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12), b"\x01\x01\x00\x0c\x21\x12\xa4\x42" + bytes(12)),
        (b"", b""),
    ],
)
def test_other_protocols_are_not_dns(request_: bytes, response: bytes) -> None:
    assert Dns().detect(request_, response) < 0.5
    assert read(request_, response) == []


def head(questions: int = 1, answers: int = 0, flags: int = 0x0100) -> bytes:
    return struct.pack("!6H", 7, flags, questions, answers, 0, 0)


@pytest.mark.parametrize(
    "hostile",
    [
        head() + b"\xc0\x0c\0\1\0\1",
        head() + b"\x01a\xc0\x0c\0\1\0\1",
        head() + b"\xc0\x0e\xc0\x0c\0\1\0\1",
        head() + b"\xff\xff\0\1\0\1",
        head() + b"\x3f" + b"a" * 10,
        head() + (b"\x3f" + b"a" * 63) * 5 + b"\0\0\1\0\1",
        head() + b"\x80abc",
        head(64) + b"\0\0\1\0\1" * 3,
        head(1, 4095, 0x8180) + b"\0\0\1\0\1" + b"\xc0\x0c\0\1\0\1\0\0\0\0\xff\xff",
        # 8,000 pointers, each to the one before, and as many records as fit that all begin at the last
        head(1, 4095, 0x8180) + b"\0\0\1\0\1"
        + b"\0\0\xff\0\1\0\0\0\0\x3e\x80" + b"".join(struct.pack("!H", 0xC000 | (26 + 2 * i)) for i in range(8000))
        + (b"\xfe\x00\0\5\0\1\0\0\0\0\0\2\xfe\x00") * 3000,
        b"\x00\x0c" * 30_000,
        (b"\x00\x1c" + query()) * 5000,
        query() * 5000,
    ],
)  # fmt: skip
def test_hostile_bytes_cost_no_more_than_their_length(hostile: bytes) -> None:
    dns = Dns()
    assert 0 <= dns.detect(hostile, hostile) <= 1
    assert len(read(hostile, hostile, dns)) <= MAX_MESSAGES
    assert len(read(b"", hostile, dns)) <= MAX_MESSAGES
    dns.answers(hostile)


PIECES = st.sampled_from(
    [b"\xc0\x0c", b"\xc0\x10", b"\0\1\0\1", b"\3www\4test\0", b"\0", b"\0\x29", b"\0\1\0\1\0\0\0\x3c\0\4"]
)
BODIES = st.lists(PIECES | st.binary(max_size=5), max_size=20).map(b"".join)
HEADS = st.builds(
    struct.pack,
    st.just("!6H"),
    st.integers(0, 40),
    st.sampled_from([0x0100, 0x0000, 0x8180, 0x8400, 0x8183, 0x2800]),
    *[st.integers(0, 3)] * 4,
)
MESSAGES = st.builds(lambda head, body: head + body, HEADS, BODIES)
BYTES = MESSAGES | MESSAGES.map(framed) | st.binary(max_size=100)


@given(BYTES, BYTES)
@example(b"", b"")
@settings(max_examples=500)
def test_no_bytes_raise_and_texts_are_utf8(request: bytes, response: bytes) -> None:
    dns = Dns()
    assert 0 <= dns.detect(request, response) <= 1
    for reading in read(request, response, dns):
        assert reading.texts[0].encode()
        assert len(reading.texts) == len(reading.fields.client.slots)
    for asked, address, life in dns.answers(response):
        assert asked.encode() and address.encode() and 0 <= life < 2**32


LABELS = st.lists(st.binary(min_size=1, max_size=20), max_size=6)


@given(LABELS, LABELS, st.sampled_from([A, AAAA, 65, 999]), st.integers(0, 65535), st.integers(0, 200))
@settings(max_examples=300)
def test_what_is_cut_says_less_and_nothing_else(
    labels: list[bytes], others: list[bytes], kind: int, number: int, cut: int
) -> None:
    raw = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    asked = struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + raw + struct.pack("!HH", kind, 1)
    answered = struct.pack("!6H", number, 0x8183, 1, 1, 0, 0) + raw + struct.pack("!HH", kind, 1)
    answered += b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 60, 4) + b"\1\2\3\4"
    for wrap in (bytes, framed):
        [whole] = read(wrap(asked), wrap(answered))
        assert (whole.texts, whole.fields.status) == ((text_of(labels),), "NXDOMAIN")
        for reading in read(wrap(asked)[:cut], wrap(answered)):
            assert (reading.texts, reading.fields.client.name) == (whole.texts, whole.fields.client.name)
        for reading in read(wrap(asked), wrap(answered)[:cut]):
            assert (reading.texts, reading.fields.client.name) == (whole.texts, whole.fields.client.name)
            assert reading.fields.status in ("", "NXDOMAIN")
    lowered = [label.lower() for label in labels]
    assert (text_of(labels) == text_of(others)) == (lowered == [label.lower() for label in others])
