"""What a batch of spans needs to be read by people: the interned tables behind its ids, and who takes such batches."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from otel_ebpf.model import Endpoint, Intern, Kind, Resource, Spans
from otel_ebpf.protocols.base import Fields, Side

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Tables:
    """offset_ns: what turns the batch's CLOCK_MONOTONIC times into Unix time."""

    shapes: Intern[Fields]
    endpoints: Intern[Endpoint]
    resources: Intern[Resource]
    offset_ns: int


class Sink(Protocol):
    """Where decided batches go beside the exporters.

    `show` is called in every turn of the agent's loop, also with an empty batch, so that a live view stays alive. It
    never blocks: what a slow reader does not take is dropped and counted. It raises BrokenPipeError when the reader has
    gone. `close` writes what is still waiting, within a second, and gives the terminal back.
    """

    @property
    def dropped(self) -> int:
        """Exchanges that a slow reader did not take."""

    def show(self, spans: Spans, tables: Tables) -> None:
        """Take one batch."""

    def close(self) -> None:
        """The last batch has been shown."""


def known(table: Intern[T], number: int) -> T | None:
    """The item; None for a negative id, and for one that the table has forgotten."""
    if number < 0:
        return None
    try:
        return table[number]
    except KeyError:
        return None


def side_of(fields: Fields, kind: int) -> Side:
    """The end of the exchange that a span of this kind reports."""
    return fields.client if kind == Kind.CLIENT else fields.server
