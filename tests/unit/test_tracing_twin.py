"""The vectorised rules against plain Python: rows of threads, sockets and times at random, truthful or not."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_ebpf.model import Flag, Kind, Spans
from otel_ebpf.tracing.assemble import Assembler
from otel_ebpf.tracing.ids import derive, splitmix64
from otel_ebpf.tracing.join import match
from otel_ebpf.tracing.memory import Memory, Released
from otel_ebpf.tracing.pool import Pool
from tests.unit.tracing_world import MS, Decided, Host, Row, spans

TICKS = st.integers(1, 12)


@st.composite
def exchanges(draw: st.DrawFn) -> list[Row]:
    """Requests and calls of a process with three threads, on a clock of twelve ticks, most of it impossible."""
    host = Host()
    process = host.process()
    threads = [process.thread(n) for n in range(3)]
    who = st.sampled_from(threads)
    rows: list[Row] = []
    for _ in range(draw(st.integers(0, 5))):
        start, first, end = sorted(draw(st.tuples(TICKS, TICKS, TICKS)))
        row = host.request(draw(who), 10 * start, 10 * end, writer=draw(who))
        rows.append(row | {"first_byte": 10 * first * MS})
    requests = list(rows)
    for _ in range(draw(st.integers(0, 5))):
        start, end = sorted(draw(st.tuples(TICKS, TICKS)))
        cause = draw(st.sampled_from([None, *requests]))
        flags = draw(st.sampled_from([Flag(0), Flag(0), Flag.DISTURBED, Flag.MANY]))
        thread = draw(who)
        rows.append(host.call(thread, 10 * start + 1, 10 * end + 2, cause=cause, flags=flags))
    return rows


def twin(call: Row, rows: list[Row]) -> int:
    """The rules as they are written down: span id of the call's request, 0 if undecided."""
    requests = [row for row in rows if row["kind"] == Kind.SERVER]
    thread = call["tid_req"]

    def within(request: Row) -> bool:
        before = call["end"] <= request["first_byte"]
        during = call["start"] >= request["first_byte"] and call["end"] <= request["end"]
        return request["start"] <= call["start"] and (before or during)

    answers = set()
    written = sorted((r for r in requests if r["tid_rsp"] == thread), key=lambda r: r["end"])
    later = [r for r in written if r["end"] >= call["end"]]
    awake = call["flags"] & int(Flag.DISTURBED | Flag.MANY | Flag.EPOLL | Flag.UNANSWERED)
    if later and not awake:
        request = later[0]
        before = max((r["end"] for r in written if r["end"] < call["end"]), default=0)
        if request["tid_req"] == thread:
            allowed = call["cause"] == request["span_id"]
        else:
            allowed = call["cause"] == 0 and request["start"] >= before
        alone = before <= call["start"] and before <= request["first_byte"]
        if allowed and alone and within(request):
            answers.add(request["span_id"])
    for request in requests:
        own = request["tid_req"] == request["tid_rsp"] == thread
        if call["cause"] == request["span_id"] and own and within(request):
            answers.add(request["span_id"])
    return answers.pop() if len(answers) == 1 else 0


@settings(max_examples=400)
@given(rows=exchanges(), order=st.randoms(use_true_random=False))
def test_the_rules_say_what_is_written_down(rows: list[Row], order: object) -> None:
    ends = [row["end"] for row in rows if row["kind"] == Kind.SERVER]
    if len(set(ends)) != len(ends):
        return  # which of two responses that ended in the same nanosecond came first, nobody knows
    shuffled = list(rows)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assembler = Assembler(random=np.random.default_rng(1).bytes)
    batches = [assembler.feed(spans(shuffled), 130 * MS)]
    batches += [assembler.feed(Spans.empty(), now * MS) for now in range(200, 3000, 100)]
    decided = Decided([*batches, assembler.flush()])
    for row in rows:
        if row["kind"] == Kind.CLIENT:
            assert decided.parent(row) == twin(row, rows)


@st.composite
def connections(draw: st.DrawFn) -> list[Row]:
    """Rows of both kinds on few connections, with few sequence numbers, at few times."""
    rows: list[Row] = []
    for number in range(draw(st.integers(0, 12))):
        start, end = sorted(draw(st.tuples(TICKS, TICKS)))
        rows.append(
            {
                "span_id": number + 1,
                "kind": draw(st.sampled_from([Kind.CLIENT, Kind.SERVER])),
                "pair": draw(st.integers(1, 2)),
                "seq": draw(st.sampled_from([0, 0, 7, 8])),
                "start": start,
                "end": end,
                "first_byte": draw(st.sampled_from([0, end])),
            }
        )
    return rows


def match_twin(rows: list[Row]) -> set[tuple[int, int]]:
    """(client, server) span ids: alone with their (pair, seq), or the only server whose middle lies in the client.

    A server that never answered is not the other end of a client that was answered.
    """
    clients = [r for r in rows if r["kind"] == Kind.CLIENT]
    servers = [r for r in rows if r["kind"] == Kind.SERVER]
    found = set()
    for client in clients:
        same = [r for r in rows if (r["pair"], r["seq"]) == (client["pair"], client["seq"]) and client["seq"]]
        if len(same) == 2:
            found |= {(client["span_id"], r["span_id"]) for r in same if r["kind"] == Kind.SERVER}
    nested: dict[int, list[int]] = {}
    for server in (r for r in servers if not r["seq"]):
        until = server["first_byte"] or server["end"]
        middle = server["start"] + (max(until, server["start"]) - server["start"]) // 2
        before = [c for c in clients if not c["seq"] and c["pair"] == server["pair"] and c["start"] <= middle]
        if before:
            latest = max(before, key=lambda c: (c["start"], c["span_id"]))
            if middle <= latest["end"] and (server["first_byte"] or not latest["first_byte"]):
                nested.setdefault(latest["span_id"], []).append(server["span_id"])
    return found | {(client, only[0]) for client, only in nested.items() if len(only) == 1}


@settings(max_examples=400)
@given(rows=connections())
def test_ends_are_matched_as_written_down(rows: list[Row]) -> None:
    batch = spans(rows)
    clients, servers = match(batch, np.arange(len(batch)))
    assert set(zip(batch.span_id[clients].tolist(), batch.span_id[servers].tolist(), strict=True)) == match_twin(rows)


# The parts that carry rows


def released(ids: list[int]) -> Released:
    rows = Released.empty()
    n = len(ids)
    columns = {
        name: np.zeros((n, *getattr(rows, name).shape[1:]), getattr(rows, name).dtype) for name in rows.__slots__
    }
    return Released(**columns | {"span_id": np.array(ids, np.uint64), "end": np.array(ids, np.uint64) * np.uint64(2)})


@given(
    batches=st.lists(st.lists(st.integers(1, 60), max_size=8, unique=True), max_size=12),
    asked=st.sets(st.integers(1, 60)),
)
def test_memory_finds_the_last_rows_it_was_given(batches: list[list[int]], asked: set[int]) -> None:
    memory = Memory(limit=32)
    for now, ids in enumerate(batches):
        memory.file(released(ids), now)
        memory.find("span_id", np.array([1], np.uint64))
    assert len(memory) <= 32
    kept = {i for ids in batches[-3:] for i in ids}
    which, rows = memory.find("span_id", np.array(sorted(asked), np.uint64))
    found = {sorted(asked)[i] for i in which.tolist()}
    assert found >= (asked & kept) and found <= {i for ids in batches for i in ids}
    assert (rows.end == rows.span_id * np.uint64(2)).all()


def test_memory_forgets_in_time() -> None:
    memory = Memory(keep_ns=100)
    memory.file(released([1]), 0)
    memory.file(released([2]), 101)
    assert len(memory) == 1


@settings(max_examples=60)
@given(steps=st.lists(st.tuples(st.integers(0, 4000), st.floats(0, 1)), max_size=12), seed=st.integers(0, 2**32))
def test_rows_and_texts_survive_the_ring(steps: list[tuple[int, float]], seed: int) -> None:
    """Rows go in and out in any order; those that stay keep their columns, their texts and their mates."""
    random = np.random.default_rng(seed)
    pool = Pool()
    inside: set[int] = set()
    mates: dict[int, int] = {}
    last = 0
    for n, leaving in steps:
        rows = Spans.empty(n)
        rows.span_id = np.arange(last + 1, last + n + 1, dtype=np.uint64)
        numbers = [b"%d" % i for i in rows.span_id.tolist()]
        rows.slot_length[:, 1] = [len(number) for number in numbers]
        rows.slot_start[:, 1] = np.cumsum(rows.slot_length[:, 1]) - rows.slot_length[:, 1]
        rows.text = np.frombuffer(b"".join(numbers), np.uint8)
        last += n
        pool.make_room(n)
        new = pool.append(rows)
        pool.mate[new] = new[::-1]
        mates |= dict(zip(rows.span_id.tolist(), rows.span_id[::-1].tolist(), strict=True))
        inside |= set(rows.span_id.tolist())
        live = np.flatnonzero(pool.state)
        go = live[random.random(len(live)) < leaving]
        batch = pool.copy_of(go)
        for i in range(0, len(go), 97):
            begin, length = batch.slot_start[i, 1], batch.slot_length[i, 1]
            assert batch.text[begin : begin + length].tobytes() == b"%d" % batch.span_id[i]
        pool.discard(go)
        inside -= set(batch.span_id.tolist())
    live = np.flatnonzero(pool.state)
    assert set(pool.spans.span_id[live].tolist()) == inside and len(pool) == len(inside)
    for row in live.tolist():
        mate = mates[int(pool.spans.span_id[row])]
        # What a mate that has left is worth, nobody asks: its row may be another's by now.
        assert mate not in inside or pool.spans.span_id[pool.mate[row]] == mate


def test_derived_ids_are_distinct_and_never_zero() -> None:
    ids = np.arange(1, 2000, dtype=np.uint64)
    derived = np.concatenate([derive(ids, np.full(len(ids), k)) for k in range(5)])
    assert len(np.unique(derived)) == len(derived) and (derived != 0).all()
    # the span id whose second part would be 0: any other id takes its place
    fixed = splitmix64(np.array([1], np.uint64)) ^ np.uint64(2**64 - 0x9E3779B97F4A7C15)
    assert derive(fixed, np.array([1]))[0] != 0
