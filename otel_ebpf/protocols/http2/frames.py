"""Frames of HTTP/2 as the kernel tells them (`struct frame` of bpf/include/records.h), one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from otel_ebpf.model import Frames

HEADERS, DATA, RESET, CLOSED, LOST = range(1, 6)
"""`enum frame_kind`."""
REQUEST, END_STREAM, BEGINS, ENDS, CUT = (1 << i for i in range(5))
"""`enum frame_bits`."""
_SCALARS = (
    *("span_id", "conn", "t", "t_end", "unit", "cause", "after", "bytes", "tgid", "tid", "stream", "n", "flags"),
    *("error", "kind", "bits"),
)


@dataclass(slots=True)
class Frame:
    """One record. size: `bytes`. block: the piece of a header block."""

    span_id: int
    conn: int
    t: int
    t_end: int
    unit: int
    cause: int
    after: int
    size: int
    tgid: int
    tid: int
    stream: int
    n: int
    flags: int
    error: int
    kind: int
    bits: int
    block: bytes


def by_connection(frames: Sequence[Frames]) -> dict[int, list[Frame]]:
    """The records of all batches by connection, in the order of time; each direction in that of its numbers."""
    parts = [part for part in frames if len(part)]
    if not parts:
        return {}
    head = np.concatenate([part.head for part in parts])
    blocks: list[bytes] = []
    for part in parts:
        width, raw = part.block.shape[1], part.block.tobytes()
        sizes = np.minimum(part.head["cap"], width).tolist()
        blocks += [raw[i * width : i * width + size] for i, size in enumerate(sizes)]
    order = np.lexsort((head["n"], head["t_end"], head["conn"]))
    columns = [head[name][order].tolist() for name in _SCALARS]
    found: dict[int, list[Frame]] = {}
    for at, values in zip(order.tolist(), zip(*columns, strict=True), strict=True):
        frame = Frame(*(*values, blocks[at]))
        found.setdefault(frame.conn, []).append(frame)
    return found
