"""Where a stream of grpc-go's server keeps its number, by release of grpc-go: scripts/grpc_offsets.py measures it."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping
from functools import cache
from pathlib import Path

MODULE = "google.golang.org/grpc"
_RELEASE = re.compile(r"v?(\d{1,3})\.(\d{1,4})\.(\d{1,4})$")

Release = tuple[int, int, int]


@cache
def _table() -> dict[Release, Mapping[str, int]]:
    """From which release on; the last row is of the newest one that was measured."""
    table = json.loads(Path(__file__).with_name("grpc_offsets.json").read_text())
    return {release: offsets for name, offsets in table.items() if (release := _release(name))}


def _release(version: str) -> Release | None:
    match = _RELEASE.match(version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def offsets_of(version: str) -> Mapping[str, int] | None:
    """Of a release: stream_id, stream_transport (bytes), stream_pointer (1: it begins with a pointer to its inside).

    None for what is no release, or of a minor version that is older or newer than those in the table.

    >>> offsets_of("v1.67.3"), offsets_of("v1.86.0-dev")
    ({"stream_id": 0, "stream_pointer": 0, "stream_transport": 8}, None)
    """
    release, rows = _release(version), sorted(_table())
    if release is None or release < rows[0] or release[:2] > rows[-1][:2]:
        return None
    return _table()[rows[bisect_right(rows, release) - 1]]


def known() -> tuple[str, str]:
    """The oldest and the newest minor version in the table."""
    rows = sorted(_table())
    return ".".join(map(str, rows[0][:2])), ".".join(map(str, rows[-1][:2]))
