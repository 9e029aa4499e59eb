"""The id in X-Request-Id: which ones count, and whose call a call with one is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.model import Flag, Kind, Link
from otel_ebpf.protocols.headers import Lines
from otel_ebpf.tracing.assemble import Assembler
from otel_ebpf.tracing.request_ids import NO_ID, UNKNOWN, request_ids
from tests.unit.tracing_world import MS, Host, Process, Row, spans

UUID, OTHER = "f2b0a6d8-5c1f-4be2-9d63-0a7c1b8e4f55", "f2b0a6d8-5c1f-4be2-9d63-0a7c1b8e4f56"
WIDTH = 256
NONE_OPEN = (np.zeros(0, np.uint32), None)
ID, ANOTHER = 77, 78


def ids(*messages: bytes) -> list[int]:
    matrix = np.zeros((len(messages), WIDTH), np.uint8)
    for i, message in enumerate(messages):
        matrix[i, : len(message[:WIDTH])] = np.frombuffer(message[:WIDTH], np.uint8)
    found: list[int] = request_ids(Lines.of(matrix)).tolist()
    return found


def request(*values: str, name: str = "X-Request-Id") -> bytes:
    lines = ["GET / HTTP/1.1", "Host: h", *(f"{name}: {value}" for value in values), "", ""]
    return "\r\n".join(lines).encode()


def test_equal_ids_give_equal_numbers_whatever_the_case_of_name_and_digits() -> None:
    one, same, other = ids(request(UUID), request(UUID.upper(), name="x-request-id"), request(OTHER))
    assert one == same != other
    assert min(one, other) > UNKNOWN


def test_an_id_without_dashes_counts_with_all_its_digits() -> None:
    one, other = ids(request("0af7651916cd43dd8448eb211c80319c"), request("0af7651916cd13dd8448eb211c80319c"))
    assert one != other and min(one, other) > UNKNOWN


def test_the_place_in_which_envoy_notes_that_it_traces_tells_no_ids_apart() -> None:
    assert len(set(ids(*(request(UUID[:14] + digit + UUID[15:]) for digit in "49ab")))) == 1


@pytest.mark.parametrize(
    "value",
    [
        *("", "7", "request-124", "10.0.0.1:4711-1700000000", UUID[:-1], UUID + "0", UUID.replace("-", "_")),
        *("g" + UUID[1:], "{" + UUID[1:-1] + "}", UUID + "#1"),
        "c232ab00-9414-11ec-b3c8-9f6bdeced846",
        "1ec9414c-232a-6b00-b3c8-9f6bdeced846",
    ],
)
def test_an_id_that_can_be_guessed_counts_for_nothing(value: str) -> None:
    assert ids(request(value)) == [NO_ID]


def test_it_is_not_known_which_of_several_is_meant_nor_what_a_head_bears_that_was_cut() -> None:
    assert ids(request(UUID, OTHER), b"GET / HTTP/1.1\r\nCookie: " + b"c" * WIDTH) == [UNKNOWN, UNKNOWN]


@given(st.lists(st.binary(max_size=WIDTH), max_size=8))
def test_any_bytes_give_a_number_for_each_message(messages: list[bytes]) -> None:
    assert len(ids(*messages)) == len(messages)


class Service:
    """A program of which nothing tells whose calls are whose but the ids."""

    def __init__(self) -> None:
        self.host = Host()
        self.process = self.host.process()
        self.rows: list[Row] = []

    def request(self, start: float, end: float, request_id: int, shape: int = 7, answered: bool = True) -> Row:
        flags = Flag.EPOLL if answered else Flag.EPOLL | Flag.UNANSWERED
        columns: Row = {"request_id": request_id, "shape": shape}
        return self._add(self.host.request(self._thread(), start, end, flags=flags, columns=columns))

    def call(self, start: float, end: float, request_id: int) -> Row:
        flags = Flag.EPOLL | Flag.MANY
        return self._add(self.host.call(self._thread(), start, end, flags=flags, columns={"request_id": request_id}))

    def parents(self, *calls: Row) -> Sequence[tuple[int, Link]]:
        """Parent of each, 0: none; and how it was found."""
        assembler = Assembler()
        given = []
        for now in range(100, 12_000, 100):
            came = [row for row in self.rows if now - 100 < row["end"] // MS + 1 <= now]
            opened = [row["start"] for row in self.rows if row["kind"] == Kind.SERVER and row["end"] > now * MS]
            assembler.hear(None, NONE_OPEN if not opened else self._open(min(opened)), now * MS)
            given.append(assembler.feed(spans(came), now * MS))
        given.append(assembler.flush())
        found = {
            int(span): (int(parent), Link(int(link)))
            for batch in given
            for span, parent, link in zip(batch.span_id, batch.parent, batch.link, strict=True)
        }
        return [found[call["span_id"]] for call in calls]

    def _open(self, since: int) -> tuple[np.ndarray, np.ndarray]:
        opened = np.zeros(1, [("t", np.uint64), ("recent", np.uint64)])
        opened["t"] = opened["recent"] = since
        return np.array([self.process.pid], np.uint32), opened

    def _thread(self) -> Process:
        return self.process.thread(len(self.rows))

    def _add(self, row: Row) -> Row:
        self.rows.append(row)
        return row


def test_a_call_with_the_id_of_one_request_is_for_that() -> None:
    service = Service()
    requests = [service.request(10, 100, ID), service.request(11, 90, ANOTHER)]
    calls = [service.call(30, 50, ANOTHER), service.call(31, 80, ID), service.call(95, 98, ID)]
    assert service.parents(*calls) == [(requests[i]["span_id"], Link.REQUEST_ID) for i in (1, 0, 0)]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"start": 11, "end": 90, "request_id": ID}, id="both at once"),
        pytest.param({"start": 12, "end": 4000, "request_id": ID}, id="which ends long after"),
        pytest.param({"start": 1, "end": 5, "request_id": ID}, id="a retry"),
        pytest.param({"start": 1, "end": 5, "request_id": ID, "answered": False}, id="given up"),
        pytest.param({"start": 12, "end": 4000, "request_id": int(UNKNOWN)}, id="whose head was cut"),
        pytest.param({"start": 12, "end": 90, "request_id": 0, "shape": -2}, id="of a protocol that is not read"),
    ],
)
def test_no_call_is_for_a_request_if_another_may_have_its_id(other: dict[str, object]) -> None:
    service = Service()
    service.request(10, 100, ID)
    service.request(**other)  # type: ignore[arg-type]
    assert service.parents(service.call(30, 50, ID)) == [(0, Link.NONE)]


def test_no_call_is_for_a_request_that_is_over_or_has_not_come() -> None:
    service = Service()
    service.request(10, 100, ID)
    calls = [service.call(5, 50, ID), service.call(120, 150, ID), service.call(30, 40, ANOTHER)]
    assert service.parents(*calls) == [(0, Link.NONE)] * 3
