"""Header lines of whole matrices are those that a plain reading finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.protocols.headers import NAMES, Lines, numbers
from otel_ebpf.protocols.http import header_lines

WIDTH = 128


def matrix(messages: list[bytes]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    rows = np.zeros((len(messages), WIDTH), np.uint8)
    for i, message in enumerate(messages):
        rows[i, : len(message[:WIDTH])] = np.frombuffer(message[:WIDTH], np.uint8)
    return rows


PIECES = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b":", b" ", b"\t", b"x", b"GET / HTTP/1.1", b"", b"\r\n\r\n", b"\x1a", b"\x14"]
    + [name.title() for name in NAMES]
    + list(NAMES)
)


@settings(max_examples=200)
@given(st.lists(st.lists(PIECES, max_size=20).map(b"".join), min_size=1, max_size=5))
def test_the_first_value_of_each_header_is_what_the_plain_reading_finds(messages: list[bytes]) -> None:
    lines = Lines.of(matrix(messages))
    for name in NAMES:
        values = lines.values(name)
        found = {
            row: lines.flat[start : start + length].tobytes()
            for row, start, length in zip(
                values.row.tolist(), values.start.tolist(), values.length.tolist(), strict=True
            )
        }
        for i, message in enumerate(messages):
            headers = dict(reversed(header_lines(message[:WIDTH])[0]))
            assert found.get(i) == headers.get(name[:-1])
    for i, message in enumerate(messages):
        assert lines.block[i] == header_lines(message[:WIDTH])[1]
        feed = message[:WIDTH].find(b"\n")
        assert lines.first[i] == (-1 if feed < 0 else len(message[:feed].removesuffix(b"\r")))


@pytest.mark.parametrize(
    ("value", "number"),
    [("0", 0), ("17", 17), ("007", 7), ("", -1), ("1e3", -1), ("-1", -1), ("9" * 18, int("9" * 18)), ("9" * 19, -1)],
)
def test_numbers_are_decimal_or_none(value: str, number: int) -> None:
    lines = Lines.of(matrix([f"GET / HTTP/1.1\r\nContent-Length: {value} \r\nHost: h\r\n\r\n".encode()]))
    assert numbers(lines, lines.values(b"content-length:")).tolist() == [number]
