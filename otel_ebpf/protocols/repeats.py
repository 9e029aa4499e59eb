"""Which exchanges of a batch are equal in all that a columnar reader looks at, so that it reads each of them once.

Grouping costs a tenth of reading, and is in vain where every request bears an id of its own: what the last batches were
like decides whether it is tried.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Flag
from otel_ebpf.protocols.extras import Batch
from otel_ebpf.protocols.memo import hash_rows, mix
from otel_ebpf.tracing.keys import groups

FEWEST = 256
"""A batch of fewer rows is read faster than it is grouped."""
PAUSE = 31
"""So many batches are not looked at after one in which grouping did not pay."""
_SERVER = int(Flag.SERVER)
_TELLING = int(Flag.SERVER | Flag.TLS | Flag.UNANSWERED | Flag.RESET)


class Repeats:
    """Finds equal rows as long as there are many; one for each reader. compared: see `extras.Alike`."""

    def __init__(self, compared: int) -> None:
        self._compared = compared
        self._pause = 0

    def among(self, batch: Batch) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
        """(k,) a row of each kind, and (n,) which kind each row is; None: to be read row by row."""
        n = len(batch.row)
        if n < FEWEST:
            return None
        if self._pause:
            self._pause -= 1
            return None
        distinct, which = groups(_keys(batch, self._compared))
        if 2 * len(distinct) > n:
            self._pause = PAUSE
            return None
        first = np.empty(len(distinct), np.intp)
        first[which] = np.arange(n)
        return first, which


def _keys(batch: Batch, compared: int) -> NDArray[np.uint64]:
    """(n,) hashes of the request, of what is compared of the response, and of the record and the service."""
    head = batch.head
    size, flags = head["req_cap"].astype(np.uint64), head["flags"]
    asked = batch.request.view("<u8")[:, : (int(size.max()) + 7) // 8]
    answered = batch.response[:, :compared].view("<u8")
    service = batch.table["netns"][batch.row].astype(np.uint64) << np.uint64(16)
    service |= batch.table["local_port"][batch.row]
    service *= (flags & _SERVER) > 0  # a client's own port says nothing
    small = size | (flags & _TELLING).astype(np.uint64) << np.uint64(16)
    return mix(hash_rows(asked), hash_rows(answered), small, head["req_bytes"], service)
