"""Where fields lie in structures of Go's runtime and net/http, by minor version: scripts/go_offsets.py measures it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

Offsets = Mapping[str, int]
"""name → bytes. A field that a version does not have is not there (`g_parent` before Go 1.21)."""
_RELEASE = re.compile(r"go(\d{1,3})\.(\d{1,3})(?:\.\d{1,4})?(?:-|$)")


@cache
def _table() -> dict[tuple[int, int], Offsets]:
    table = json.loads(Path(__file__).with_name("go_offsets.json").read_text())
    return {(int(minor.split(".")[0]), int(minor.split(".")[1])): offsets for minor, offsets in table.items()}


def release(version: str) -> tuple[int, int] | None:
    """Minor version of a release; None for development versions, betas and release candidates.

    >>> release("go1.22.1"), release("go1.23rc1")
    ((1, 22), None)
    """
    match = _RELEASE.match(version)
    return (int(match[1]), int(match[2])) if match else None


def offsets_of(minor: tuple[int, int] | None) -> Offsets | None:
    """The row of a minor version; None if it is not in the table."""
    return _table().get(minor) if minor else None


def known() -> tuple[str, str]:
    """The oldest and the newest minor version in the table."""
    rows = sorted(_table())
    return ".".join(map(str, rows[0])), ".".join(map(str, rows[-1]))
