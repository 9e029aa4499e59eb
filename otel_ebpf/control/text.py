"""Strangers' bytes made fit for a terminal, and numbers in the units of people.

Whatever a remote party, a process's environment or a query could have written is untrusted: an escape sequence in a
URL must not move the cursor, retitle the window or hide a line (CWE-150). `clean` lets only printable characters pass.
"""

from __future__ import annotations

from unicodedata import east_asian_width

_BYTES = ("B", "k", "M", "G", "T", "P", "E")


def clean(text: str, limit: int = 1024) -> str:
    """At most `limit` characters of the text; what is not printable (C0, C1, DEL, bidirectional controls, zero-width
    joiners, surrogates, line separators) is written as an escape.

    >>> clean("a\\x1b[2Jb\\u202ec")
    'a\\\\x1b[2Jb\\\\u202ec'
    """
    text = text[:limit]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def width(text: str) -> int:
    """Columns that clean text takes at most: wide characters take two, all others one.

    Combining marks count as well, or a text of marks alone could be of any length and never be cut.
    """
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, columns: int, ellipsis: str = "…") -> str:
    """The text in exactly so many columns: padded with spaces, or cut with an ellipsis.

    >>> fit("checkout", 5), fit("db", 5)
    ('chec…', 'db   ')
    """
    used = width(text)
    if used <= columns:
        return text + " " * (columns - used)
    if columns < len(ellipsis):
        return " " * columns
    out, used = [], len(ellipsis)
    for c in text:
        used += width(c)
        if used > columns:
            used -= width(c)
            break
        out.append(c)
    return "".join(out) + ellipsis + " " * (columns - used)


def duration(ns: float) -> str:
    """At most six columns, three digits.

    >>> duration(999), duration(1_234_567), duration(12_300_000_000), duration(600e9)
    ('1µs', '1.23ms', '12.3s', '600s')
    """
    if ns < 999_500:
        return f"{ns / 1e3:.0f}µs"
    if ns < 999_500_000:
        return f"{_digits(ns / 1e6)}ms"
    return f"{_digits(ns / 1e9)}s"


def size(count: int) -> str:
    """Bytes in at most five columns; k = 1000.

    >>> size(0), size(999), size(1234), size(56_789), size(10**9)
    ('0B', '999B', '1.2k', '57k', '1.0G')
    """
    if count < 1000:
        return f"{count}B"
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_BYTES) - 1:
        value /= 1000
        unit += 1
    return f"{value:.1f}{_BYTES[unit]}" if value < 9.95 else f"{value:.0f}{_BYTES[unit]}"


def rate(per_second: float) -> str:
    """At most five columns.

    >>> rate(0.0), rate(0.25), rate(12.34), rate(4_567), rate(123_456)
    ('0', '0.2', '12.3', '4567', '123k')
    """
    if per_second <= 0:
        return "0"
    if per_second < 99.95:
        return f"{per_second:.1f}"
    if per_second < 99_999.5:
        return f"{per_second:.0f}"
    return f"{per_second / 1e3:.0f}k" if per_second < 999_500 else f"{per_second / 1e6:.1f}M"


def _digits(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
