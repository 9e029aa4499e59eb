"""The agent and the viewer that it started: neither they nor who talks to them in that are observed."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import numpy as np

from otel_ebpf.resource.filters import Filter

HERE = Path("/proc/self/ns/net").stat().st_ino
END = np.dtype([("local", "u1", 16), ("remote", "u1", 16), ("remote_port", "u2"), ("netns", "u4")])


def end(local: str, remote: str, port: int, netns: int = HERE) -> tuple[bytes, bytes, int, int]:
    """What the kernel side says of a client's end; IPv4 addresses are mapped (RFC 4291 §2.5.5.2)."""
    mapped = [ipaddress.ip_address(f"::ffff:{text}" if "." in text else text).packed for text in (local, remote)]
    return (mapped[0], mapped[1], port, netns)


def test_processes_of_our_own_are_left_out() -> None:
    ours = Filter(own=10)
    tgids = np.array([10, 11, 12], np.uint32)
    assert ours.others(tgids).tolist() == [False, True, True]
    ours.leave_out(12, {8890})
    assert ours.others(tgids).tolist() == [False, True, False]


def test_who_calls_us_from_this_host_is_left_out_and_who_calls_the_same_port_elsewhere_is_not() -> None:
    ours = Filter(own=10)
    assert not ours.has_ports
    ours.leave_out(12, {8890, 4318})
    ends = {
        end("127.0.0.1", "127.0.0.1", 8890): True,
        end("::1", "::1", 4318): True,
        end("10.0.0.7", "10.0.0.7", 8890): True,  # by the host's own address
        end("127.0.0.1", "127.0.0.1", 8891): False,
        end("127.0.0.1", "127.0.0.1", 8890, netns=7): False,  # a container's own loopback
        end("10.0.0.7", "10.0.0.8", 8890): False,
    }
    table = np.zeros(len(ends), END)
    for at, (local, remote, port, netns) in enumerate(ends):
        table[at] = (np.frombuffer(local, np.uint8), np.frombuffer(remote, np.uint8), port, netns)
    rows = np.arange(len(ends), dtype=np.int32)
    assert ours.has_ports
    assert ours.reaching(table, rows).tolist() == list(ends.values())
    assert ours.reaching(table, rows[:0]).tolist() == []
