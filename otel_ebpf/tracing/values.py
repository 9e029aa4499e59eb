"""Parts of header values by columns: their first bytes as a matrix, the fields between marks, the numbers in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.protocols.headers import Lines, Values

NONE = 255
NIBBLE = np.full(256, NONE, np.uint8)
NIBBLE[list(b"0123456789abcdef")] = range(16)
"""The value of a digit by its character, NONE: it is none."""
ANY_CASE = NIBBLE.copy()
ANY_CASE[list(b"ABCDEF")] = range(10, 16)
_DIGITS, _LOW = 20, 10
_POWERS = np.uint64(10) ** np.arange(_LOW - 1, -1, -1, dtype=np.uint64)
_HIGHEST, _LOWEST = (np.uint64(half) for half in divmod(2**64 - 1, 10**_LOW))
_PADDING = ord("=")
_SEXTET = np.full(256, NONE, np.uint8)
_SEXTET[list(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")] = range(64)


@dataclass(slots=True)
class Found:
    """Contexts that k header values hold, and which of them are valid."""

    row: NDArray[np.intp]
    good: NDArray[np.bool_]
    trace: NDArray[np.uint8]
    """(k, 16)"""
    parent: NDArray[np.uint8]
    """(k, 8)"""
    sampled: NDArray[np.bool_]


def pick(values: Values, which: NDArray[np.intp]) -> Values:
    """Some of the values."""
    return Values(values.row[which], values.start[which], values.length[which])


def window(lines: Lines, values: Values, width: int) -> NDArray[np.uint8]:
    """(k, width) first bytes of the values, zeros behind them."""
    offset = np.arange(width)
    text: NDArray[np.uint8] = lines.flat[np.minimum(values.start[:, None] + offset, len(lines.flat) - 1)]
    text[offset >= values.length[:, None]] = 0
    return text


def marks(text: NDArray[np.uint8], mark: int, length: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
    """Columns of the first marks of each row; `length` of the value where there are fewer."""
    rank = np.cumsum(text == mark, axis=1, dtype=np.int16)
    columns = []
    for k in range(1, count + 1):
        at = (rank >= k).argmax(1)
        columns.append(np.where(rank[:, -1] >= k, at, length))
    return columns


def field(
    text: NDArray[np.uint8], begin: NDArray[np.intp], end: NDArray[np.intp], digits: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(k, digits / 2) bytes of the hexadecimal numbers in columns begin … end, zeros in front; and which are valid."""
    column = end[:, None] - digits + np.arange(digits)
    inside = column >= begin[:, None]
    nibble = ANY_CASE[np.take_along_axis(text, np.clip(column, 0, text.shape[1] - 1), 1)]
    nibble[~inside] = 0
    good = (nibble != NONE).all(1) & (end > begin) & (end - begin <= digits)
    return bytes_of(nibble), good


def bytes_of(nibble: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pairs of digits as bytes; what is no digit gives anything."""
    pairs: NDArray[np.uint8] = (nibble[:, 0::2] << np.uint8(4)) | (nibble[:, 1::2] & np.uint8(15))
    return pairs


def decimal(
    text: NDArray[np.uint8], begin: NDArray[np.intp], end: NDArray[np.intp]
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """(k,) the decimal numbers in columns begin … end, and which of them are numbers below 2^64."""
    column = end[:, None] - _DIGITS + np.arange(_DIGITS)
    figure = np.take_along_axis(text, np.clip(column, 0, text.shape[1] - 1), 1) - np.uint8(48)
    figure[column < begin[:, None]] = 0
    good = (figure < 10).all(1) & (end > begin) & (end - begin <= _DIGITS)
    high, low = figure[:, :-_LOW].astype(np.uint64) @ _POWERS, figure[:, -_LOW:].astype(np.uint64) @ _POWERS
    good &= (high < _HIGHEST) | ((high == _HIGHEST) & (low <= _LOWEST))
    number: NDArray[np.uint64] = high * np.uint64(10**_LOW) + low
    return number, good


def behind(text: NDArray[np.uint8], key: bytes, before: bytes) -> NDArray[np.intp]:
    """(k,) column behind the first `key` that begins the row or follows one of the bytes in `before`; -1: none."""
    windows = np.lib.stride_tricks.sliding_window_view(text, len(key), axis=1)
    here = (windows == np.frombuffer(key, np.uint8)).all(2)
    here[:, 1:] &= np.isin(text[:, : here.shape[1] - 1], list(before))
    return np.where(here.any(1), here.argmax(1) + len(key), -1)


def base64(
    text: NDArray[np.uint8], begin: NDArray[np.intp], end: NDArray[np.intp], most: int
) -> tuple[NDArray[np.uint8], NDArray[np.intp], NDArray[np.bool_]]:
    """(k, most) what is encoded in columns begin … end (RFC 4648 §4), zeros behind it; (k,) its length; whether it is
    valid.

    most: a multiple of three; what is longer is not valid.
    """
    column = begin[:, None] + np.arange(most // 3 * 4)
    character = np.take_along_axis(text, np.clip(column, 0, text.shape[1] - 1), 1)
    outside = column >= end[:, None]
    character[outside] = _PADDING
    padding = character == _PADDING
    sextet = _SEXTET[character]
    sextet[padding] = 0
    size = end - begin
    filled = size - (padding & ~outside).sum(1)
    # At most two signs of padding, and nothing behind them.
    good = (size > 0) & (size % 4 == 0) & (size <= most // 3 * 4) & (size - filled <= 2)
    good &= (sextet != NONE).all(1) & (padding == (np.arange(padding.shape[1]) >= filled[:, None])).all(1)
    four = sextet.reshape(len(text), -1, 4).astype(np.uint32)
    word = (
        four[:, :, 0] << np.uint32(18) | four[:, :, 1] << np.uint32(12) | four[:, :, 2] << np.uint32(6) | four[:, :, 3]
    )
    plain = np.stack([word >> np.uint32(16), word >> np.uint32(8), word], axis=2).astype(np.uint8)
    return plain.reshape(len(text), most), filled * 3 // 4, good
