"""Names of outside peers, from the DNS answers that processes of this host were given.

Theory of operation. Who connects to an address has mostly just asked for it: so a connection's peer has the name for
which its process was last given the address, in an answer that still was to be believed (its time to live) when the
connection was opened. Many processes have others ask for them (nscd, systemd-resolved, a cache in another container):
where the process itself never was given the address, the name is the one that *all* valid answers on this host agree
on; of several, which are usual for addresses of an ingress or a CDN, none is taken. A name is as it was asked for; what
aliases (CNAME) lie between does not matter. Nothing is ever looked up by the agent itself. Loopback addresses have the
names for which the process itself asked, if any.

The time of the *opening* counts: so a connection keeps its name for as long as it lives, whenever it is asked for,
while the answer is remembered. That is bounded in processes and in addresses: what was used longest ago is forgotten.
A process id that is used again may find its predecessor's answers; they are true ones, and die with their time to live.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from otel_ebpf.model import Flag

LEAST_NS, MOST_NS = 30 * 10**9, 24 * 3600 * 10**9
"""Bounds of the time to live: programs keep an address for a moment even if they were told not to."""
PROCESSES, ADDRESSES, ALL_ADDRESSES = 1024, 1024, 16384
"""Processes, addresses of each of them, and addresses of the whole host that are remembered."""
NAMES = 4
"""Of one address: the latest ones."""

HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
"""In lower case and in ASCII, as IDNA writes all others (RFC 5890 §2.3.2.1): safe in any output."""
_UNSAID = np.uint32(Flag.SERVER | Flag.UNANSWERED)
_ANSWERS = slice(6, 8)
"""Octets of a DNS header in a datagram: ANCOUNT (RFC 1035 §4.1.1)."""
_LOOPBACK = ("127.", "::1")

Answers = Callable[[bytes], Iterable[tuple[str, str, int]]]


@dataclass(frozen=True, slots=True)
class _Given:
    """An address was given for a name, to be believed from `since` until `until`; CLOCK_MONOTONIC ns."""

    name: str
    since: int
    until: int


class _Book(OrderedDict[str, tuple[_Given, ...]]):
    """Address → its latest names, the newest last; the address that was used longest ago comes first."""

    def note(self, address: str, given: _Given, limit: int) -> bool:
        """Add what was given; whether another address had to be forgotten for it.

        What is given again goes on: a connection from before keeps its name.
        """
        known = self.get(address, ())
        before = next((one for one in known if one.name == given.name), given)
        others = tuple(one for one in known if one is not before)
        until = max(before.until, given.until)
        self[address] = (*others[1 - NAMES :], _Given(given.name, min(before.since, given.since), until))
        self.move_to_end(address)
        if len(self) <= limit:
            return False
        self.popitem(last=False)
        return True


class PeerNames:
    """Who is behind an address. answers: (name, address, seconds to live) that a DNS response teaches.

    forgotten: addresses that had to make room for others.

    >>> names = PeerNames(Dns().answers)
    >>> names.learn(4711, "db.test", "10.0.0.5", seconds=60, at=now)
    >>> names.find(4711, "10.0.0.5", opened=now + 1), names.find(4711, "10.0.0.6", opened=now + 1)
    ('db.test', '')
    """

    def __init__(self, answers: Answers) -> None:
        self.forgotten = 0
        self._answers = answers
        self._books: OrderedDict[int, _Book] = OrderedDict()
        self._host = _Book()

    def __len__(self) -> int:
        """Addresses that are remembered, those of each process and those of the host."""
        return len(self._host) + sum(map(len, list(self._books.values())))

    def __bool__(self) -> bool:
        return bool(self._host)

    def hear(self, head: NDArray[np.void], response: NDArray[np.uint8]) -> None:
        """Learn from n DNS exchanges, of which those are the heads and responses (otel_ebpf.model.Exchanges)."""
        if response.shape[1] < _ANSWERS.stop:
            return
        useful = (head["flags"] & _UNSAID) == 0
        # Over TCP two octets of length come first: then this looks at others, some of which are never zero together.
        useful &= response[:, _ANSWERS].any(axis=1) | (head["rsp_cap"] > 512)
        for row in useful.nonzero()[0].tolist():
            one = head[row]
            tgid, at = int(one["tgid"]), int(one["t_rsp"])
            for name, address, seconds in self._answers(response[row, : int(one["rsp_cap"])].tobytes()):
                self.learn(tgid, name, address, seconds=seconds, at=at)

    def learn(self, tgid: int, name: str, address: str, *, seconds: int, at: int) -> None:
        """A process was given an address for a name at CLOCK_MONOTONIC ns `at`. What is no host's name is not one."""
        if not HOST_NAME.fullmatch(name):
            return
        given = _Given(name, at, at + min(max(seconds * 10**9, LEAST_NS), MOST_NS))
        book = self._books.get(tgid)
        if book is None:
            if len(self._books) >= PROCESSES:
                self.forgotten += len(self._books.popitem(last=False)[1])
            book = self._books[tgid] = _Book()
        self._books.move_to_end(tgid)
        self.forgotten += book.note(address, given, ADDRESSES)
        self.forgotten += self._host.note(address, given, ALL_ADDRESSES)

    def find(self, tgid: int, address: str, *, opened: int) -> str:
        """The name behind the address for a connection that the process opened at this time; "" if it is not known."""
        book = self._books.get(tgid)
        own = _valid(book, address, opened) if book is not None else ()
        if own:
            self._books.move_to_end(tgid)
            return own[-1].name
        if address.startswith(_LOOPBACK):  # many programs live there, and one was asked for
            return ""
        names = {given.name for given in _valid(self._host, address, opened)}
        return names.pop() if len(names) == 1 else ""


def _valid(book: _Book, address: str, at: int) -> Sequence[_Given]:
    given = book.get(address)
    if given is None:
        return ()
    book.move_to_end(address)
    return [one for one in given if one.since <= at <= one.until]
