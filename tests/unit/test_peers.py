"""What the other ends of connections are called: by DNS answers that were seen, and by users."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.capture.endpoints import Endpoints
from otel_ebpf.config import load
from otel_ebpf.config.peerpattern import pattern_of
from otel_ebpf.config.rules import PeerAlias
from otel_ebpf.errors import ConfigError
from otel_ebpf.model import Endpoint, Flag, Intern, Kind
from otel_ebpf.protocols.base import Fields, Options
from otel_ebpf.protocols.dns import Dns
from otel_ebpf.protocols.engine import Engine
from otel_ebpf.resource import peers
from otel_ebpf.resource.aliases import Aliases
from otel_ebpf.resource.peers import LEAST_NS, MOST_NS, PeerNames
from tests.unit.exchanges import NOW, Said, announcements, batch, connections

S = 10**9
SHOP, CART = 100, 200
QUERY = bytes.fromhex("1a2b 0100 0001 0000 0000 0000 0264620474657374 00 0001 0001")
"""A of db.test."""


def answer(*addresses: str, ttl: int = 60, via: bytes = b"") -> bytes:
    """The answer to QUERY. via: the wire form of a name that db.test is an alias of."""
    records = b""
    owner = b"\xc0\x0c"
    if via:
        records, owner = b"\xc0\x0c" + bytes.fromhex("0005 0001 00000005") + len(via).to_bytes(2, "big") + via, via
    for address in addresses:
        records += owner + bytes.fromhex("0001 0001") + ttl.to_bytes(4, "big") + b"\0\4"
        records += ipaddress.ip_address(address).packed
    count = len(addresses) + bool(via)
    return QUERY[:2] + bytes.fromhex("8180 0001") + count.to_bytes(2, "big") + bytes(4) + QUERY[12:] + records


def names_of() -> PeerNames:
    return PeerNames(Dns().answers)


# ---- DNS ----


def test_a_process_knows_the_address_by_the_name_that_it_asked_for() -> None:
    names = names_of()
    names.learn(SHOP, "db.test", "10.0.0.5", seconds=60, at=NOW)
    assert names.find(SHOP, "10.0.0.5", opened=NOW + S) == "db.test"
    assert names.find(SHOP, "10.0.0.6", opened=NOW + S) == ""


def test_what_counts_is_when_the_connection_was_opened() -> None:
    names = names_of()
    names.learn(SHOP, "db.test", "10.0.0.5", seconds=60, at=NOW)
    assert names.find(SHOP, "10.0.0.5", opened=NOW - 1) == ""
    assert names.find(SHOP, "10.0.0.5", opened=NOW + 60 * S) == "db.test"
    assert names.find(SHOP, "10.0.0.5", opened=NOW + 60 * S + 1) == ""


def test_a_connection_keeps_its_name_when_the_answer_is_given_again() -> None:
    names = names_of()
    for minute in range(10):
        names.learn(SHOP, "db.test", "10.0.0.5", seconds=5, at=NOW + 60 * minute * S)
    assert names.find(SHOP, "10.0.0.5", opened=NOW + S) == "db.test"


@pytest.mark.parametrize(("seconds", "kept"), [(0, LEAST_NS), (10**9, MOST_NS)])
def test_the_time_to_live_is_bounded(seconds: int, kept: int) -> None:
    names = names_of()
    names.learn(SHOP, "db.test", "10.0.0.5", seconds=seconds, at=NOW)
    assert names.find(SHOP, "10.0.0.5", opened=NOW + kept) == "db.test"
    assert names.find(SHOP, "10.0.0.5", opened=NOW + kept + 1) == ""


def test_what_others_asked_for_counts_where_all_agree() -> None:
    names = names_of()
    names.learn(SHOP, "db.test", "10.0.0.5", seconds=60, at=NOW)
    assert names.find(CART, "10.0.0.5", opened=NOW + S) == "db.test"
    names.learn(SHOP, "cache.test", "10.0.0.5", seconds=60, at=NOW + 2 * S)
    assert names.find(CART, "10.0.0.5", opened=NOW + S) == "db.test"  # opened before there was another name
    assert names.find(CART, "10.0.0.5", opened=NOW + 3 * S) == ""
    assert names.find(SHOP, "10.0.0.5", opened=NOW + 3 * S) == "cache.test"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.53", "::1"])
def test_a_loopback_address_has_no_name_but_for_who_asked(address: str) -> None:
    names = names_of()
    names.learn(SHOP, "db.test", address, seconds=60, at=NOW)
    assert names.find(SHOP, address, opened=NOW) == "db.test"
    assert names.find(CART, address, opened=NOW) == ""


def test_memory_is_bounded_and_what_was_forgotten_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("PROCESSES", "ADDRESSES", "ALL_ADDRESSES"):
        monkeypatch.setattr(peers, limit, 10)
    names = names_of()
    for i in range(1000):
        names.learn(i % 50, f"n{i}.test", f"10.0.{i >> 8}.{i & 255}", seconds=60, at=NOW)
        names.learn(7, f"alias{i}.test", "10.9.9.9", seconds=60, at=NOW)
    assert len(names) <= 10 * 10 + 10
    assert names.forgotten > 900
    assert max(len(book[a]) for book in names._books.values() for a in book) <= peers.NAMES


@given(st.text(max_size=30) | st.sampled_from(["-", ".", "a..b", "a b", "x" * 300, "<script>", 'a"b', "a\n", "a\0"]))
def test_a_name_is_a_hosts_name_or_none(name: str) -> None:
    names = names_of()
    names.learn(SHOP, name, "10.0.0.5", seconds=60, at=NOW)
    assert set(names.find(SHOP, "10.0.0.5", opened=NOW)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")


# ---- from the wire to the attributes of spans ----


def client_of(names: PeerNames, aliases: Aliases | None = None, **columns: int) -> tuple[Endpoint, Endpoint]:
    """The endpoints of a connection's client and server end. columns: of its announcement at the client's end."""
    table = announcements(1, port=40_000, **{"remote_port": 5432, "tgid": SHOP, "t_open": NOW + 7000, **columns})
    known = connections(9)
    known.update(table, NOW)
    endpoints = Endpoints(known, names=names, aliases=aliases)
    row = known.rows(np.array([1], np.uint64), NOW)
    client, server = (endpoints.ids(row, np.array([kind], np.uint8))[0] for kind in (Kind.CLIENT, Kind.SERVER))
    return endpoints.table[client], endpoints.table[server]


def hear(names: PeerNames, *said: Said, protocol: int = 17) -> None:
    """What the agent's engine hears of DNS."""
    known = connections(*range(1, 10), port=53, protocol=protocol)
    engine = Engine(known, Intern[Fields](100), Options(), listeners={"dns": names.hear})
    exchanges = batch(said)
    exchanges.head["tgid"] = SHOP
    engine.parse(exchanges, NOW)


@pytest.mark.parametrize("via", [b"", b"\x03ec2\x03aws\0"])
@pytest.mark.parametrize("framed", [False, True])
def test_the_server_of_a_client_is_called_as_dns_was_asked(via: bytes, framed: bool) -> None:
    """Given an answer by UDP or TCP, with or without aliases, then the span has the name and the address."""
    names = names_of()
    request, response = QUERY, answer("10.0.0.9", "10.0.0.2", via=via)
    if framed:
        request, response = (len(m).to_bytes(2, "big") + m for m in (request, response))
    hear(names, Said(request, response, flags=Flag(0)), protocol=6 if framed else 17)
    client, server = client_of(names)
    assert client.unless_addressed == (("server.address", "db.test"), ("server.port", 5432))
    assert dict(client.always)["network.peer.address"] == "10.0.0.2"
    assert server.unless_addressed == (("server.address", "10.0.0.1"), ("server.port", 40_000))


def test_what_servers_said_and_what_nobody_answered_teaches_nothing() -> None:
    names = names_of()
    refused = bytearray(answer("10.0.0.2"))
    refused[3] |= 5
    hear(
        names,
        Said(QUERY, answer("10.0.0.2"), conn=1, flags=Flag.SERVER),
        Said(QUERY, b"", conn=2, flags=Flag.UNANSWERED),
        Said(QUERY, bytes(refused), conn=3, flags=Flag(0)),
        Said(QUERY, answer()[:40], conn=4, flags=Flag(0)),
    )
    assert len(names) == 0


def test_connections_of_equal_addresses_have_different_names_if_their_clients_asked_differently() -> None:
    names = names_of()
    names.learn(SHOP, "db.test", "10.0.0.2", seconds=60, at=NOW)
    names.learn(CART, "cache.test", "10.0.0.2", seconds=60, at=NOW)
    known = connections(9)
    table = announcements(1, 2, 3, port=40_000, remote_port=5432, t_open=NOW + 1)
    table["tgid"] = SHOP, CART, SHOP
    known.update(table, NOW)
    endpoints = Endpoints(known, names=names)
    found = endpoints.ids(known.rows(np.array([1, 2, 3], np.uint64), NOW), np.full(3, Kind.CLIENT, np.uint8))
    told = [dict(endpoints.table[number].unless_addressed)["server.address"] for number in found.tolist()]
    assert told == ["db.test", "cache.test", "db.test"]
    assert found[0] == found[2]


def test_a_connection_from_before_the_agent_has_no_name() -> None:
    names = names_of()
    names.learn(SHOP, "db.test", "10.0.0.2", seconds=60, at=NOW)
    midstream = 1 << 2
    assert dict(client_of(names, flags=midstream)[0].unless_addressed)["server.address"] == "10.0.0.2"


# ---- aliases ----


def test_an_alias_is_the_peers_service_name_at_both_ends() -> None:
    aliases = Aliases([PeerAlias("db.test", "orders"), PeerAlias("10.0.0.0/8", "internal")])
    names = names_of()
    assert dict(client_of(names, aliases)[0].always)["service.peer.name"] == "internal"
    names.learn(SHOP, "db.test", "10.0.0.2", seconds=60, at=NOW)
    client, server = client_of(names, aliases)
    assert dict(client.always)["service.peer.name"] == "orders"
    assert dict(server.always)["service.peer.name"] == "internal"


@pytest.mark.parametrize(
    ("pattern", "host", "port", "fits"),
    [
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.1.2.3", "10.1.2.3", 0, True),
        ("10.1.2.3:80", "10.1.2.3", 80, True),
        ("10.1.2.3:80", "10.1.2.3", 81, False),
        ("10.0.0.0/8:80", "10.1.2.3", 80, True),
        ("fd00::/8", "fd12::1", 443, True),
        ("[fd00::/8]:443", "fd12::1", 443, True),
        ("[fd00::/8]:443", "fd12::1", 80, False),
        ("::1", "::1", 80, True),
        ("0.0.0.0/0", "::1", 80, False),
        ("*.stripe.com", "API.Stripe.com", 443, True),
        ("*.stripe.com:443", "api.stripe.com", 80, False),
        ("*.stripe.com", "stripe.com", 443, False),
        ("db-?", "db-1", 5432, True),
        ("*:5432", "10.1.2.3", 5432, True),
    ],
)
def test_a_pattern_fits(pattern: str, host: str, port: int, fits: bool) -> None:
    assert pattern_of(pattern).fits(host, port) == fits


@pytest.mark.parametrize(
    "text", ["", "a b", "db:", "db:0", "db:65536", "db:x", "http://db", "10.0.0.0/8:http", "10/33"]
)
def test_what_is_no_pattern_is_refused_in_one_line_that_names_the_key(text: str) -> None:
    rule = f'[{{address: "{text}", name: billing}}]'
    with pytest.raises(ConfigError, match=r"peers\.aliases.*\[0\].*address") as refused:
        load(env={"OTEL_EBPF_PEERS_ALIASES": rule})
    assert "\n" not in str(refused.value)


def test_aliases_are_read_and_need_a_name() -> None:
    config = load(env={"OTEL_EBPF_PEERS_ALIASES": '[{address: "10.0.0.0/8", name: billing}]'})
    assert config.peers.aliases == (PeerAlias("10.0.0.0/8", "billing"),)
    with pytest.raises(ConfigError, match="name: is missing"):
        load(env={"OTEL_EBPF_PEERS_ALIASES": '[{address: "10.0.0.0/8"}]'})


@given(st.text(max_size=40), st.text(max_size=40), st.integers(0, 65535))
def test_no_text_breaks_a_pattern(text: str, host: str, port: int) -> None:
    try:
        pattern = pattern_of(text)
    except ValueError:
        return
    assert pattern.fits(host, port) in (True, False)
