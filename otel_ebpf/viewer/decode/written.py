"""Attributes as they are stored: their JSON text and its signature, of which each pair's part is remembered."""

from __future__ import annotations

from collections.abc import Mapping

from otel_ebpf.viewer.decode.attributes import Value, as_json
from otel_ebpf.viewer.decode.signature import bits

REMEMBERED = 1 << 14
_LONG = 256
"""Characters of pairs that are not worth remembering."""


class Writing:
    """Writes sets of attributes.

    >>> text, signature = Writing().of({"http.route": "/", "server.port": 80})
    >>> text
    '{"http.route":"/","server.port":80}'
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str | int], tuple[str, int]] = {}

    def of(self, attributes: Mapping[str, Value]) -> tuple[str, int]:
        """The text, and the bits that all pairs set (signature.py)."""
        known = self._known
        parts, signature = [], 0
        for key, value in attributes.items():
            # A bool is an int that equals another one: it is not looked up.
            found = known.get((key, value)) if type(value) is str or type(value) is int else None
            if found is None:
                found = self._written(key, value)
            parts.append(found[0])
            signature |= found[1]
        return "{" + ",".join(parts) + "}", signature

    def _written(self, key: str, value: Value) -> tuple[str, int]:
        found = f"{as_json(key)}:{as_json(value)}", bits(key, value)
        if type(value) is int or (type(value) is str and len(key) + len(value) <= _LONG):
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key, value] = found
        return found
