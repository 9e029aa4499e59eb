"""The names by which TLS clients asked for their servers: whatever they are, whenever they come."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from otel_ebpf.capture.connections import FORGET_NS, Connections
from otel_ebpf.capture.endpoints import Endpoints
from otel_ebpf.capture.live import Drain
from otel_ebpf.capture.servernames import ServerNames
from otel_ebpf.config.rules import PeerAlias
from otel_ebpf.model import Kind
from otel_ebpf.protocols.dns import Dns
from otel_ebpf.resource.aliases import Aliases
from otel_ebpf.resource.peers import PeerNames
from tests.unit.exchanges import BTF, NOW, announcements

RECORD = BTF.dtype("server_name")
SHOP = 100


def told(*names: tuple[int, bytes]) -> NDArray[np.void]:
    """Records as the kernel side writes them."""
    return np.array(list(names), RECORD)


def find(said: bytes) -> str:
    names = ServerNames()
    names.learn(told((7, said)), NOW)
    return names.find(7)


# ---- the table ----


def test_a_connection_has_the_name_that_was_asked_for_on_it() -> None:
    names = ServerNames()
    assert names.learn(told((7, b"db.test"), (8, b"cache.test")), NOW) == [7, 8]
    assert (names.find(7), names.find(8), names.find(9)) == ("db.test", "cache.test", "")


def test_what_is_told_again_is_no_change() -> None:
    names = ServerNames()
    names.learn(told((7, b"db.test")), NOW)
    assert names.learn(told((7, b"db.test")), NOW + 1) == []
    assert names.learn(told((7, b"cache.test")), NOW + 2) == [7]


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (b"DB.Test", "db.test"),
        (b"db.test.", "db.test"),
        (b"xn--bcher-kva.test", "xn--bcher-kva.test"),
        (b"_db.test", "_db.test"),
        (b"db.test\0left from before", "db.test"),
        (b"a" * 253, "a" * 253),
        (b"a" * 254, ""),
        (b"", ""),
        (b".", ""),
        (b"-db", ""),
        (b"b\xc3\xbccher.test", ""),
        (b"db.test\n", ""),
        (b"db test", ""),
        (b"<script>", ""),
        (b"\x1b[31mdb", ""),
        (b"127.0.0.1:80", ""),
    ],
)
def test_a_name_is_a_hosts_name_in_ascii_or_none(said: bytes, name: str) -> None:
    assert find(said) == name


@given(st.binary(max_size=256))
def test_no_bytes_break_it_and_what_is_refused_is_counted(said: bytes) -> None:
    names = ServerNames()
    names.learn(told((7, said)), NOW)
    assert set(names.find(7)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
    assert bool(names.find(7)) + names.refused == 1


def test_it_is_bounded_and_what_had_to_go_is_counted() -> None:
    names = ServerNames(limit=10)
    names.learn(told(*[(i, b"db.test") for i in range(10)]), NOW)
    names.learn(told((0, b"db.test")), NOW)  # in use
    names.learn(told((10, b"db.test")), NOW)
    assert (len(names), names.forgotten) == (10, 1)
    assert (names.find(0), names.find(1), names.find(10)) == ("db.test", "", "db.test")


def test_a_name_goes_with_its_connection_or_when_it_is_told_no_more() -> None:
    names = ServerNames()
    names.learn(told((1, b"a.test"), (2, b"b.test"), (3, b"c.test")), NOW)
    names.close([1, 99])
    names.learn(told((3, b"c.test")), NOW + 60 * 10**9)
    names.forget(NOW + FORGET_NS + 1)
    assert [names.find(i) for i in (1, 2, 3)] == ["", "", "c.test"]
    assert names.forgotten == 0


# ---- the endpoints of spans ----


class World:
    """Two connections of one process to the same server; DNS knows it, if it is told."""

    def __init__(self, *aliases: PeerAlias) -> None:
        self.connections = Connections(BTF.dtype("connection"))
        self.dns = PeerNames(Dns().answers)
        self.endpoints = Endpoints(self.connections, names=self.dns, servers=ServerNames(), aliases=Aliases(aliases))

    def announce(self) -> None:
        table = announcements(1, 2, port=40_000, remote_port=5432, tgid=SHOP, t_open=NOW)
        self.connections.update(table, NOW)

    def hear(self, *names: tuple[int, bytes]) -> None:
        self.endpoints.learn(told(*names), NOW)

    def ids(self, kind: Kind = Kind.CLIENT) -> list[int]:
        rows = self.connections.rows(np.array([1, 2], np.uint64), NOW)
        return [int(i) for i in self.endpoints.ids(rows, np.full(2, kind, np.uint8))]

    def servers(self, kind: Kind = Kind.CLIENT) -> list[object]:
        table = self.endpoints.table
        return [dict(table[i].unless_addressed)["server.address"] for i in self.ids(kind)]


@pytest.mark.parametrize("announced_first", [True, False])
def test_name_and_announcement_may_come_in_either_order(announced_first: bool) -> None:
    world = World()
    steps: list[Callable[[], None]] = [world.announce, partial(world.hear, (1, b"db.test"))]
    for step in steps if announced_first else reversed(steps):
        step()
    assert world.servers() == ["db.test", "10.0.0.2"]
    assert world.servers(Kind.SERVER) == ["10.0.0.1", "10.0.0.1"]


def test_a_name_that_comes_late_is_that_of_what_comes_after_it() -> None:
    world = World()
    world.announce()
    before = world.ids()
    world.hear((1, b"db.test"), (77, b"unknown.test"))
    assert world.servers() == ["db.test", "10.0.0.2"]
    assert dict(world.endpoints.table[before[0]].unless_addressed)["server.address"] == "10.0.0.2"
    world.announce()  # once a minute
    assert world.servers() == ["db.test", "10.0.0.2"]


def test_what_the_connection_asked_for_is_surer_than_dns() -> None:
    world = World()
    world.dns.learn(SHOP, "any.test", "10.0.0.2", seconds=60, at=NOW)
    world.announce()
    world.hear((2, b"db.test"))
    assert world.servers() == ["any.test", "db.test"]


def test_an_alias_for_the_name_is_the_servers() -> None:
    world = World(PeerAlias("db.test", "orders"))
    world.announce()
    world.hear((1, b"db.test"))
    first, second = (dict(world.endpoints.table[i].always) for i in world.ids())
    assert first["service.peer.name"] == "orders"
    assert "service.peer.name" not in second


def test_a_drain_with_nothing_but_a_name_is_not_empty() -> None:
    none = np.zeros(0, BTF.dtype("connection")), np.zeros(0, BTF.dtype("process_event"))
    assert Drain([], *none, NOW, told((1, b"db.test")))
    assert not Drain([], *none, NOW, told())
    assert not Drain([], *none, NOW)
