"""Contexts in requests from outside count only if their sender is trusted."""

from __future__ import annotations

import ipaddress
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.config import Config
from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Flag, Kind, Link, Spans
from otel_ebpf.tracing.trust import Trust, is_private

CONNECTION = Btf.of_object(object_path("requests")).dtype("connection")
PRIVATE = [ipaddress.ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8")]
PRIVATE += [ipaddress.ip_network(n) for n in ("169.254.0.0/16", "fc00::/7", "fe80::/10", "::1/128")]


def packed(address: str) -> bytes:
    found = ipaddress.ip_address(address)
    return ipaddress.ip_address(f"::ffff:{address}").packed if found.version == 4 else found.packed


def requests(*peers: str, kind: Kind = Kind.SERVER, flags: int = 0) -> tuple[Spans, np.ndarray[tuple[int], np.dtype]]:
    """One request with a context from each peer; "": a unix socket's."""
    spans, ends = Spans.empty(len(peers)), np.zeros(len(peers), CONNECTION)
    spans.kind[:], spans.remote_link[:], spans.flags[:] = kind, Link.B3, flags
    spans.conn = spans.pair = np.arange(1, len(peers) + 1, dtype=np.uint64)
    for i, peer in enumerate(peers):
        ends["family"][i] = socket.AF_INET6 if peer else socket.AF_UNIX
        if peer:
            ends["remote"][i] = np.frombuffer(packed(peer), np.uint8)
    return spans, ends


def believed(trust: Trust, *peers: str, kind: Kind = Kind.SERVER, flags: int = 0) -> list[bool]:
    spans, ends = requests(*peers, kind=kind, flags=flags)
    trust.apply(spans, ends, np.arange(len(peers), dtype=np.int32))
    return [link != Link.NONE for link in spans.remote_link.tolist()]


PEERS = ("10.1.2.3", "8.8.8.8", "", "fd00::1", "2001:db8::1")


@pytest.mark.parametrize(
    ("name", "expected", "refused"),
    [
        ("all", [True] * 5, 0),
        ("private", [True, False, True, True, False], 2),
        ("none", [False, False, True, False, False], 4),
    ],
)
def test_who_is_believed(name: str, expected: list[bool], refused: int) -> None:
    trust = Trust(name)
    assert believed(trust, *PEERS) == expected
    assert trust.refused == refused


def test_within_the_host_and_of_ones_own_calls_every_context_is_believed() -> None:
    assert believed(Trust("none"), "8.8.8.8", flags=Flag.PEER) == [True]
    assert believed(Trust("none"), "8.8.8.8", kind=Kind.CLIENT) == [True]


def test_the_default_believes_all() -> None:
    assert Config().traces.trust_incoming == "all"


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), st.sampled_from([n[0] for n in PRIVATE])))
def test_private_addresses_are_those_of_their_rfcs(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    raw = np.frombuffer(packed(str(address)), np.uint8)[None]
    mapped = address.version == 6 and address.ipv4_mapped
    plain = mapped or address
    assert bool(is_private(raw)[0]) == any(plain in network for network in PRIVATE if network.version == plain.version)
