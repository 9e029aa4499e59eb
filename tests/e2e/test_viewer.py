"""The viewer as a process: what it acknowledged is there after SIGKILL; what stands in its way is one line."""

from __future__ import annotations

import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from otel_ebpf.viewer.store import Database
from tests.unit.viewer_requests import request, span
from tests.viewer import Viewer, end, serving, start, viewer


def post(at: Viewer, body: bytes) -> int:
    """Status of one OTLP/HTTP request."""
    headers = {"content-type": "application/x-protobuf"}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://{at.http}/v1/traces", body, headers)) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code


def test_what_was_acknowledged_is_there_after_sigkill_under_load(tmp_path: Path) -> None:
    at = serving(start(tmp_path))
    acknowledged: list[int] = []
    stop = threading.Event()

    def send(sender: int) -> None:
        number = sender * 10**9
        while not stop.is_set():
            spans = [span(number + i + 1, trace=number + i + 1) for i in range(100)]
            try:
                if post(at, request({f"service-{sender}": spans})) == 200:
                    acknowledged.extend(range(number + 1, number + 101))
            except OSError:
                return
            number += 100

    senders = [threading.Thread(target=send, args=(number,)) for number in range(1, 5)]
    for sender in senders:
        sender.start()
    time.sleep(3)
    at.process.send_signal(signal.SIGKILL)
    at.process.wait()
    stop.set()
    for sender in senders:
        sender.join()
    assert len(acknowledged) > 1000
    with viewer(tmp_path) as again:
        again.get("/api/v1/status")
    stored = Database(tmp_path)
    found = {row["span_id"] for row in stored.rows("SELECT span_id FROM spans")}
    assert set(acknowledged) <= found
    sums = stored.rows("SELECT count(*)::INT AS spans, (SELECT sum(calls)::INT FROM operations) AS calls FROM spans")[0]
    assert sums["spans"] == sums["calls"]
    stored.close()


def test_two_viewers_on_one_store_is_one_line(tmp_path: Path) -> None:
    with viewer(tmp_path) as first:
        second = start(tmp_path)
        said = end(second) if second.wait(60) else ""
        assert second.returncode == 1
        assert f"in use by another viewer (pid {first.process.pid})" in said
        assert said.count("\n") == 1


@pytest.mark.parametrize("option", ["--listen", "--otlp-grpc", "--otlp-http"])
def test_a_port_in_use_is_one_line_that_names_its_owner_and_the_remedy(tmp_path: Path, option: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        place = f"127.0.0.1:{holder.getsockname()[1]}"
        process = start(tmp_path, option, place)
        process.wait(60)
        said = end(process)
        assert process.returncode == 1
        assert place in said and "(pid " in said and option in said and said.count("\n") == 1
        with viewer(tmp_path, option, place, "--choose-ports") as chosen:
            assert place not in (chosen.page.partition("//")[2], chosen.grpc, chosen.http)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--listen", "0.0.0.0:0"), "--token"),
        (("--listen", "nonsense"), "'nonsense' is no address"),
        (("--keep", "5 moons"), "--keep: '5 moons' is not"),
        (("--size", "1"), "--size: '1' is not"),
        (("--token-file", "/nowhere"), "--token-file /nowhere"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    process = start(tmp_path, *options)
    process.wait(60)
    heard = end(process)
    assert process.returncode == 2
    assert said in heard and heard.count("\n") == 1


def test_it_ends_by_signal_with_what_it_took_written(tmp_path: Path) -> None:
    with viewer(tmp_path) as at:
        assert post(at, request({"shop": [span(1)]})) == 200
    assert at.process.returncode == 0
    stored = Database(tmp_path)
    assert stored.rows("SELECT service FROM spans") == [{"service": "shop"}]
    stored.close()
