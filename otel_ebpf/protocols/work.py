"""What the parts of the engine share: a batch on its way, what each module can do, and what is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Exchanges, Intern
from otel_ebpf.protocols.base import Fields, Options, Protocol
from otel_ebpf.protocols.extras import Columnar, Completing, Framed, Leave, Leaving, Plural, Reader, Stateful
from otel_ebpf.protocols.pieces import Pieces

Listener: TypeAlias = Callable[[NDArray[np.void], NDArray[np.uint8]], object]
"""Takes the heads and the responses of n exchanges, as in `Exchanges`."""


@dataclass(frozen=True, slots=True)
class Able:
    """A module and what it offers beside `Protocol`, asked once: the question costs more than reading an exchange."""

    index: int
    module: Protocol
    prefix: int
    reader: Reader | None
    plural: Plural | None
    framed: Framed | None
    completing: Completing | None
    _stateful: Stateful | None
    _leaving: Leaving | None

    @classmethod
    def of(cls, index: int, module: Protocol, options: Options, intern: Intern[Fields]) -> Able:
        return cls(
            index,
            module,
            int(getattr(module, "response_prefix", 1 << 16)),
            module.reader(options, intern) if isinstance(module, Columnar) else None,
            module if isinstance(module, Plural) else None,
            module if isinstance(module, Framed) else None,
            module if isinstance(module, Completing) else None,
            module if isinstance(module, Stateful) and module.stateful is not None else None,
            module if isinstance(module, Leaving) else None,
        )

    def stateful(self, request: bytes) -> bool:
        return self._stateful is not None and self._stateful.stateful(request)

    def leaves(self, request: bytes, response: bytes) -> Leave:
        return Leave.NO if self._leaving is None else self._leaving.leaves(request, response)


@dataclass(slots=True)
class Counts:
    """What is lost or left, and where; see Engine."""

    failures: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    cut: int = 0
    unknown_connections: int = 0
    unrecognised: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """An exchange that is to be read in order. i: its row in the batch. key: what `Groups` knows it by; 0: nothing."""

    conn: int
    n: int
    i: int
    index: int
    key: int


@dataclass(slots=True)
class Job:
    """One batch on its way. row: (n,) in the table of connections. turns: what is to be read in order."""

    exchanges: Exchanges
    row: NDArray[np.int32]
    pieces: Pieces
    turns: list[Turn]

    def later(self, index: int, rows: NDArray[np.intp], keys: Sequence[int] | None = None) -> None:
        """These rows are to be read in order."""
        head = self.exchanges.head
        told = zip(
            head["conn"][rows].tolist(),
            head["n"][rows].tolist(),
            rows.tolist(),
            keys if keys is not None else [0] * len(rows),
            strict=True,
        )
        self.turns.extend(Turn(conn, n, i, index, key) for conn, n, i, key in told)

    def payload(self, i: int) -> tuple[bytes, bytes]:
        """Request and response of a row, as many bytes as are valid."""
        head = self.exchanges.head[i]
        return (
            self.exchanges.request[i, : int(head["req_cap"])].tobytes(),
            self.exchanges.response[i, : int(head["rsp_cap"])].tobytes(),
        )
