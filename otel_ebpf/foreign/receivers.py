"""Which processes of this host receive telemetry, and so pass on what others tell: Collectors, agents, proxies.

Only what was seen counts: an export on a connection makes a receiver of whoever is at its other end, and of whoever
serves, now or later, at the address and port that it went to. A port alone would not do: exports to port 443 of another
host make no receiver of the web server here, nor does a port that somebody names. A place is forgotten when a process
that received there ends: the next to serve there may be another program.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.capture.connections import CONNECTION_SERVER, Connections

PORTS = (4317, 4318)
"""Of OTLP/gRPC and OTLP/HTTP (opentelemetry-proto, docs/specification.md): who serves there receives."""
MOST = 1000
"""Places; of more, those that were found first go."""
_IPPROTO_TCP = 6
_MAPPED = bytes(10) + b"\xff\xff"
_LOCALHOST = bytes(15) + b"\x01"
_Place: TypeAlias = "tuple[bytes, int, int]"
"""Address, port; of a loopback address also the network namespace."""


class Receivers:
    """found: called with each process that receives; it may be the same again.

    >>> receivers = Receivers(reader.forward)
    >>> receivers.announced(drain.connections)
    >>> receivers.exported({conn}, connections, now)["remote_port"]
    array([4318], dtype=uint16)
    """

    def __init__(self, found: Callable[[int], object]) -> None:
        self._found = found
        self._places: dict[_Place, set[int]] = {}
        """and who received there"""

    def announced(self, connections: NDArray[np.void]) -> None:
        """Ends (`struct connection`) that are new, or still in use."""
        serves = (connections["flags"] & CONNECTION_SERVER) != 0
        ports = np.fromiter({*PORTS, *(port for _, port, _ in self._places)}, np.uint16)
        serves &= (connections["protocol"] == _IPPROTO_TCP) & np.isin(connections["local_port"], ports)
        for end in connections[serves]:
            received = self._places.get(_place(end, "local"))
            if received is not None:
                received.add(int(end["tgid"]))
            elif int(end["local_port"]) not in PORTS:
                continue
            self._found(int(end["tgid"]))

    def exported(self, conns: Collection[int], connections: Connections, now: int) -> NDArray[np.void]:
        """Exports were seen on these (either end). Returns those ends that were announced already."""
        if not conns:
            return connections.table[:0]
        ids = np.fromiter(conns, np.uint64, len(conns))
        row = connections.rows(ids, now)
        ends = connections.table[row[row >= 0]]
        serves = (ends["flags"] & CONNECTION_SERVER) != 0
        for tgid in (*ends["tgid"][serves].tolist(), *connections.servers(ids)["tgid"].tolist()):
            self._found(tgid)
        places = {_place(end, "local" if own else "remote") for end, own in zip(ends, serves, strict=True)}
        new = places - self._places.keys()
        if new:
            self._places.update((place, set()) for place in new)
            for place in list(self._places)[: max(len(self._places) - MOST, 0)]:
                del self._places[place]
            self.announced(connections.known())
        return ends

    def forget(self, gone: set[int]) -> None:
        """These processes ended, or execute another program."""
        for place in [place for place, received in self._places.items() if not received.isdisjoint(gone)]:
            del self._places[place]


def _place(end: np.void, side: str) -> _Place:
    address, port = end[side].tobytes(), int(end[f"{side}_port"])
    own = address == _LOCALHOST or (address.startswith(_MAPPED) and address[12] == 127)
    return address, port, int(end["netns"]) if own else 0
