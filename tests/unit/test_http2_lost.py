"""Streams of HTTP/2 of which something is missing, that never end, or that are none: what is told, and its bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.model import Exchanges, Flag, Intern
from otel_ebpf.protocols.base import Fields, Options
from otel_ebpf.protocols.engine import Engine
from otel_ebpf.protocols.http2 import streams as streams_module
from otel_ebpf.protocols.http2.frames import BEGINS, CUT, ENDS, HEADERS, REQUEST
from tests.unit.exchanges import NOW, connections
from tests.unit.http2_talk import CALL, GET, GRPC_OK, OK, POST, TRACEPARENT, Talk, seen, streams, told
from tests.unit.http2_wire import Wire

# What is lost


def test_records_that_come_by_another_ring_a_little_later_are_waited_for() -> None:
    # given a response's body, whose ring was read before the ring of heads had all of them
    talk = Talk()
    stream = talk.ask()
    talk.answer(stream, OK, b"body")
    bodies, heads = talk.wire.frames()
    all_of_it = streams()
    assert not all_of_it.read([bodies], talk.now)
    assert all_of_it.pending
    # when the next read has them
    [exchanges] = all_of_it.read([heads], talk.now)
    # then nothing was lost
    assert exchanges.head["t_rsp_end"][0] == talk.now + 10
    assert not all_of_it.pending and not any(all_of_it.losses.values())


def test_an_answer_that_another_thread_received_before_the_call_of_the_sender_ended_is_its_answer() -> None:
    talk = Talk(Wire(server=False))
    stream = talk.ask(POST)
    request = talk.wire.records.pop()
    talk.answer(stream, [(":status", "201")], b"body")
    answer = talk.wire.records
    for row, _ in answer:
        row["t_end"] = talk.now
    request[0]["t_end"] = talk.now + 1
    talk.wire.records = [*answer, request]
    [one] = seen(talk)
    assert one.server["http.response.status_code"] == 201
    assert one.head["t_rsp_end"] == talk.now


def test_a_record_that_is_lost_of_requests_leaves_the_responses_known() -> None:
    talk = Talk()
    known = [(":status", "203"), ("x-new", "1")]
    first, second = talk.ask(), talk.ask()
    talk.wire.n[True] += 1
    third = talk.ask()
    for stream in (first, second, third):
        talk.answer(stream, known)
    all_of_it = streams()
    frames = talk.wire.frames()
    found = told([*all_of_it.read(frames, talk.now), *all_of_it.read([], talk.now)])
    assert [one.client["http.response.status_code"] for one in found] == [203] * len(found)
    assert {int(one.head["n"]) for one in found} >= {first, second}
    assert all_of_it.losses["frames_missing"] == 1


def test_behind_a_lost_record_what_is_not_known_is_left_out() -> None:
    # given a connection of which one request's head is lost
    talk = Talk()
    for path in ("/a", "/b", "/b", "/c"):
        talk.answer(talk.ask([*GET[:2], (":path", path), GET[3]]))
    [frames] = talk.wire.frames()
    kept = (frames.head["n"] != 1) | ((frames.head["bits"] & REQUEST) == 0)
    frames.head, frames.block = frames.head[kept], frames.block[kept]
    all_of_it = streams()
    first = told(all_of_it.read([frames], talk.now))
    rest = told(all_of_it.read([], talk.now))
    # then it is counted, and the others are told without what refers to it
    assert [one.server.get("url.path") for one in first] == ["/a"]
    assert [one.server.get("url.path") for one in rest] == [None, "/c"]
    assert [one.server["http.response.status_code"] for one in rest] == [200, 200]
    assert all_of_it.losses["frames_missing"] == 1


def test_who_comes_in_the_middle_tells_what_can_be_known() -> None:
    talk = Talk(Wire(flags=int(Flag.MIDSTREAM)))
    headers = [*CALL, ("traceparent", TRACEPARENT)]
    open_before = talk.ask(headers)
    talk.wire.records.clear()
    talk.wire.n = {True: 0, False: 0}
    talk.answer(open_before, [*GRPC_OK, ("grpc-status", "0")])
    for path in ("/shop.Cart/Add", "/shop.Cart/New", "/shop.Cart/New"):
        asked = [(name, path if name == ":path" else value) for name, value in headers]
        talk.answer(talk.ask(asked), [*GRPC_OK, ("grpc-status", "0")])
    all_of_it = streams()
    found = told(all_of_it.read(talk.wire.frames(), talk.now))
    # what was under way when we came is not told; what was said before is not known
    assert [one.head["n"] for one in found] == [3, 5, 7]
    assert [one.server.get("rpc.method") for one in found] == [None, "shop.Cart/New", "shop.Cart/New"]
    assert [one.server.get("rpc.status_code") for one in found] == ["OK"] * 3  # that the answers are of gRPC, they say
    assert all("server.address" not in one.server for one in found)
    assert not any(all_of_it.losses.values())


def test_a_stream_whose_answer_may_have_been_lost_is_not_called_unanswered() -> None:
    talk = Talk()
    talk.ask()
    talk.wire.n[False] += 1  # a record was lost
    talk.wire.close(talk.now + 1)
    all_of_it = streams()
    assert not all_of_it.read(talk.wire.frames(), talk.now)
    assert not all_of_it.read([], talk.now)
    assert all_of_it.losses["stream_not_followed"] == 1
    assert not len(all_of_it)


def test_what_was_asked_behind_a_gap_is_unanswered_only_if_answers_still_come() -> None:
    for answered in (False, True):
        talk = Talk()
        other = talk.ask()
        talk.wire.n[False] += 1
        talk.ask()
        if answered:
            talk.answer(other)
            talk.ask()
        talk.wire.close(talk.now + 1)
        all_of_it = streams()
        frames = talk.wire.frames()
        found = told([*all_of_it.read(frames, talk.now), *all_of_it.read([], talk.now)])
        assert [int(one.head["n"]) for one in found] == ([1, 5] if answered else [])
        assert all_of_it.losses["stream_not_followed"] == (1 if answered else 2)


def test_a_direction_that_cannot_be_followed_ends_what_can_be_told() -> None:
    talk = Talk()
    talk.ask()
    talk.wire.lose_sync(talk.now, request=False)
    talk.ask()
    all_of_it = streams()
    assert not all_of_it.read(talk.wire.frames(), talk.now)
    assert (len(all_of_it), all_of_it.losses["stream_not_followed"]) == (0, 2)


def test_of_a_block_that_is_cut_the_beginning_is_known() -> None:
    talk = Talk()
    talk.answer(talk.ask([*GET, ("x-filler", "x" * 500), ("traceparent", TRACEPARENT)]))
    frames = talk.wire.frames()
    large = frames[1] if frames[1].block.shape[1] == 1024 else frames[0]
    large.head["cap"], large.block[:, 60:] = 60, 0
    large.head["bits"] = int(large.head["bits"][0]) & ~ENDS | CUT
    [one] = told(streams().read(frames, talk.now))
    assert one.server["url.path"] == "/cart"
    assert one.spans.remote_parent[0] == 0
    assert one.head["flags"] & Flag.REQUEST_CUT


def test_a_request_without_a_method_is_counted() -> None:
    talk = Talk(validates=False)
    talk.answer(talk.ask(GET[1:]))
    all_of_it = streams()
    assert not all_of_it.read(talk.wire.frames(), talk.now)
    assert all_of_it.losses["no_method"] == 1


def test_no_field_brings_another_one_with_it() -> None:
    talk = Talk(validates=False)
    hostile = f"x\r\ntraceparent: {TRACEPARENT}"
    headers = [*GET[:2], (":path", f"/a {hostile}"), (":authority", hostile), ("user-agent", hostile)]
    talk.answer(talk.ask(headers))
    [one] = seen(talk)
    assert "url.path" not in one.server and "user_agent.original" not in one.server
    assert one.spans.remote_parent[0] == 0


# Bounds


def test_only_so_many_streams_of_a_connection_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "STREAMS_OF_ONE", 10)
    talk = Talk()
    opened = [talk.ask() for _ in range(15)]
    all_of_it = streams()
    all_of_it.read(talk.wire.frames(), talk.now)
    assert (len(all_of_it), all_of_it.losses["too_many_streams"]) == (10, 5)
    for stream in opened:
        talk.answer(stream)
    assert [one.head["n"] for one in told(all_of_it.read(talk.wire.frames(), talk.now))] == opened[5:]


@pytest.mark.parametrize(("bound", "most"), [("CONNECTIONS", 5), ("STREAMS", 5), ("TABLES", 500)])
def test_connections_that_were_silent_for_longest_make_room(
    monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(streams_module, bound, most)
    all_of_it = streams()
    talks = [Talk(Wire(conn=conn)) for conn in range(1, 11)]
    for talk in talks:
        talk.ask()
        all_of_it.read(talk.wire.frames(), talk.now)
    assert len(all_of_it) <= 5
    assert all_of_it.losses["too_many_connections"] == all_of_it.losses["too_many_streams"] == 10 - len(all_of_it)
    # the newest is still known
    talks[-1].answer(1)
    [exchanges] = all_of_it.read(talks[-1].wire.frames(), talk.now)
    assert exchanges.head["conn"][0] == 10


def test_header_blocks_that_never_end_count_as_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "TABLES", 5000)
    all_of_it = streams()
    for conn in range(1, 11):
        wire = Wire(conn=conn)
        wire.record(HEADERS, 1, NOW, b"x" * 1000, REQUEST | BEGINS)
        all_of_it.read(wire.frames(), NOW)
    assert all_of_it.losses["too_many_connections"] == 5


def test_what_is_open_at_servers_is_told_by_process() -> None:
    all_of_it = streams()
    old, new, client = Talk(Wire(conn=1, tgid=1)), Talk(Wire(conn=2, tgid=1)), Talk(Wire(conn=3, server=False, tgid=2))
    new.now += 4 * 10**9
    for talk in (old, new, client):
        talk.ask()
        all_of_it.read(talk.wire.frames(), talk.now)
    none = (np.zeros(0, np.uint32), None)
    pids, since = all_of_it.open_since(none, new.now)
    assert pids.tolist() == [1]
    assert since is not None and since["t"].tolist() == [old.now] and since["recent"].tolist() == [new.now]
    # what the kernel says of other requests counts as well
    known = np.array([(old.now - 5, 2**64 - 1), (7, 7)], since.dtype)
    pids, since = all_of_it.open_since((np.array([1, 9], np.uint32), known), new.now)
    assert since is not None
    assert dict(zip(pids.tolist(), since["t"].tolist(), strict=True)) == {1: old.now - 5, 9: 7}
    for talk in (old, new):
        talk.answer(1)
        all_of_it.read(talk.wire.frames(), talk.now)
    assert all_of_it.open_since(none, new.now) == none


def test_what_is_being_answered_at_the_end_is_told() -> None:
    talk = Talk()
    first = talk.ask(CALL)
    talk.ask(CALL)
    talk.answer(first, GRPC_OK, b"some", end=False)
    all_of_it = streams()
    assert not all_of_it.read(talk.wire.frames(), talk.now)
    [one] = told(all_of_it.finish())
    assert "error.type" not in one.client and "rpc.status_code" not in one.client
    assert one.client["rpc.method"] == "shop.Cart/Add"


records = st.tuples(
    st.integers(0, 6),
    st.integers(0, 9),
    st.integers(0, 31),
    st.binary(max_size=40)
    | st.sampled_from([bytes.fromhex("828684410161"), bytes.fromhex("88"), bytes.fromhex("838684be")]),
    st.integers(0, 3),
)


@given(st.lists(st.lists(records, max_size=12), max_size=4))
def test_no_records_raise(reads: list[list[tuple[int, int, int, bytes, int]]]) -> None:
    wire = Wire()
    all_of_it = streams()
    batches: list[Exchanges] = []
    for said in reads:
        for kind, stream, bits, block, skip in said:
            wire.record(kind, stream, NOW, block, bits, bytes=len(block))
            wire.n[bool(bits & REQUEST)] += skip == 3
        batches += all_of_it.read(wire.frames(), NOW)
    batches += all_of_it.finish()
    shapes = Intern[Fields](1000)
    Engine(connections(1), shapes, Options()).parse_batches(batches, NOW)
    assert len(all_of_it) == 0


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=20))
def test_no_bytes_raise(said: list[tuple[bool, bytes]]) -> None:
    wire = Wire()
    all_of_it = streams()
    for by_client, data in said:
        (wire.sent_by_client if by_client else wire.sent_by_server)(data, NOW)
    all_of_it.read(wire.frames(), NOW)
    all_of_it.finish()
