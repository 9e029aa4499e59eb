"""The queue and its worker: nothing blocks, everything is delivered or counted, and retries keep to the rules."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from otel_ebpf.config import load
from otel_ebpf.otlp.configured import otlp_settings
from otel_ebpf.otlp.encoder import SpanEncoder
from otel_ebpf.otlp.exporter import Exporter
from otel_ebpf.otlp.framing import Message
from otel_ebpf.otlp.metrics import MAX_POINTS
from otel_ebpf.otlp.sender import (
    FAULT,
    PARTIAL_SUCCESS,
    QUEUE_FULL,
    REASONS,
    REFUSED,
    REQUEST_BYTES,
    RETRIES_EXHAUSTED,
    SHUTDOWN,
    Backoff,
    Sender,
)
from otel_ebpf.otlp.settings import OtlpSettings, SignalSettings
from otel_ebpf.otlp.transport import Answer, Verdict, open_transport
from tests.unit.otlp_twin import OFFSET, Row, parse_traces, simple_tables, spans_of
from tests.unit.receivers import Failure, Reply, Seen, grpc_receiver, http_receiver

QUICK = Backoff(first=0.01, longest=0.02)


def message_of(first: int = 1, n: int = 3) -> Message:
    """n spans with ids from `first` on."""
    rows = [Row(span_id=first + i) for i in range(n)]
    (message,) = SpanEncoder(*simple_tables().all()).encode(spans_of(rows), OFFSET)
    return message


def ids_in(body: bytes) -> list[int]:
    spans = [s for rs in parse_traces(body).resource_spans for scope in rs.scope_spans for s in scope.spans]
    return [int.from_bytes(span.span_id, "little") for span in spans]


@contextmanager
def sender_to(host: str, *, queue_bytes: int = 1 << 20, **options: object) -> Iterator[Sender]:
    options = {"schedule_delay": 0.0, "export_timeout": 5.0, **options}
    settings = SignalSettings("traces", f"http://{host}/v1/traces", **options)  # type: ignore[arg-type]
    sender = Sender(settings, open_transport(settings), backoff=QUICK, queue_bytes=queue_bytes)
    try:
        yield sender
    finally:
        deadline = time.monotonic() + 5
        sender.begin_close(deadline)
        sender.finish_close(deadline)


@contextmanager
def sending(replies: Callable[[int], Reply], **options: object) -> Iterator[tuple[Sender, Seen]]:
    with http_receiver(replies) as (host, seen), sender_to(host, **options) as sender:  # type: ignore[arg-type]
        yield sender, seen


def settle(sender: Sender) -> dict[str, int]:
    """Wait until all is dealt with; the drops that are not 0."""
    assert sender.wait_idle(time.monotonic() + 10)
    assert (sender.statistics.queued_items, sender.statistics.queued_bytes) == (0, 0)
    return {reason: items for reason, items in sender.statistics.dropped.items() if items}


def test_what_is_submitted_arrives() -> None:
    with sending(lambda _: Reply()) as (sender, seen):
        assert sender.submit(message_of())
        assert settle(sender) == {}
        assert ids_in(b"".join(seen.bodies)) == [1, 2, 3]
        assert sender.statistics.delivered_items == 3
        assert sender.statistics.delivered_bytes == len(b"".join(seen.bodies))


def test_messages_that_wait_together_leave_as_one_request() -> None:
    with sending(lambda _: Reply(), schedule_delay=60.0, batch_items=7) as (sender, seen):
        for first in (1, 4, 7):
            sender.submit(message_of(first))
        sender.hurry()
        settle(sender)
        assert [ids_in(body) for body in seen.bodies] == [[1, 2, 3, 4, 5, 6], [7, 8, 9]]


def test_a_full_batch_does_not_wait() -> None:
    with sending(lambda _: Reply(), schedule_delay=60.0, batch_items=3) as (sender, seen):
        sender.submit(message_of())
        settle(sender)
        assert len(seen.bodies) == 1


def test_a_request_that_is_full_of_bytes_does_not_wait_for_more_items() -> None:
    with sending(lambda _: Reply(), schedule_delay=60.0, queue_bytes=2 * REQUEST_BYTES) as (sender, seen):
        for _ in range(5):
            assert sender.submit(Message(bytes(REQUEST_BYTES), 100))
            assert settle(sender) == {}
        assert len(seen.bodies) == 5


@pytest.mark.parametrize("reply", [Reply(503), Reply(429), Reply(502), Reply(504), Reply(hang_up=True)])
def test_the_same_bytes_are_sent_again_until_they_are_taken(reply: Reply) -> None:
    with sending(lambda n: reply if n < 3 else Reply()) as (sender, seen):
        sender.submit(message_of())
        assert settle(sender) == {}
        assert len(seen.bodies) == 4
        assert len(set(seen.bodies)) == 1
        assert (sender.statistics.requests, sender.statistics.retries) == (4, 3)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
def test_what_is_refused_is_dropped_counted_and_never_sent_again(status: int) -> None:
    with sending(lambda n: Reply(status) if n == 0 else Reply()) as (sender, seen):
        sender.submit(message_of())
        assert settle(sender) == {REFUSED: 3}
        sender.submit(message_of(4))
        settle(sender)
        assert [ids_in(body) for body in seen.bodies] == [[1, 2, 3], [4, 5, 6]]
        assert f"HTTP {status}" in sender.statistics.last_error
        assert sender.statistics.errors == {str(status): 1}


def test_partial_success_is_counted_and_never_sent_again() -> None:
    partial = b"\x0a\x07\x08\x02\x12\x03bad"
    with sending(lambda _: Reply(200, partial)) as (sender, seen):
        sender.submit(message_of())
        assert settle(sender) == {PARTIAL_SUCCESS: 2}
        assert sender.statistics.delivered_items == 1
        assert len(seen.bodies) == 1


def test_retries_end_with_the_export_timeout() -> None:
    with sending(lambda _: Reply(503), export_timeout=0.2) as (sender, _):
        sender.submit(message_of())
        assert settle(sender) == {RETRIES_EXHAUSTED: 3}
        assert sender.statistics.last_error == "HTTP 503 Service Unavailable"


def test_a_wait_that_the_receiver_asks_for_is_kept_also_by_the_next_batch() -> None:
    times: list[float] = []

    def reply(n: int) -> Reply:
        times.append(time.monotonic())
        return Reply(429, headers={"Retry-After": "1"}) if n == 0 else Reply()

    with sending(reply, batch_items=3) as (sender, _):
        sender.submit(message_of())
        sender.submit(message_of(4))
        assert settle(sender) == {}
    assert times[1] - times[0] >= 1
    assert len(times) == 3


def test_a_wait_beyond_the_export_timeout_is_a_drop_at_once() -> None:
    with sending(lambda _: Reply(503, headers={"Retry-After": "3600"})) as (sender, seen):
        sender.submit(message_of())
        assert settle(sender) == {RETRIES_EXHAUSTED: 3}
        assert len(seen.bodies) == 1


def test_grpc_throttling_is_retried_and_exhaustion_without_retry_info_is_not() -> None:
    throttled = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_delay=0.05)
    exhausted = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED)
    answers = [throttled, Failure(), exhausted]
    with grpc_receiver(lambda n: answers[n]) as (host, seen), sender_to(host, protocol="grpc") as sender:
        sender.submit(message_of())
        assert settle(sender) == {}
        sender.submit(message_of(4))
        assert settle(sender) == {REFUSED: 3}
        assert len(seen.bodies) == 3


@pytest.mark.parametrize("limit", [{"queue_items": 7}, {"queue_bytes": 2 * len(message_of().data) + 10}])
def test_a_full_queue_drops_what_comes_and_counts_it(limit: dict[str, int]) -> None:
    answering = threading.Event()

    def reply(n: int) -> Reply:
        answering.wait(10)
        return Reply()

    with sending(reply, batch_items=3, **limit) as (sender, seen):
        taken = [sender.submit(message_of(first)) for first in (1, 4, 7, 10)]
        assert taken == [True, True, False, False]
        answering.set()
        assert settle(sender) == {QUEUE_FULL: 6}
        assert [ids_in(body) for body in seen.bodies] == [[1, 2, 3], [4, 5, 6]]


def test_closing_sends_what_waits() -> None:
    with http_receiver(lambda _: Reply()) as (host, seen):
        with sender_to(host, schedule_delay=60.0) as sender:
            sender.submit(message_of())
        assert len(seen.bodies) == 1
        assert not sender.submit(message_of())
        assert settle(sender) == {SHUTDOWN: 3}


@pytest.mark.parametrize("status", [503, None])
def test_closing_gives_up_in_time_and_counts_the_rest(status: int | None) -> None:
    """Given a receiver that is down or never answers, when closed with 0.2 s left, then all is counted as lost."""
    release = threading.Event()

    def reply(n: int) -> Reply:
        if status is None:
            release.wait(10)
        return Reply(status or 200)

    with http_receiver(reply) as (host, _), sender_to(host, batch_items=3) as sender:
        for first in (1, 4, 7):
            sender.submit(message_of(first))
        deadline = time.monotonic() + 0.2
        sender.begin_close(deadline)
        sender.finish_close(deadline)
        release.set()
        assert settle(sender) == {SHUTDOWN: 9}


def test_a_fault_in_a_transport_costs_its_batch_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty:
        calls = 0

        def send(self, body: bytes, timeout: float) -> Answer:
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("a bug")
            return Answer(Verdict.DELIVERED)

        def close(self) -> None:
            pass

    sender = Sender(SignalSettings("traces", "http://nowhere", schedule_delay=0.0), Faulty())
    sender.submit(message_of())
    assert settle(sender) == {FAULT: 3}
    sender.submit(message_of())
    assert settle(sender) == {FAULT: 3}
    assert sender.statistics.delivered_items == 3
    assert "3 items dropped: fault while sending: RuntimeError: a bug" in caplog.text
    assert "Traceback" not in caplog.text
    sender.begin_close(time.monotonic() + 1)
    sender.finish_close(time.monotonic() + 1)


def test_what_a_receiver_says_is_logged_as_plain_text_and_not_at_length(caplog: pytest.LogCaptureFixture) -> None:
    class Rude:
        def send(self, body: bytes, timeout: float) -> Answer:
            return Answer(Verdict.REFUSED, "no\x1b[2J\n" + "x" * 10_000)

        def close(self) -> None:
            pass

    sender = Sender(SignalSettings("traces", "http://nowhere", schedule_delay=0.0), Rude())
    sender.submit(message_of())
    assert settle(sender) == {REFUSED: 3}
    (said,) = caplog.messages
    assert "3 items dropped: no?[2J?xxx" in said
    assert said.isprintable() and len(said) < 400
    sender.begin_close(time.monotonic() + 1)
    sender.finish_close(time.monotonic() + 1)


def test_a_receiver_that_asks_to_wait_for_years_does_not_silence_its_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_ebpf.otlp.sender.LONGEST_RETRY_AFTER", 0.05)
    with sending(lambda n: Reply() if n else Reply(503, headers={"Retry-After": "999999999"})) as (sender, seen):
        sender.submit(message_of())
        assert settle(sender) == {}
        assert len(seen.bodies) == 2


def test_the_same_trouble_is_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    with sending(lambda _: Reply(400), batch_items=3) as (sender, _):
        for first in range(1, 31, 3):
            sender.submit(message_of(first))
        assert settle(sender) == {REFUSED: 30}
    assert len([record for record in caplog.records if "items dropped" in record.getMessage()]) == 1


def test_delays_double_up_to_the_longest_with_jitter() -> None:
    backoff = Backoff(first=1.0, longest=30.0, jitter=0.25)
    for attempt, base in enumerate((1, 2, 4, 8, 16, 30, 30)):
        delays = [backoff.delay(attempt) for _ in range(50)]
        assert base * 0.75 <= min(delays) < max(delays) <= base * 1.25
    assert backoff.delay(10_000) <= 37.5


def test_an_exporter_sends_each_signal_its_way_and_has_no_way_for_others() -> None:
    with http_receiver(lambda _: Reply()) as (host, seen):
        signals = {
            name: SignalSettings(name, f"http://{host}/{name}", schedule_delay=60.0) for name in ("traces", "logs")
        }
        exporter = Exporter(OtlpSettings(signals))
        data, items = message_of()
        assert exporter.exports("traces")
        assert not exporter.exports("metrics")
        assert exporter.submit("traces", data, items)
        assert exporter.submit("logs", data, items)
        assert not exporter.submit("metrics", data, items)
        assert exporter.flush()
        assert sorted(seen.paths) == ["/logs", "/traces"]
        exporter.submit("logs", data, items)
        exporter.close()
        assert {name: s.delivered_items for name, s in exporter.statistics.items()} == {"traces": 3, "logs": 6}
        assert set(exporter.statistics["traces"].dropped) == set(REASONS)


def test_flush_says_whether_it_came_to_an_end(tmp_path: Path) -> None:
    with http_receiver(lambda _: Reply(503)) as (host, _):
        exporter = Exporter(OtlpSettings({"traces": SignalSettings("traces", f"http://{host}/", export_timeout=60.0)}))
        exporter.submit("traces", *message_of())
        assert not exporter.flush(0.2)
        exporter.close(0.1)
        assert exporter.statistics["traces"].dropped[SHUTDOWN] == 3


def test_a_small_queue_of_spans_has_room_for_the_data_points_of_an_interval() -> None:
    given = {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50"}
    config = load(env={**given, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    signals = otlp_settings(config).signals
    assert (signals["traces"].queue_items, signals["traces"].batch_items) == (100, 50)
    assert signals["metrics"].queue_items >= 10 * MAX_POINTS
