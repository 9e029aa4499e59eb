"""Header blocks: RFC 7541's own examples, what the `hpack` package encodes, and what somebody sees who came late."""

from __future__ import annotations

import hpack
import pytest
from hpack.huffman_constants import REQUEST_CODES_LENGTH
from hpack.table import HeaderTable
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.protocols.http2.hpack import INITIAL, LARGEST, STATIC, UNKNOWN, Field, Table
from otel_ebpf.protocols.http2.huffman import LENGTHS, Huffman

Pairs = list[tuple[bytes, bytes]]

# RFC 7541, Appendix C: the blocks of one connection, what they say, and the table's size behind each
FIRST = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
SECOND = [*FIRST, (b"cache-control", b"no-cache")]
THIRD = [
    *((b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"), (b":authority", b"www.example.com")),
    (b"custom-key", b"custom-value"),
]
REQUESTS = (
    ("828684410f7777772e6578616d706c652e636f6d", FIRST, 57),
    ("828684be58086e6f2d6361636865", SECOND, 110),
    ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", THIRD, 164),
)
REQUESTS_HUFFMAN = (
    ("828684418cf1e3c2e5f23a6ba0ab90f4ff", FIRST, 57),
    ("828684be5886a8eb10649cbf", SECOND, 110),
    ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", THIRD, 164),
)
DATE, LATER = b"Mon, 21 Oct 2013 20:13:21 GMT", b"Mon, 21 Oct 2013 20:13:22 GMT"
COOKIE = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
PRIVATE, PLACE = (b"cache-control", b"private"), (b"location", b"https://www.example.com")
ANSWERS: tuple[tuple[Pairs, int], ...] = (
    ([(b":status", b"302"), PRIVATE, (b"date", DATE), PLACE], 222),
    ([(b":status", b"307"), PRIVATE, (b"date", DATE), PLACE], 222),
    (
        [
            *((b":status", b"200"), PRIVATE, (b"date", LATER), PLACE),
            *((b"content-encoding", b"gzip"), (b"set-cookie", COOKIE)),
        ],
        215,
    ),
)
RESPONSES = (
    "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f777777"
    "2e6578616d706c652e636f6d",
    "4803333037c1c0bf",
    "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f"
    "5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
)
RESPONSES_HUFFMAN = (
    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
    "4883640effc1c0bf",
    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1"
    "ab270fb5291f9587316065c003ed4ee5b1063d5007",
)
SIZE_256 = bytes.fromhex("3fe101")


@pytest.mark.parametrize("examples", [REQUESTS, REQUESTS_HUFFMAN], ids=["C.3", "C.4"])
def test_the_requests_of_the_rfc(examples: tuple[tuple[str, Pairs, int], ...]) -> None:
    table = Table()
    for block, fields, size in examples:
        assert list(table.decode(bytes.fromhex(block))) == fields
        assert table.size == size
    assert table.errors == 0


@pytest.mark.parametrize("blocks", [RESPONSES, RESPONSES_HUFFMAN], ids=["C.5", "C.6"])
def test_the_responses_of_the_rfc_whose_table_is_small_and_evicts(blocks: tuple[str, ...]) -> None:
    table = Table()
    table.decode(SIZE_256)
    for block, (fields, size) in zip(blocks, ANSWERS, strict=True):
        assert list(table.decode(bytes.fromhex(block))) == fields
        assert table.size == size
    assert len(table) == 3


@pytest.mark.parametrize(
    ("block", "field", "kept"),
    [
        ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", (b"custom-key", b"custom-header"), 55),
        ("040c2f73616d706c652f70617468", (b":path", b"/sample/path"), 0),
        ("100870617373776f726406736563726574", (b"password", b"secret"), 0),
        ("82", (b":method", b"GET"), 0),
    ],
    ids=["C.2.1", "C.2.2", "C.2.3", "C.2.4"],
)
def test_the_representations_of_the_rfc(block: str, field: Field, kept: int) -> None:
    table = Table()
    assert table.decode(bytes.fromhex(block)) == (field,)
    assert table.size == kept


def test_the_tables_of_the_rfc() -> None:
    assert list(LENGTHS) == list(REQUEST_CODES_LENGTH)
    assert tuple(HeaderTable.STATIC_TABLE) == STATIC


def test_who_came_late_knows_what_is_inserted_from_then_on() -> None:
    # given a connection of which the first block was not seen
    table = Table(fresh=False)
    # then what its second one refers to is not known, and what it inserts is
    assert list(table.decode(bytes.fromhex("828684be58086e6f2d6361636865")))[3:] == [UNKNOWN, SECOND[-1]]
    # and the third one, which refers to both, is known where it refers to the newer one
    assert table.decode(bytes.fromhex("82bebf")) == ((b":method", b"GET"), SECOND[-1], UNKNOWN)
    assert table.errors == 0


def test_a_value_is_known_though_its_name_is_not() -> None:
    table = Table(fresh=False)
    assert table.decode(bytes([0x7F, 20, 2]) + b"hi") == ((None, b"hi"),)
    assert table.decode(bytes([0xBE])) == ((None, b"hi"),)


def test_behind_a_lost_part_the_table_is_unknown() -> None:
    table = Table()
    table.decode(bytes.fromhex(REQUESTS[0][0]))
    assert table.decode(bytes.fromhex("828684be5808"), cut=True) == tuple(FIRST)
    assert table.decode(bytes.fromhex("be")) == (UNKNOWN,)
    assert table.errors == 0


@pytest.mark.parametrize(
    "block",
    [
        "80",  # index 0
        "bf",  # an entry that was never inserted
        "ffffffffff7f",  # an integer that overflows
        "410f7777",  # a text that is longer than the block
        "4185f1e3c2e5",  # the same in Huffman code
        "8220",  # the table's size behind a field
        "408118",  # padding that is no ones
        "4084ffffffff0161",  # EOS
        "41",
        "7f",
    ],
)
def test_what_cannot_be_ends_what_is_known(block: str) -> None:
    # given a table with one entry, known from its beginning
    table = Table()
    table.decode(bytes.fromhex("400a637573746f6d2d6b65790d637573746f6d2d686561646572"))
    # when something comes that is no header block
    fields = table.decode(bytes.fromhex(block))
    # then what was said before the error is known, and nothing of the table
    assert fields == ((b":method", b"GET"),) * (block == "8220")
    assert (table.errors, len(table), table.size) == (1, 0, 0)
    assert table.decode(bytes.fromhex("be")) == (UNKNOWN,)


def test_padding_is_of_ones_and_shorter_than_a_byte() -> None:
    huffman = Huffman()
    assert huffman.decode(b"\x1f") == b"a"  # 00011 111
    assert huffman.decode(b"\x18") is None
    assert huffman.decode(b"\x1f\xff") is None
    assert huffman.decode(b"\xff\xff\xff\xff") is None
    assert huffman.decode(b"") == b""


def test_a_table_is_bounded_whatever_its_peers_agree_upon() -> None:
    table = Table()
    table.decode(bytes.fromhex("3fe1ffff03"))  # 8 MiB
    for i in range(300):
        table.decode(b"\x40\x04%04d\x7f\x81\x07" % i + b"x" * 1024)
    assert LARGEST - 1100 < table.size <= LARGEST
    # what may still be in the larger table is not known, and no error
    assert table.decode(bytes([0xFF, 0x80, 0x01])) == (UNKNOWN,)
    assert table.errors == 0


def test_an_entry_that_is_larger_than_the_table_empties_it() -> None:
    table = Table()
    table.decode(bytes.fromhex(REQUESTS[0][0]))
    table.decode(b"\x40\x01a\x7f\x81\x1f" + b"x" * INITIAL)
    assert (len(table), table.size) == (0, 0)


names = st.sampled_from([b":path", b":authority", b"user-agent", b"traceparent", b"x-a", b"cookie", b"content-type"])
pairs = st.tuples(names, st.binary(max_size=40))
blocks = st.lists(st.lists(pairs, max_size=8), min_size=1, max_size=12)
sizes = st.lists(st.sampled_from([None, 0, 100, 300, 4096]), min_size=12, max_size=12)


def encoded(said: list[Pairs], resized: list[int | None], huffman: bool) -> list[bytes]:
    encoder = hpack.Encoder()
    result = []
    for fields, size in zip(said, resized, strict=False):
        if size is not None:
            encoder.header_table_size = size
        result.append(encoder.encode(fields, huffman=huffman))
    return result


@given(said=blocks, resized=sizes, huffman=st.booleans())
def test_what_is_encoded_is_decoded(said: list[Pairs], resized: list[int | None], huffman: bool) -> None:
    table = Table()
    for fields, block in zip(said, encoded(said, resized, huffman), strict=True):
        assert list(table.decode(block)) == fields
    assert table.errors == 0


@given(said=blocks, resized=sizes, huffman=st.booleans(), late=st.integers(0, 11))
def test_who_begins_in_the_middle_says_nothing_wrong(
    said: list[Pairs], resized: list[int | None], huffman: bool, late: int
) -> None:
    table = Table(fresh=False)
    inserted: set[tuple[bytes, bytes]] = set()
    for fields, block in list(zip(said, encoded(said, resized, huffman), strict=True))[late:]:
        found = table.decode(block)
        assert len(found) == len(fields)
        for (name, value), true in zip(found, fields, strict=True):
            assert name in (None, true[0]) and value in (None, true[1])
            assert (name, value) == true or true not in inserted or not resized
        inserted |= set(fields)
    assert table.errors == 0


@given(said=blocks, huffman=st.booleans(), lost=st.integers(0, 11), at=st.integers(0, 200))
def test_a_block_that_is_cut_leaves_nothing_wrong_behind(said: list[Pairs], huffman: bool, lost: int, at: int) -> None:
    table = Table()
    for i, (fields, block) in enumerate(zip(said, encoded(said, [None] * 12, huffman), strict=True)):
        cut = i == lost
        for found, true in zip(table.decode(block[:at] if cut else block, cut), fields, strict=False):
            assert found[0] in (None, true[0]) and found[1] in (None, true[1])


@given(blocks=st.lists(st.binary(max_size=300), max_size=6), fresh=st.booleans())
def test_no_bytes_raise_and_the_table_stays_small(blocks: list[bytes], fresh: bool) -> None:
    table = Table(fresh)
    for block in blocks:
        table.decode(block)
        assert 0 <= table.size <= LARGEST


@given(st.binary(max_size=200))
def test_texts_in_huffman_code_are_what_they_were(text: bytes) -> None:
    encoder = hpack.Encoder()
    assert Huffman().decode(encoder.huffman_coder.encode(text)) == text


@given(st.binary(max_size=60))
def test_huffman_code_is_decoded_as_others_decode_it(data: bytes) -> None:
    from hpack.exceptions import HPACKDecodingError
    from hpack.huffman_table import decode_huffman

    try:
        expected: bytes | None = decode_huffman(data)
    except HPACKDecodingError:
        expected = None
    assert Huffman().decode(data) == expected
