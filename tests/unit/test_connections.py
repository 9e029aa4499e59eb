"""Connections, their index and their endpoints: what whole columns say is what dictionaries and loops would say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from otel_ebpf.capture.connections import CONNECTION_SERVER, FORGET_NS, UNDECIDED, Connections
from otel_ebpf.capture.endpoints import Endpoints, endpoint
from otel_ebpf.capture.index import NOT_THERE, Index
from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Kind


@pytest.fixture(scope="module")
def dtype() -> np.dtype[np.void]:
    return Btf.of_object(object_path("requests")).dtype("connection")


def announced(dtype: np.dtype[np.void], *ids: int, remote: int = 1, port: int = 8080) -> NDArray[np.void]:
    records = np.zeros(len(ids), dtype)
    records["id"] = ids
    records["protocol"] = 6
    records["remote_port"], records["local_port"] = 40_000 + np.arange(len(ids)), port
    records["local"] = np.frombuffer(bytes(10) + b"\xff\xff\x7f\0\0\1", np.uint8)
    records["remote"] = np.frombuffer(bytes(10) + b"\xff\xff\x0a\0\0" + bytes([remote]), np.uint8)
    return records


_STEPS = st.lists(st.tuples(st.booleans(), st.sets(st.integers(1, 2**64 - 1) | st.integers(1, 300))), max_size=12)


@given(_STEPS)
def test_an_index_finds_what_a_dictionary_would(steps: list[tuple[bool, set[int]]]) -> None:
    index, twin = Index(), dict[int, int]()
    for add, numbers in steps:
        if add:
            new = {number: len(twin) + i for i, number in enumerate(sorted(numbers - twin.keys()))}
            index.put(np.array(list(new), np.uint64), np.array(list(new.values()), np.int32))
            twin |= new
        else:
            gone = numbers & twin.keys()
            index.drop(np.array(sorted(gone), np.uint64))
            twin = {number: row for number, row in twin.items() if number not in gone}
        asked = [*numbers, *twin, 5]
        assert index.find(np.array(asked, np.uint64)).tolist() == [twin.get(n, NOT_THERE) for n in asked]
        assert len(index) == len(twin)


def test_given_more_ids_than_slots_then_all_of_them_are_found() -> None:
    index = Index()
    ids = np.random.default_rng(1).choice(np.arange(1, 1 << 20), 20_000, replace=False).astype(np.uint64)
    for part in np.split(ids, 20):
        index.put(part, part.astype(np.int32))
    assert (index.find(ids) == ids.astype(np.int32)).all()
    index.drop(ids[:10_000])
    assert (index.find(ids[:10_000]) == NOT_THERE).all()
    assert (index.find(ids[10_000:]) == ids[10_000:].astype(np.int32)).all()


def test_given_an_end_announced_twice_in_one_batch_then_the_later_word_holds(dtype: np.dtype[np.void]) -> None:
    connections = Connections(dtype)
    records = announced(dtype, 5, 6, 5)
    records["peer"] = 0, 0, 9
    records["flags"] = CONNECTION_SERVER
    connections.update(records, 1)
    rows = connections.rows(np.array([5, 6, 7], np.uint64), 1)
    assert len(connections) == 2
    assert rows[2] == NOT_THERE
    assert connections.pair[rows[:2]].tolist() == [9, 6]


def test_given_a_client_that_never_knew_its_server_then_both_ends_have_its_name(dtype: np.dtype[np.void]) -> None:
    connections = Connections(dtype)
    records = announced(dtype, 8, 3)
    records["peer"] = 0, 8
    records["flags"] = 0, CONNECTION_SERVER
    connections.update(records, 1)
    assert connections.pair[connections.rows(np.array([8, 3], np.uint64), 1)].tolist() == [8, 8]


def test_given_more_connections_than_rows_when_some_close_then_their_rows_serve_others(
    dtype: np.dtype[np.void],
) -> None:
    connections = Connections(dtype, capacity=2)
    connections.update(announced(dtype, *range(1, 101)), 1)
    rows = connections.rows(np.arange(1, 101, dtype=np.uint64), 1)
    assert len(set(rows.tolist())) == 100
    connections.protocol[rows] = 3
    connections.session(int(rows[0]))
    capacity = len(connections.table)
    connections.close(np.concatenate([rows[:50], rows[:50], [NOT_THERE]]).astype(np.int32))
    assert (len(connections), connections.sessions) == (50, {})
    connections.update(announced(dtype, *range(101, 151)), 1)
    assert len(connections.table) == capacity
    again = connections.rows(np.arange(101, 151, dtype=np.uint64), 1)
    assert set(again.tolist()) & set(rows[:50].tolist())
    assert (connections.protocol[again] == UNDECIDED).all()
    assert (connections.rows(np.arange(1, 51, dtype=np.uint64), 1) == NOT_THERE).all()
    assert (connections.table["id"][connections.rows(np.arange(51, 101, dtype=np.uint64), 1)] == range(51, 101)).all()


def test_what_nobody_used_is_forgotten(dtype: np.dtype[np.void]) -> None:
    connections = Connections(dtype)
    connections.update(announced(dtype, 1, 2), 0)
    connections.rows(np.array([2], np.uint64), FORGET_NS)
    connections.forget(FORGET_NS + 1)
    assert connections.rows(np.array([1, 2], np.uint64), FORGET_NS).tolist()[0] == NOT_THERE
    assert len(connections) == 1


def test_connections_with_the_same_addresses_share_their_endpoint(dtype: np.dtype[np.void]) -> None:
    connections = Connections(dtype)
    endpoints = Endpoints(connections)
    near, far = announced(dtype, 1, 2), announced(dtype, 3, remote=2)
    connections.update(np.concatenate([near, far]), 1)
    rows = connections.rows(np.array([1, 2, 3, 1, 2, 3], np.uint64), 1)
    kinds = np.array([Kind.SERVER] * 3 + [Kind.CLIENT] * 3, np.uint8)
    found = endpoints.ids(rows, kinds)
    told = [endpoints.table[number] for number in found.tolist()]
    assert told == [endpoint(connections.table[r], k == Kind.CLIENT) for r, k in zip(rows, kinds.tolist(), strict=True)]
    assert found[0] == found[1] != found[2]
    assert len(endpoints.table) == 5  # as a client's, what connects to other ports differs


def test_given_a_full_table_when_an_endpoint_is_forgotten_then_it_is_made_again(dtype: np.dtype[np.void]) -> None:
    connections = Connections(dtype)
    endpoints = Endpoints(connections, limit=2)
    rows = []
    for i in range(1, 4):
        connections.update(announced(dtype, i, remote=i), 1)
        rows.append(connections.rows(np.array([i], np.uint64), 1))
        endpoints.ids(rows[-1], np.array([Kind.SERVER], np.uint8))
    (number,) = endpoints.ids(rows[0], np.array([Kind.SERVER], np.uint8)).tolist()
    assert endpoints.table[number] == endpoint(connections.table[rows[0][0]], client=False)
    assert len(endpoints.table) == 2
