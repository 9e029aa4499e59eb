"""Whole traces: joined on one host, held until known, released in time, bounded."""

from __future__ import annotations

import numpy as np
import pytest

from otel_ebpf.model import Flag, Link, Spans
from otel_ebpf.tracing.assemble import Assembler
from otel_ebpf.tracing.ids import derive
from tests.unit.tracing_world import MS, NO_FLAG, Context, Decided, Host, Row, deliver, spans

SECOND = 1000
UPSTREAM = (0x1122334455667788, 0xAABBCCDDEEFF0011)  # halves of a trace id


def context(parent: int, sampled: bool = True) -> Context:
    return (UPSTREAM, parent, int(sampled))


@pytest.fixture
def host() -> Host:
    return Host()


def seeded(limit_rows: int = 200_000) -> Assembler:
    return Assembler(limit_rows=limit_rows, random=np.random.default_rng(1).bytes)


# Chains


def test_nginx_app_postgres_is_one_trace(host: Host) -> None:
    """A request from another host through three processes here; nginx is alone in its loop, app and postgres block."""
    nginx, app, postgres = host.process(), host.process(), host.process()
    front = host.request(nginx, 0, 100)
    proxied = host.exchange(nginx, app, 1, 99, cause=front, flags=Flag.EPOLL)
    query = host.exchange(app, postgres, 10, 50, cause=proxied[1])
    decided = deliver([*query, *proxied, front])

    assert decided.parent(front) == 0
    assert decided.parent(proxied[0]) == front["span_id"]
    assert decided.parent(proxied[1]) == proxied[0]["span_id"]
    assert decided.parent(query[0]) == proxied[1]["span_id"]
    assert decided.parent(query[1]) == query[0]["span_id"]
    assert [decided.link(row) for row in (front, *proxied, *query)] == [
        Link.NONE,
        Link.THREAD_ALONE,
        Link.CONNECTION,
        Link.THREAD_RESPONSE,
        Link.CONNECTION,
    ]
    assert len({decided.trace(row) for row in (front, *proxied, *query)}) == 1
    assert decided.trace(front) != (0, 0)


def test_two_requests_are_two_traces(host: Host) -> None:
    app = host.process()
    first, second = host.request(app, 0, 10), host.request(app, 20, 30)
    decided = deliver([first, second])
    assert decided.trace(first) != decided.trace(second)


# The two ends of a connection


def test_a_client_end_without_payload_takes_over_what_the_server_read(host: Host) -> None:
    call, request = host.exchange(host.process(), host.process(), 0, 5, texts=(b"/cart", b"a=1"), shape=3)
    decided = deliver([call, request])
    row = decided.rows[call["span_id"]]
    assert (row["shape"], row["texts"]) == (3, [b"/cart", b"a=1", b""])


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("unix", [True, False])
def test_ends_are_joined_over_tcp_and_unix_sockets(host: Host, head: bool, unix: bool) -> None:
    client, server = host.process(), host.process()
    rows = []
    for n in range(5):
        call, request = host.exchange(client, server, 10 * n, 10 * n + 6, unix=unix, head=head)
        rows.append((call | {"pair": 77, "conn": 77}, request | {"pair": 77, "conn": 78}))
    decided = deliver([row for pair in rows for row in pair])
    assert [decided.parent(request) for _, request in rows] == [call["span_id"] for call, _ in rows]


def test_over_a_unix_socket_times_may_be_off_at_the_edges(host: Host) -> None:
    """A time is taken when the system call returns: the other end may have run by then."""
    call, request = host.exchange(host.process(), host.process(), 1.0, 1.5, unix=True)
    request |= {"start": round(0.99 * MS), "first_byte": round(1.51 * MS), "end": round(1.51 * MS)}
    assert deliver([call, request]).parent(request) == call["span_id"]


def test_what_was_left_unread_of_a_request_does_not_hide_its_other_end(host: Host) -> None:
    """PHP-FPM reads FastCGI's last record after it has answered: to the kernel side a request without an answer."""
    call, request = host.exchange(host.process(), host.process(), 0, 20, unix=True, head=False)
    left = request | {"span_id": 999, "start": 19 * MS, "first_byte": 0, "end": 19 * MS, "tid_rsp": 0}
    left["flags"] = int(left["flags"]) | int(Flag.UNANSWERED)
    decided = deliver([call, request, left])
    assert decided.parent(request) == call["span_id"]


def test_an_exchange_whose_peer_was_not_known_yet_is_joined_if_both_rows_are_there(host: Host) -> None:
    call, request = host.exchange(host.process(), host.process(), 0, 5, head=False)
    call["flags"] = 0
    decided = deliver([request, call])
    assert decided.parent(request) == call["span_id"] and decided.link(request) == Link.CONNECTION


@pytest.mark.parametrize("step", [0, 1])
def test_a_pipelined_record_gives_as_many_client_rows_as_server_rows(host: Host, step: int) -> None:
    """Three Redis commands in one write: the server's record has become three rows, the client's end is one.

    step: from one row's sequence number to the next one's; the engine counts them up.
    """
    app, redis = host.process(), host.process()
    front = host.request(app, 0, 20)
    call, first = host.exchange(app, redis, 5, 6, cause=front, texts=(b"GET a",))
    ids = derive(np.full(3, first["span_id"], np.uint64), np.arange(3)).tolist()
    requests = [
        first | {"span_id": ids[k], "seq": first["seq"] + k * step, "texts": (b"GET %d" % k,), "shape": k}
        for k in range(3)
    ]
    decided = deliver([front, call, *requests])

    calls = derive(np.full(3, call["span_id"], np.uint64), np.arange(3)).tolist()
    assert [decided.parent(request) for request in requests] == calls
    assert [decided.rows[number]["parent"] for number in calls] == [front["span_id"]] * 3
    assert [decided.rows[number]["texts"][0] for number in calls] == [b"GET 0", b"GET 1", b"GET 2"]
    assert len(decided) == 7


@pytest.mark.parametrize("step", [0, 1])
def test_two_ends_with_payload_that_were_pipelined_are_joined_one_by_one(host: Host, step: int) -> None:
    call, request = host.exchange(host.process(), host.process(), 5, 6, head=False)
    sent = derive(np.full(3, call["span_id"], np.uint64), np.arange(3)).tolist()
    got = derive(np.full(3, request["span_id"], np.uint64), np.arange(3)).tolist()
    rows = [
        row | {"span_id": number, "seq": row["seq"] + k * step}
        for row, numbers in ((call, sent), (request, got))
        for k, number in enumerate(numbers)
    ]
    decided = deliver(rows)
    assert [decided.rows[k]["parent"] for k in got] == sent


def test_a_head_whose_server_row_was_lost_is_released_without_shape_and_counted(host: Host) -> None:
    call, _ = host.exchange(host.process(), host.process(), 0, 5)
    assembler = seeded()
    decided = deliver([call], assembler, until_ms=10 * SECOND)
    assert decided.rows[call["span_id"]]["shape"] == -1
    assert assembler.counters.unjoined_heads == 1 and assembler.counters.held == 0


def test_a_call_that_was_given_up_is_told_when_its_server_answers_long_after_that(host: Host) -> None:
    call, request = host.exchange(host.process(), host.process(), 0, 20 * SECOND)
    call |= {"end": SECOND * MS, "first_byte": 0, "rsp_bytes": 0, "flags": int(call["flags"]) | int(Flag.UNANSWERED)}
    request["rsp_bytes"] = 2
    decided = deliver([call, request], until_ms=30 * SECOND)
    assert decided.rows[call["span_id"]]["shape"] == decided.rows[request["span_id"]]["shape"]
    assert decided.parent(request) == call["span_id"]
    assert decided.rows[call["span_id"]]["end"] == SECOND * MS < decided.rows[request["span_id"]]["end"]


def test_a_server_row_whose_client_row_was_lost_becomes_a_root_in_time(host: Host) -> None:
    _, request = host.exchange(host.process(), host.process(), 0, 5)
    assembler = seeded()
    decided = deliver([request], assembler, until_ms=10 * SECOND)
    assert decided.link(request) == Link.NONE and assembler.counters.timed_out == 1


# Context in the message


def test_a_request_with_traceparent_continues_that_trace(host: Host) -> None:
    request = host.request(host.process(), 0, 5, context=context(99))
    decided = deliver([request])
    assert (decided.parent(request), decided.trace(request)) == (99, UPSTREAM)
    assert decided.link(request) == Link.TRACEPARENT


def test_an_sdk_in_the_calling_process_is_above_our_client_span(host: Host) -> None:
    """app has a request open, its SDK makes a client span (55) and sends it in traceparent: ours goes below it."""
    app, backend = host.process(), host.process()
    front = host.request(app, 0, 50, context=context(44))
    call, request = host.exchange(app, backend, 10, 20, cause=front, context=context(55))
    decided = deliver([front, call, request])
    assert decided.parent(front) == 44
    assert (decided.parent(call), decided.link(call)) == (55, Link.TRACEPARENT)
    assert (decided.parent(request), decided.link(request)) == (call["span_id"], Link.CONNECTION)
    assert {decided.trace(row) for row in (front, call, request)} == {UPSTREAM}


@pytest.mark.parametrize("flags", [Flag(0), Flag.EPOLL | Flag.MANY])
def test_a_proxy_that_passes_traceparent_on_is_between_its_neighbours(host: Host, flags: Flag) -> None:
    """nginx leaves the header as it came: its call belongs to the request with the same header, busy loop or not."""
    nginx, backend = host.process(), host.process()
    front = host.request(nginx, 0, 50, context=context(44))
    cause = None if flags else front
    call, request = host.exchange(nginx, backend, 10, 20, cause=cause, flags=flags, context=context(44))
    decided = deliver([front, call, request])
    assert decided.parent(call) == front["span_id"]
    assert decided.parent(request) == call["span_id"]


def test_a_context_that_is_the_client_span_itself_makes_no_loop(host: Host) -> None:
    """A context that this agent has put on the wire names the client span: the server's row is its child."""
    call, request = host.exchange(host.process(), host.process(), 10, 20)
    request |= {"remote_link": Link.TRACEPARENT, "remote_trace": UPSTREAM, "remote_parent": call["span_id"]}
    decided = deliver([call, request])
    assert (decided.parent(call), decided.parent(request)) == (0, call["span_id"])
    assert decided.trace(call) == decided.trace(request)


def test_a_context_that_is_not_trusted_is_ignored(host: Host) -> None:
    request = host.request(host.process(), 0, 5, context=context(99))
    request["remote_link"] = Link.NONE
    decided = deliver([request])
    assert decided.parent(request) == 0 and decided.trace(request) != UPSTREAM


def test_all_rows_say_how_their_trace_came_to_this_host(host: Host) -> None:
    """What parent-based sampling asks: the flags of the trace's own context, on every row of it."""
    app = host.process()
    front = host.request(app, 0, 50, context=context(44, sampled=False))
    call = host.call(app, 10, 20, cause=front)
    decided = deliver([front, call])
    row = decided.rows[call["span_id"]]
    assert (row["remote_link"], row["remote_flags"]) == (Link.TRACEPARENT, 0)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("known_caller", [False, True])
def test_what_no_protocol_recognises_is_nobodys_parent(host: Host, known_caller: bool, late: bool) -> None:
    """There will be no span of it: what was done for it belongs to whoever asked for it, or begins the trace."""
    front, app = host.process(), host.process()
    rows: list[Row] = []
    if known_caller:
        rows.append(asked := host.request(front, 0, 60))
        rows += host.exchange(front, app, 10, 50, shape=-2, cause=asked)
    else:
        rows.append(host.request(app, 10, 50, columns={"shape": -2}))
    unread = rows[-1]
    first, second = (host.call(app, at, at + 5, cause=unread) for at in (20, 30))
    arrivals = {60: [*rows, first], 4000: [second]} if late else {60: [*rows, first, second]}
    assembler = seeded()
    decided = Decided([assembler.feed(spans(arrivals.get(now, [])), now * MS) for now in range(0, 70 * SECOND, 20)])
    above = asked["span_id"] if known_caller else 0
    assert [decided.parent(call) for call in (first, second)] == [above, above]
    assert decided.trace(first) == decided.trace(second) == decided.trace(rows[0])
    assert (decided.link(first) == Link.NONE) == (not known_caller)


# Threads


def test_hand_off_belongs_to_the_worker_that_writes_the_response(host: Host) -> None:
    server = host.process()
    worker = server.thread(1)
    request = host.request(server, 0, 50, writer=worker)
    call = host.call(worker, 10, 20)
    decided = deliver([request, call])
    assert (decided.parent(call), decided.link(call)) == (request["span_id"], Link.THREAD_RESPONSE)


def test_a_queued_request_is_not_blamed_for_what_the_worker_did_before(host: Host) -> None:
    """The request was there before the worker's previous response was done: the call may belong to either."""
    server = host.process()
    worker = server.thread(1)
    first = host.request(server, 0, 30, writer=worker)
    queued = host.request(server, 10, 60, writer=worker)
    call = host.call(worker, 35, 40)
    decided = deliver([first, queued, call])
    assert decided.parent(call) == 0


@pytest.mark.parametrize("leftover", [False, True])
def test_unless_the_workers_of_the_process_are_seen_to_leave_nothing_after_a_response(
    host: Host, leftover: bool
) -> None:
    server = host.process()
    worker = server.thread(1)
    rows = []
    for n in range(240):
        rows.append(host.request(server, 20 * n, 20 * n + 10, writer=worker))
        rows.append(host.call(worker, 20 * n + 2, 20 * n + 8))
    if leftover:
        rows.append(host.call(worker, 4000 + 12, 4000 + 18))
    rows += [host.request(server, 5000, 5030, writer=worker)]
    rows += [queued := host.request(server, 5010, 5060, writer=worker), call := host.call(worker, 5035, 5040)]
    assert observed(rows).parent(call) == (0 if leftover else queued["span_id"])


def test_what_a_process_has_not_shown_yet_is_waited_for(host: Host) -> None:
    """It was just begun: what its workers never do is seen by the time that the call has to go."""
    server = host.process()
    worker = server.thread(1)
    rows = [host.request(server, 0, 30, writer=worker)]
    rows += [queued := host.request(server, 10, 60, writer=worker), call := host.call(worker, 35, 40)]
    for n in range(120):
        rows.append(host.request(server, 100 + 8 * n, 105 + 8 * n, writer=worker))
        rows.append(host.call(worker, 101 + 8 * n, 104 + 8 * n))
    assert observed(rows).parent(call) == queued["span_id"]


@pytest.mark.parametrize("calls_first", [False, True])
def test_what_a_thread_puts_aside_is_blamed_only_if_its_process_calls_before_it_does_so(
    host: Host, calls_first: bool
) -> None:
    """A worker reads the next request of its connection, puts it into the queue, and takes an older one out."""
    server = host.process()
    worker, other = server.thread(1), server.thread(2)
    rows = []
    for n in range(240):
        rows.append(own := host.request(worker, 20 * n, 20 * n + 10))
        rows.append(host.call(worker, 20 * n + 2, 20 * n + 8, cause=own))
    if calls_first:
        rows.append(passed_on := host.request(worker, 4000 + 11, 4000 + 19, writer=other))
        rows.append(host.call(worker, 4000 + 12, 4000 + 14, cause=passed_on))
    rows.append(queued := host.request(other, 5000, 5060, writer=worker))
    rows.append(aside := host.request(worker, 5020, 5090, writer=other))
    rows.append(call := host.call(worker, 5035, 5040, cause=aside))
    assert observed(rows).parent(call) == (0 if calls_first else queued["span_id"])


def observed(rows: list[Row]) -> Decided:
    """The rows, as they end, and sweeps that see no open request."""
    assembler = seeded()
    batches = []
    for now in range(0, 9000, 100):
        assembler.hear(None, (np.zeros(0, np.uint32), None), now * MS)
        due = [row for row in rows if now - 100 <= row["end"] // MS < now]
        batches.append(assembler.feed(spans(due) if due else Spans.empty(), now * MS))
    return Decided(batches)


@pytest.mark.parametrize("flag", [Flag.EPOLL, Flag.DISTURBED])
def test_a_thread_that_did_not_sleep_for_its_call_proves_nothing(host: Host, flag: Flag) -> None:
    server = host.process()
    worker = server.thread(1)
    request = host.request(server, 0, 50, writer=worker)
    call = host.call(worker, 10, 20, flags=flag)
    assert deliver([request, call]).parent(call) == 0


def test_a_loop_that_passes_a_response_on_while_it_comes_in_makes_the_call_for_it(host: Host) -> None:
    proxy = host.process()
    request = host.request(proxy, 0, 100, columns={"first_byte": 20 * MS})
    call = host.call(proxy, 1, 99, cause=request, flags=Flag.EPOLL, columns={"first_byte": 19 * MS})
    later = host.call(proxy, 2, 98, cause=request, flags=Flag.EPOLL, columns={"first_byte": 21 * MS})
    decided = deliver([call, later, request])
    assert decided.parent(call) == request["span_id"] and decided.link(call) == Link.THREAD_ALONE
    assert decided.parent(later) == 0


def test_a_call_without_an_answer_is_for_the_request_that_was_open_however_late_it_is_closed(host: Host) -> None:
    proxy = host.process()
    request = host.request(proxy, 0, 30)
    call = host.call(proxy, 1, 30, cause=request, flags=Flag.EPOLL | Flag.UNANSWERED)
    decided = deliver([call, request])
    assert decided.parent(call) == request["span_id"]


def test_several_open_requests_leave_a_loop_s_call_undecided(host: Host) -> None:
    loop = host.process()
    rows = [host.request(loop, 0, 50), host.request(loop, 5, 40)]
    call = host.call(loop, 10, 20, flags=Flag.EPOLL | Flag.MANY)
    assert deliver([*rows, call]).parent(call) == 0


def test_work_after_the_response_is_not_given_to_the_next_request(host: Host) -> None:
    """The loop has shown that it calls without an open request: then being alone proves nothing any more."""
    loop = host.process()
    first = host.request(loop, 1, 10)
    left_over = host.call(loop, 15, 30, flags=Flag.EPOLL)
    second = host.request(loop, 40, 60)
    perhaps = host.call(loop, 45, 50, cause=second, flags=Flag.EPOLL)
    decided = deliver([first, left_over, second, perhaps])
    assert decided.parent(left_over) == 0 and decided.parent(perhaps) == 0


def test_a_pipelined_request_is_nobody_s_parent(host: Host) -> None:
    """Its record is one for several requests: which of them the call was made for, nothing tells."""
    app = host.process()
    first = host.request(app, 0, 50)
    second = first | {"span_id": derive(np.array([first["span_id"]], np.uint64), np.array([1]))[0]}
    call = host.call(app, 10, 20, cause=first)
    assert deliver([first, second, call]).parent(call) == 0


def test_a_new_process_with_an_old_number_is_judged_afresh(host: Host) -> None:
    loop = host.process()
    assembler = seeded()
    deliver([host.request(loop, 1, 10), host.call(loop, 15, 30, flags=Flag.EPOLL)], assembler)
    assembler.processes.forget(np.array([loop.pid], np.uint32))
    request = host.request(loop, 2000, 2050)
    call = host.call(loop, 2010, 2020, cause=request, flags=Flag.EPOLL)
    assert deliver([request, call], assembler).parent(call) == request["span_id"]


# Waiting


def released_after(rows: list[Row], row: Row, assembler: Assembler, limit_ms: int = 80 * SECOND) -> int:
    """ms from the row's end to the feed that returned it; all rows arrive at the next drain after their end."""
    waiting = sorted(rows, key=lambda r: r["end"])
    for now in range(0, limit_ms + 1, 100):
        due = [r for r in waiting if r["end"] <= now * MS]
        waiting = waiting[len(due) :]
        if row["span_id"] in assembler.feed(spans(due), now * MS).span_id:
            return now - row["end"] // MS
    raise AssertionError("never released")


def test_a_program_that_only_calls_is_not_held(host: Host) -> None:
    call = host.call(host.process(), 0, 50)
    assert released_after([call], call, seeded()) <= 100


def test_an_ordinary_request_and_its_calls_go_within_a_second(host: Host) -> None:
    app = host.process()
    request = host.request(app, 0, 200)
    call = host.call(app, 50, 100, cause=request)
    assembler = seeded()
    assert released_after([request, call], request, assembler) <= 750
    assert assembler.counters.held == 0


def test_a_call_waits_for_the_request_that_the_kernel_names(host: Host) -> None:
    app = host.process()
    request = host.request(app, 0, 30 * SECOND)
    call = host.call(app, 50, 100, cause=request)
    assert released_after([request, call], call, seeded()) > 29 * SECOND


def test_a_call_whose_response_was_awaited_longer_than_its_request_still_gets_it(host: Host) -> None:
    app = host.process()
    request = host.request(app, 0, 200)
    call = host.call(app, 50, 100, cause=request, flags=Flag.PARTIAL)
    assembler = seeded()
    batches = []
    for at_ms in range(300, 6000, 100):
        rows = [request, call] if at_ms == 300 else []
        waits = np.array([0, 5 * SECOND * MS], np.uint64) if rows else None
        assembler.hear(None, (np.zeros(0, np.uint32), None), at_ms * MS)
        batches.append(assembler.feed(spans(rows) if rows else Spans.empty(), at_ms * MS, waits))
    assert Decided(batches).parent(call) == request["span_id"]


def test_but_not_forever(host: Host) -> None:
    app = host.process()
    lost = host.request(app, 0, 200)
    call = host.call(app, 50, 100, cause=lost)
    assembler = seeded()
    waited = released_after([call], call, assembler)
    assert 60 * SECOND <= waited <= 60 * SECOND + 100 and assembler.counters.timed_out == 1


def test_a_call_that_nothing_names_waits_two_seconds_for_a_response_of_its_thread(host: Host) -> None:
    server = host.process()
    worker = server.thread(1)
    before = host.request(server, 0, 10)
    call = host.call(worker, 50, 100)
    assert 2 * SECOND <= released_after([before, call], call, seeded()) <= 2 * SECOND + 100


def test_a_late_child_still_gets_its_parent_and_trace(host: Host) -> None:
    app = host.process()
    request = host.request(app, 0, 200)
    call = host.call(app, 50, 100, cause=request)
    assembler = seeded()
    first = assembler.feed(spans([request]), 900 * MS)
    assert len(first) == 1
    batches = [first, assembler.feed(spans([call]), 3000 * MS), assembler.feed(Spans.empty(), 3100 * MS)]
    decided = Decided(batches)
    assert decided.parent(call) == request["span_id"]
    assert decided.trace(call) == decided.trace(request)


def test_a_server_row_finds_a_client_row_that_was_released_before(host: Host) -> None:
    call, request = host.exchange(host.process(), host.process(), 0, 5, head=False)
    call["flags"] = 0  # its peer was not known: the program only calls, so it was not held
    assembler = seeded()
    batches = [assembler.feed(spans([call]), 100 * MS), assembler.feed(spans([request]), 800 * MS)]
    decided = Decided(batches)
    assert decided.parent(request) == call["span_id"] and decided.trace(request) == decided.trace(call)


def test_too_many_rows_release_the_oldest_with_what_is_known(host: Host) -> None:
    app = host.process()
    request = host.request(app, 0, 10)
    call = host.call(app, 2, 4, cause=request)
    crowd = [host.request(app, 20, 30 + n / 100) for n in range(100)]
    assembler = seeded(limit_rows=50)
    decided = Decided([assembler.feed(spans([request, call, *crowd]), 100 * MS)])
    assert decided.parent(call) == request["span_id"]
    assert assembler.counters.overflow == len(decided) == 52 and assembler.counters.held == 50


def test_flush_gives_everything_back(host: Host) -> None:
    app = host.process()
    lost = host.request(app, 0, 10)
    rows = [host.call(app, 2, 4, cause=lost), host.exchange(app, app, 5, 6)[0], host.request(app, 20, 30)]
    assembler = seeded()
    assert len(assembler.feed(spans(rows), 100 * MS)) == 0
    assert sorted(assembler.flush().span_id) == sorted(row["span_id"] for row in rows)
    assert assembler.counters.held == 0 and len(assembler.flush()) == 0


# Amendments

FIVE_SECONDS = np.full(1, 5 * SECOND * MS, np.uint64)


def amendment(row: Row, end_ms: int, flags: Flag = NO_FLAG) -> Row:
    """As the kernel sends it: the numbers anew, without payload."""
    flags |= Flag(row["flags"]) & ~Flag.PARTIAL | Flag.AMENDS | Flag.HEAD
    return row | {"flags": int(flags), "end": end_ms * MS, "shape": -1, "texts": ()}


def test_a_row_that_is_not_settled_is_replaced_by_its_amendment(host: Host) -> None:
    columns: Row = {"rsp_bytes": 100, "shape": 3, "texts": (b"/slow",)}
    request = host.request(host.process(), 0, 10, flags=Flag.PARTIAL, columns=columns)
    amended = amendment(request, 900) | {"rsp_bytes": 5000}
    assembler = seeded()
    batches = [assembler.feed(spans([request]), 500 * MS, FIVE_SECONDS), assembler.feed(Spans.empty(), 900 * MS)]
    batches += [assembler.feed(spans([amended]), 1000 * MS), assembler.feed(Spans.empty(), 2000 * MS)]
    decided = Decided(batches)
    row = decided.rows[request["span_id"]]
    assert (row["end"], row["rsp_bytes"]) == (900 * MS, 5000)
    assert (row["shape"], row["texts"][0]) == (3, b"/slow"), "an amendment brings no payload: what was read stays"
    assert not decided.doubled and assembler.counters.amended == 1


def test_an_amendment_that_does_not_come_is_not_awaited_for_more_than_5_s(host: Host) -> None:
    request = host.request(host.process(), 0, 10, flags=Flag.PARTIAL)
    assembler = seeded()
    assert len(assembler.feed(spans([request]), 500 * MS, FIVE_SECONDS)) == 0
    assert len(assembler.feed(Spans.empty(), 5000 * MS)) == 0
    assert len(assembler.feed(Spans.empty(), 5700 * MS)) == 1


def test_an_amendment_of_a_released_row_is_dropped_and_counted(host: Host) -> None:
    request = host.request(host.process(), 0, 10, flags=Flag.PARTIAL)
    amended = amendment(request, 900)
    assembler = seeded()
    assert len(assembler.feed(spans([request]), 800 * MS)) == 1
    assert len(assembler.feed(spans([amended]), 2000 * MS)) == 0
    assert assembler.counters.amended_late == 1 and assembler.counters.held == 0


def test_an_amendment_is_for_all_requests_of_a_pipelined_record(host: Host) -> None:
    first = host.request(host.process(), 0, 10, flags=Flag.PARTIAL)
    ids = derive(np.full(3, first["span_id"], np.uint64), np.arange(3)).tolist()
    assembler = seeded()
    waits = np.array([5 * SECOND * MS, 0, 0], np.uint64)  # known by the record's own id
    batches = [assembler.feed(spans([first | {"span_id": k} for k in ids]), 500 * MS, waits)]
    batches += [assembler.feed(Spans.empty(), 900 * MS), assembler.feed(spans([amendment(first, 900)]), 1000 * MS)]
    decided = Decided([*batches, assembler.feed(Spans.empty(), 2000 * MS)])
    assert [decided.rows[k]["end"] for k in ids] == [900 * MS] * 3


def test_both_ends_amended_are_still_joined(host: Host) -> None:
    call, request = host.exchange(host.process(), host.process(), 0, 10, texts=(b"/slow",), shape=3)
    for row in (call, request):
        row["flags"] |= int(Flag.PARTIAL)
    assembler = seeded()
    waits = np.array([0, 5 * SECOND * MS], np.uint64)
    batches = [assembler.feed(spans([call, request]), 500 * MS, waits), assembler.feed(Spans.empty(), 900 * MS)]
    batches += [assembler.feed(spans([amendment(call, 901), amendment(request, 900)]), 1000 * MS)]
    decided = Decided([*batches, assembler.feed(Spans.empty(), 2000 * MS)])
    assert decided.parent(request) == call["span_id"]
    row = decided.rows[call["span_id"]]
    assert (row["shape"], row["texts"][0], row["end"]) == (3, b"/slow", 901 * MS)


def test_an_amendment_whose_original_was_lost_is_a_row_of_its_own(host: Host) -> None:
    amended = host.request(host.process(), 0, 10, flags=Flag.AMENDS)
    assert amended in deliver([amended])


def test_of_two_amendments_in_one_batch_the_last_counts(host: Host) -> None:
    request = host.request(host.process(), 0, 10, flags=Flag.PARTIAL)
    decided = deliver([request, amendment(request, 20, Flag.PARTIAL), amendment(request, 30)])
    assert decided.rows[request["span_id"]]["end"] == 30 * MS and not decided.doubled


# Hostile and odd rows


def test_rows_that_are_their_own_ancestors_are_cut_loose(host: Host) -> None:
    """Times that no kernel makes: each of two processes calls the other from within the other's call."""
    one, two = host.process(), host.process()
    call, request = host.exchange(one, two, 10, 20)
    back, answer = host.exchange(two, one, 10, 20, cause=request)
    call["cause"] = answer["span_id"]
    for row in (request, answer):
        row |= {"start": 5 * MS, "first_byte": 25 * MS, "end": 25 * MS}
    assembler = seeded()
    decided = deliver([call, request, back, answer], assembler, until_ms=3 * SECOND)
    assert len(decided) == 4 and assembler.counters.cycles == 1
    assert len({decided.trace(row) for row in (call, request, back, answer)}) == 1


def test_an_empty_feed_gives_nothing() -> None:
    assembler = seeded()
    assert len(assembler.feed(Spans.empty(), 0)) == 0 and len(assembler.flush()) == 0
