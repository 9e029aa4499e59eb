"""Services with an SDK of their own: what it tells is not told again, and what is ours hangs below its spans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from otel_ebpf.foreign import known
from otel_ebpf.foreign.spans import CLIENT, SERVER, ForeignSpans
from otel_ebpf.model import Spans
from otel_ebpf.tracing.assemble import Assembler
from otel_ebpf.tracing.completion import Completion
from tests.unit.tracing_world import MS, Context, Host, Process, Row, spans

TRACE = (0x1122334455667788, 0xAABBCCDDEEFF0011)
REDIS, HTTP = 2, 1
SECOND = 1000


def context(parent: int, sampled: bool = True) -> Context:
    return (TRACE, parent, int(sampled))


def span(
    who: Process, kind: int, number: int, parent: int, start: float, end: float, port: int = 0, protocol: int = 0
) -> ForeignSpans:
    """One that the process's SDK exports."""
    raw = (who.pid, kind, np.array(TRACE, np.uint64).tobytes(), number.to_bytes(8, "little"))
    return ForeignSpans.of([(*raw, parent.to_bytes(8, "little"), round(start * MS), round(end * MS), port, protocol)])


class World:
    """An assembler, fed as the pipeline does it."""

    def __init__(self, mode: str = "fill-gaps", wait_ms: int = 8 * SECOND) -> None:
        self.completion = Completion(mode, wait_ms * MS, lambda shapes: shapes.astype(np.uint8))
        self.assembler = Assembler(random=np.random.default_rng(7).bytes, completion=self.completion)
        self.now = 0
        self.parent: dict[int, int] = {}
        self.trace: dict[int, tuple[int, int]] = {}
        self.covered: set[int] = set()
        """ids of the spans that stand for rows"""
        self.gone: dict[int, int] = {}
        """row → when it was released, ms"""

    def hear(self, *told: ForeignSpans) -> None:
        self.completion.known.hear(ForeignSpans.concat(told), self.now * MS)
        self.completion.hint(np.unique(ForeignSpans.concat(told).tgid), self.now * MS)

    def run(self, rows: Sequence[Row] = (), until: int = 0, flush: bool = False) -> None:
        left = sorted(rows, key=lambda row: row["end"])
        while self.now < until or left:
            self.now += 100
            due = [row for row in left if row["end"] <= self.now * MS]
            left = left[len(due) :]
            self._take(self.assembler.feed(spans(due), self.now * MS))
        if flush:
            self._take(self.assembler.flush())

    def _take(self, batch: Spans) -> None:
        for i, number in enumerate(batch.span_id.tolist()):
            if self.assembler.covered[i]:
                self.covered.add(number)
                continue
            assert number not in self.parent
            self.parent[number] = int(batch.parent[i])
            self.trace[number] = (int(batch.trace[i, 0]), int(batch.trace[i, 1]))
            self.gone[number] = self.now


class Shop:
    """A process that receives a request, asks Redis, and calls a backend on this host; its SDK may tell of each."""

    def __init__(self, incoming: Context | None = None) -> None:
        host = Host()
        self.app, self.backend, self.store = host.process(), host.process(), host.process()
        self.front = host.request(self.app, 10, 50, context=incoming, columns={"peer_port": 40001})  # type: ignore[typeddict-unknown-key]
        self.redis, self.store_side = host.exchange(self.app, self.store, 12, 15, cause=self.front, shape=REDIS)
        self.call, self.served = host.exchange(self.app, self.backend, 20, 40, cause=self.front, context=context(902))
        for row, port in ((self.redis, 6379), (self.call, 8080)):
            row["peer_port"] = port  # type: ignore[typeddict-unknown-key]
        self.rows = [self.front, self.redis, self.store_side, self.call, self.served]

    def server(self, parent: int = 0, port: int = 40001) -> ForeignSpans:
        return span(self.app, SERVER, 901, parent, 11, 49, port)

    def client(self) -> ForeignSpans:
        return span(self.app, CLIENT, 902, 901, 19, 41, 8080, HTTP)

    def asks(self) -> ForeignSpans:
        return span(self.app, CLIENT, 903, 901, 11.9, 15.1, 6379, REDIS)


def test_what_the_sdk_tells_is_not_told_again_and_gaps_hang_below_its_spans() -> None:
    world, shop = World(), Shop()
    world.run(shop.rows)
    world.hear(shop.server(), shop.client())
    world.run(until=3 * SECOND)
    assert world.covered == {901, 902}
    assert world.parent == {
        shop.redis["span_id"]: 901,
        shop.store_side["span_id"]: shop.redis["span_id"],
        shop.served["span_id"]: 902,
    }
    assert set(world.trace.values()) == {TRACE}


def test_an_instrumented_client_leaves_its_servers_side() -> None:
    world, shop = World(), Shop()
    world.run(shop.rows)
    world.hear(shop.server(), shop.client(), shop.asks())
    world.run(until=3 * SECOND)
    assert world.covered == {901, 902, 903}
    assert world.parent == {shop.store_side["span_id"]: 903, shop.served["span_id"]: 902}
    assert set(world.trace.values()) == {TRACE}


@pytest.mark.parametrize("port", [40001, 0])
def test_a_request_is_known_by_the_context_that_it_carried(port: int) -> None:
    world, shop = World(), Shop(context(77))
    world.run(shop.rows)
    world.hear(shop.server(parent=77, port=port), shop.client())
    world.run(until=3 * SECOND)
    assert 901 in world.covered and world.parent[shop.redis["span_id"]] == 901


def test_a_span_of_another_client_is_not_the_requests() -> None:
    world, shop = World(wait_ms=SECOND), Shop()
    world.run(shop.rows)
    world.hear(shop.server(port=40002), shop.client())
    world.run(until=5 * SECOND)
    assert world.covered == {902}
    assert world.parent[shop.front["span_id"]] == 0
    assert world.parent[shop.redis["span_id"]] == shop.front["span_id"]


def test_rows_wait_for_exports_no_longer_than_they_must() -> None:
    world, shop = World(wait_ms=4 * SECOND), Shop()
    world.run(shop.rows, until=3 * SECOND)
    assert shop.front["span_id"] not in world.gone  # its call said that there is an SDK
    world.run(until=6 * SECOND)
    assert 4 * SECOND <= world.gone[shop.front["span_id"]] <= 4.3 * SECOND

    world, shop = World(), Shop()
    world.run(shop.rows, until=2 * SECOND)
    world.hear(span(shop.app, SERVER, 999, 0, 2000, 2100, 40009))  # of something later
    world.run(until=3 * SECOND)
    assert world.gone[shop.front["span_id"]] <= 2.2 * SECOND


def test_processes_without_an_sdk_wait_for_nothing() -> None:
    host = Host()
    world, app = World(), host.process()
    front = host.request(app, 10, 50)
    world.run([front], until=2 * SECOND)
    assert world.gone[front["span_id"]] < 1 * SECOND and not world.completion.active


def test_where_nothing_can_be_read_a_trace_that_is_carried_on_tells_of_the_request() -> None:
    world, shop = World(wait_ms=SECOND), Shop(context(77))
    world.run(shop.rows, until=5 * SECOND)
    assert len(world.covered) == 2 and 902 in world.covered
    assert world.parent[shop.redis["span_id"]] == 77  # its own span's parent: the nearest that is known
    assert shop.front["span_id"] not in world.parent


def test_what_the_sdk_does_not_sample_is_not_taken_for_exported() -> None:
    world, shop = World(wait_ms=SECOND), Shop()
    shop.served["remote_flags"] = 0
    world.run(shop.rows, until=5 * SECOND)
    assert world.covered == set()


@pytest.mark.parametrize(
    ("mode", "covered", "above"),
    [
        ("network-only", {901}, {"redis": 903, "store_side": "redis", "call": 902, "served": "call"}),
        ("everything", set(), {"front": 901, "redis": 903, "store_side": "redis", "call": 902, "served": "call"}),
        ("off", set(), {"front": 0, "redis": "front", "store_side": "redis", "call": "front", "served": "call"}),
    ],
)
def test_the_other_modes(mode: str, covered: set[int], above: dict[str, int | str]) -> None:
    world, shop = World(mode), Shop()
    world.run(shop.rows)
    world.hear(shop.server(), shop.client(), shop.asks())
    world.run(until=3 * SECOND)
    assert world.covered == covered
    expected = {
        name: parent if isinstance(parent, int) else getattr(shop, parent)["span_id"] for name, parent in above.items()
    }
    assert {name: world.parent[getattr(shop, name)["span_id"]] for name in above} == expected
    assert len(world.parent) == len(above)


def test_in_network_only_what_the_sdk_does_not_tell_is_left_out() -> None:
    world, shop = World("network-only"), Shop()
    world.run(shop.rows)
    world.hear(shop.server(), shop.client())
    world.run(until=3 * SECOND)
    assert shop.redis["span_id"] not in world.parent
    assert world.parent[shop.store_side["span_id"]] == 901


def test_children_that_come_after_their_covered_parent_went_hang_below_its_span() -> None:
    world, shop = World(), Shop()
    late = Host()
    late._last, late._pid = 500, 9000
    query = late.call(shop.app, 16, 18, cause=shop.front)
    world.run(shop.rows)
    world.hear(shop.server(), shop.client())
    world.run(until=3 * SECOND)
    world.run([query], until=13 * SECOND)
    assert world.parent[query["span_id"]] == 901 and world.trace[query["span_id"]] == TRACE


def test_memory_is_bounded() -> None:
    world = World()
    many = ForeignSpans.concat([span(Process(5, 5), SERVER, i + 1, 0, i, i + 1) for i in range(100)])
    for _ in range(known.LIMIT // 100 + 10):
        world.hear(many)
        many.span += np.uint64(100)
    assert len(world.completion.known.spans) == known.LIMIT and world.completion.known.forgotten > 0
    world.now = 10**6
    world.hear(many)
    assert len(world.completion.known.spans) == 100


def test_who_called_waits_with_the_request_and_is_in_the_trace_that_the_sdk_begins() -> None:
    """nginx without an SDK, before a service with one: the trace is the SDK's, and nothing is lost or mistaken."""
    world, host = World(), Host()
    nginx, app, store = host.process(), host.process(), host.process()
    front = host.request(nginx, 5, 60)
    proxied, served = host.exchange(nginx, app, 8, 55, cause=front)
    served["peer_port"] = 40001  # type: ignore[typeddict-unknown-key]
    query, stored = host.exchange(app, store, 20, 25, cause=served)
    world.completion.hint(np.array([app.pid], np.uint32), 0)
    world.run([front, proxied, served, query, stored], until=3 * SECOND)
    assert not world.gone
    for _ in range(3):  # rows are renumbered meanwhile
        other = Host()
        other._last, other._pid = 10_000 + world.now, 20_000
        world.run([other.request(other.process(), world.now + i, world.now + i + 1) for i in range(50)])
    world.hear(span(app, SERVER, 901, 0, 9, 54, 40001))
    world.run(until=world.now + 2 * SECOND)
    assert world.covered == {901}
    ours = [row["span_id"] for row in (front, proxied, query, stored)]
    assert [world.parent[number] for number in ours] == [0, front["span_id"], 901, query["span_id"]]
    assert {world.trace[number] for number in ours} == {TRACE}


def test_without_an_export_all_of_it_goes_in_time() -> None:
    world, host = World(wait_ms=2 * SECOND), Host()
    nginx, app = host.process(), host.process()
    front = host.request(nginx, 5, 60)
    proxied, served = host.exchange(nginx, app, 8, 55, cause=front)
    world.completion.hint(np.array([app.pid], np.uint32), 0)
    world.run([front, proxied, served], until=4 * SECOND)
    assert world.parent[served["span_id"]] == proxied["span_id"]
    assert len({world.trace[row["span_id"]] for row in (front, proxied, served)}) == 1

    world, host = World(), Host()
    nginx, app = host.process(), host.process()
    _, served = rows = host.exchange(nginx, app, 8, 55)
    world.completion.hint(np.array([app.pid], np.uint32), 0)
    world.run(rows, until=SECOND, flush=True)
    assert served["span_id"] in world.parent


@pytest.mark.parametrize(("heard_s", "remembered"), [(-5.0, False), (0.5, False), (5.0, True)])
def test_what_is_heard_of_a_process_after_its_exec_is_not_forgotten_with_what_was_before(
    heard_s: float, remembered: bool
) -> None:
    """The program before may still be told of for a while; that must not cost the next one what is known of it."""
    completion, pid, second = Completion("fill-gaps"), np.array([77], np.uint32), 10**9
    begun = 100 * second
    completion.hint(np.array([5], np.uint32), second)
    events = sorted([(begun, True), (begun + round(heard_s * second), False)])
    for now, is_exec in events:
        if is_exec:
            completion.forget(pid, now)
        else:
            completion.hint(pid, now)
    completion.forget(pid[:0], begun + 17 * second)
    assert bool(completion._hoped[completion._places.of(pid)][0]) == remembered
