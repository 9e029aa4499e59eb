"""What real clients and servers said to each other: tests/tools/record_*.py wrote the files in tests/unit/data."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from otel_ebpf.protocols.base import Options, Protocol, Reading, Session

DATA = Path(__file__).parent / "data"


@dataclass(slots=True)
class Conversation:
    """One connection: who it was, and its (request, response) pairs as capture would hand them over."""

    name: str
    exchanges: list[tuple[bytes, bytes]] = field(default_factory=list)


def conversations(protocol: str) -> list[Conversation]:
    """All recorded connections of "http", "mysql", "postgresql" or "redis"."""
    found: list[Conversation] = []
    for line in (DATA / f"{protocol}.txt").read_text().splitlines():
        mark, rest = line[0], line[2:].rstrip("…")
        if mark == "#":
            found.append(Conversation(rest))
            continue
        data, exchanges = ast.literal_eval(rest), found[-1].exchanges
        if mark == ">":
            exchanges.append((data, b""))
        elif exchanges and not exchanges[-1][1]:
            exchanges[-1] = (exchanges[-1][0], data)
        else:
            exchanges.append((b"", data))  # the server speaks first
    return found


def lookups() -> dict[str, tuple[bytes, bytes]]:
    """Recorded DNS: name → (request, response)."""
    found = {}
    for block in (DATA / "dns.txt").read_text().strip().split("\n\n"):
        title, *lines = block.split("\n")
        sides = {mark: b"".join(bytes.fromhex(line[2:]) for line in lines if line[0] == mark) for mark in "><"}
        found[title[2:].partition(":")[0]] = sides[">"], sides["<"]
    return found


def talks(protocol: str) -> list[list[tuple[bytes, bytes]]]:
    """The exchanges of each recorded connection of any protocol that we know; a DNS lookup is one by itself."""
    if protocol == "dns":
        return [[exchange] for exchange in lookups().values()]
    return [conversation.exchanges for conversation in conversations(protocol)]


def readings(module: Protocol, protocol: str, name: str, options: Options | None = None, nth: int = 0) -> list[Reading]:
    """What `module` reads from the nth connection recorded under `name`."""
    conversation = [one for one in conversations(protocol) if one.name == name][nth]
    session = Session()
    return [
        reading
        for request, response in conversation.exchanges
        for reading in module.parse(request, response, session, options or Options())
    ]


def exchanges(protocol: str) -> Iterator[tuple[bytes, bytes]]:
    """Every recorded (request, response) of all connections."""
    for conversation in conversations(protocol):
        yield from conversation.exchanges


def attributes(reading: Reading) -> dict[str, object]:
    """The client's attributes, and the texts of its slots."""
    side = reading.fields.client
    return {**dict(side.attributes), **{slot.attribute: reading.texts[slot.index] for slot in side.slots}}
