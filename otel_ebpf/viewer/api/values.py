"""Values of the store as values of answers: times, ids, attributes."""

from __future__ import annotations

import json

Row = dict[str, object]
"""What `Reader.rows` gives for each row."""


def whole(value: object) -> int:
    """A column of whole numbers; 0 for NULL.

    >>> whole(3), whole(None)
    (3, 0)
    """
    return int(value) if isinstance(value, (int, float)) else 0


def text(value: object) -> str:
    """A column of texts; "" for NULL."""
    return value if isinstance(value, str) else ""


def listing(value: object) -> list[object]:
    """A column of lists; empty for NULL."""
    return value if isinstance(value, list) else []


def whole_numbers(value: object) -> list[int]:
    """A column of lists of whole numbers."""
    return [whole(one) for one in listing(value)]


def real(value: object) -> float:
    """A column of numbers; 0.0 for NULL."""
    return float(value) if isinstance(value, (int, float)) else 0.0


def reals(value: object) -> list[float]:
    """A column of lists of numbers."""
    return [real(one) for one in listing(value)]


def ms(ns: object) -> float:
    """Nanoseconds as milliseconds.

    >>> ms(1_500_000)
    1.5
    """
    return whole(ns) / 1e6


def trace_id(row: Row) -> str:
    """The id in lower-case hex, as W3C Trace Context writes it."""
    return f"{whole(row['trace_high']):016x}{whole(row['trace_low']):016x}"


def span_id(value: object) -> str:
    """A span's id in hex."""
    return f"{whole(value):016x}"


def within(rows: list[Row], size: int) -> list[object]:
    """Column `number` of the first rows whose column `size` adds up to no more; of the first one at least.

    >>> within([{"number": 4, "size": 70}, {"number": 9, "size": 70}], 100)
    [4]
    """
    found: list[object] = []
    for row in rows:
        size -= whole(row["size"])
        if found and size < 0:
            break
        found.append(row["number"])
    return found


def _nothing(_: str) -> None:
    return None


_DECODE = json.JSONDecoder(parse_constant=_nothing).decode


def parsed(value: object) -> object:
    """JSON text; None for NULL, and for what is no JSON."""
    if not isinstance(value, str) or not value:
        return None
    try:
        found: object = _DECODE(value)
    except (ValueError, RecursionError):
        return None
    return found


def attributes(value: object) -> dict[str, object]:
    """A column of attributes.

    >>> attributes('{"server.port":8080}')
    {'server.port': 8080}
    """
    found = value if isinstance(value, dict) else parsed(value)
    return found if isinstance(found, dict) else {}


def listed(value: object) -> list[dict[str, object]]:
    """A column with a JSON list of objects (events, links)."""
    found = parsed(value)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
