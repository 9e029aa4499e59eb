"""Which rows are observed: the user's include and exclude rules, and never the agent itself."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.config.rules import Match, fits
from otel_ebpf.model import Intern, Resource

_MOST_CACHED = 1 << 16


class Filter:
    """include: if not empty, a row must fit one of them. exclude: a row must fit none. own: the agent's process.

    >>> Filter(exclude=[Match(service="node-*")]).allows(Resource("node-exporter", ()), 9100)
    False
    """

    def __init__(self, include: Sequence[Match] = (), exclude: Sequence[Match] = (), own: int | None = None) -> None:
        self._include = tuple(include)
        self._exclude = tuple(exclude)
        self._own = [np.uint32(os.getpid() if own is None else own)]
        self._own_ports = np.zeros(0, np.uint16)
        self._netns = 0
        self._known: dict[int, bool] = {}

    def allows(self, resource: Resource, port: int) -> bool:
        """Whether exchanges of this process with this server port are observed; port 0: none (unix sockets)."""
        texts = {name: value for name, value in resource.attributes if isinstance(value, str)}
        if any(_matches(match, resource.service, texts, port) for match in self._exclude):
            return False
        return not self._include or any(_matches(match, resource.service, texts, port) for match in self._include)

    @property
    def selective(self) -> bool:
        """Whether there are any rules; without, only the agent's own rows are left out."""
        return bool(self._include or self._exclude)

    def others(self, tgids: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """(n,) which rows are not the agent's own."""
        others: NDArray[np.bool_] = tgids != self._own[0]
        for own in self._own[1:]:
            others &= tgids != own
        return others

    def leave_out(self, tgid: int, ports: Collection[int]) -> None:
        """Another process that belongs to the agent, and listens on these ports: it and who talks to it from this
        network namespace (a browser, another program that exports to it) are not observed in that."""
        self._own.append(np.uint32(tgid))
        self._own_ports = np.array(sorted(ports), np.uint16)
        self._netns = Path("/proc/self/ns/net").stat().st_ino

    @property
    def has_ports(self) -> bool:
        """Whether `reaching` can be true of anything."""
        return len(self._own_ports) > 0

    def reaching(self, table: NDArray[np.void], rows: NDArray[np.int32]) -> NDArray[np.bool_]:
        """(n,) which connection ends reach one of the agent's own ports. table: of `struct connection`; rows: (n,) in
        it. A connection within one host has the same address at both ends."""
        reaching: NDArray[np.bool_] = np.isin(table["remote_port"][rows], self._own_ports)
        some = reaching.nonzero()[0]
        ends = table[rows[some]]
        reaching[some] = (ends["local"] == ends["remote"]).all(axis=1) & (ends["netns"] == self._netns)
        return reaching

    def mask(
        self,
        tgids: NDArray[np.uint32],
        resources: NDArray[np.int32],
        ports: NDArray[np.uint16],
        table: Intern[Resource],
    ) -> NDArray[np.bool_]:
        """(n,) which rows are observed. resources: ids in `table`; ports: of the server, at whichever end."""
        kept = self.others(tgids)
        if not self.selective:
            return kept
        keys, rows = np.unique(resources.astype(np.int64) << 16 | ports, return_inverse=True)
        if len(self._known) > _MOST_CACHED:
            self._known.clear()
        for key in keys.tolist():
            if key not in self._known:
                self._known[key] = self.allows(table[key >> 16], key & 0xFFFF)
        decided = np.fromiter((self._known[key] for key in keys.tolist()), np.bool_, len(keys))
        return kept & decided[rows]


def _matches(match: Match, service: str, texts: dict[str, str], port: int) -> bool:
    containers = (texts.get("container.name", ""), texts.get("container.id", ""))
    return (
        fits(match.executable, texts.get("process.executable.path", ""))
        and fits(match.service, service)
        and (not match.container or any(fits(match.container, text) for text in containers if text))
        and (not match.port or any(low <= port <= high for low, high in match.port))
    )
