"""Exchanges with other hosts: both ends make the same key, and the server's end a trace id that follows from it."""

from __future__ import annotations

import numpy as np

from otel_ebpf.model import Flag, Kind, Spans
from otel_ebpf.tracing.assemble import Assembler
from otel_ebpf.tracing.ids import traces_of
from tests.unit.tracing_world import MS, Row, spans

CONNECTION_KEY = 0x1234567890ABCDEF


def _row(kind: Kind, span_id: int, conn: int, **more: int) -> Row:
    row = Row(span_id=span_id, conn=conn, pair=conn, seq=77, kind=kind, tgid=conn, start=MS, end=9 * MS, shape=0)
    row.update(more)  # type: ignore[typeddict-item]
    return row


def _decided(*rows: Row, keys: tuple[int, ...]) -> Spans:
    """What an agent says of these rows, in their order."""
    batch = spans(rows)
    batch.key[:] = keys
    assembler = Assembler()
    decided = Spans.concat([assembler.feed(batch, 10 * MS), assembler.flush()])
    return decided.take(np.argsort(decided.span_id))


def test_two_agents_that_do_not_know_each_other_name_an_exchange_alike() -> None:
    client = _decided(_row(Kind.CLIENT, 1, conn=4), keys=(CONNECTION_KEY,))
    server = _decided(_row(Kind.SERVER, 2, conn=9), keys=(CONNECTION_KEY,))
    assert client.key[0] == server.key[0] != 0
    assert (server.trace[0] == traces_of(server.key)[0]).all()
    assert (client.trace[0] != server.trace[0]).any()


def test_every_request_of_a_connection_has_a_key_and_a_trace_of_its_own() -> None:
    rows = [_row(Kind.SERVER, i + 1, conn=9, seq=77 + i, start=i * MS) for i in range(3)]
    found = _decided(*rows, keys=(CONNECTION_KEY,) * 3)
    assert len(set(found.key.tolist())) == 3
    assert len({tuple(trace) for trace in found.trace.tolist()}) == 3


def test_what_is_on_one_host_needs_no_key() -> None:
    client = _row(Kind.CLIENT, 1, conn=4, pair=4, flags=Flag.PEER)
    server = _row(Kind.SERVER, 2, conn=9, pair=4, flags=Flag.PEER | Flag.SERVER)
    found = _decided(client, server, keys=(CONNECTION_KEY, CONNECTION_KEY))
    assert found.parent.tolist() == [0, 1]
    assert not found.key.any()


def test_what_the_kernel_could_not_tell_is_no_key() -> None:
    found = _decided(_row(Kind.SERVER, 1, conn=4), _row(Kind.SERVER, 2, conn=9, seq=0), keys=(0, CONNECTION_KEY))
    assert not found.key.any()
    assert (found.trace != 0).any(axis=1).all()


def test_a_request_that_bears_a_context_stays_in_its_trace() -> None:
    row = _row(Kind.SERVER, 1, conn=4, remote_link=1, remote_parent=5)
    row["remote_trace"] = (6, 7)
    found = _decided(row, keys=(CONNECTION_KEY,))
    assert found.trace.tolist() == [[6, 7]]
    assert found.key[0] != 0
