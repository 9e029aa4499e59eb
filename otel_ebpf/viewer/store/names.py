"""Names of operations that sums are kept of: bounded by service, since senders choose them."""

from __future__ import annotations

NAMES = 500
"""Operations of one service."""
SERVICES = 2000
ALL = 50_000
"""Operations of all services."""
OTHER = "(other)"
_SERVICE, _NAME = 6, 10
"""Columns of a row of spans."""


class Operations:
    """What was named so far.

    >>> Operations().bounded(row)
    'GET /users/{id}'
    """

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        self._count = 0

    def bounded(self, row: tuple[object, ...]) -> str:
        """The name of the row's operation, or `OTHER` when its service has too many."""
        service, name = str(row[_SERVICE]), str(row[_NAME])
        names = self._names.get(service)
        if names is None:
            if len(self._names) >= SERVICES:
                return OTHER
            names = self._names[service] = set()
        if name in names:
            return name
        if len(names) >= NAMES or self._count >= ALL:
            return OTHER
        names.add(name)
        self._count += 1
        return name
