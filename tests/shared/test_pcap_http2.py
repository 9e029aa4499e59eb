"""HTTP/2 and gRPC as DeepFlow recorded them: three captures, one of which begins inside a connection."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from otel_ebpf.model import Flag, Intern
from otel_ebpf.protocols.base import Fields, Options
from otel_ebpf.protocols.engine import Engine
from otel_ebpf.protocols.grpc import STATUSES
from otel_ebpf.protocols.http2.streams import Streams
from tests.shared.pcap import PCAPS, conversations
from tests.unit.exchanges import NOW, connections
from tests.unit.http2_wire import EXCHANGE, PREFACE, Wire

pytestmark = pytest.mark.shared


def told(name: str) -> list[tuple[Any, dict[str, object]]]:
    """The record of each stream of the capture, and what the server's span has."""
    [conversation] = conversations(f"http/{name}")
    said = [(time, True, data) for time, data in conversation.request.pieces]
    said += [(time, False, data) for time, data in conversation.response.pieces]
    said.sort(key=lambda one: one[0])
    began = conversation.request.data.startswith(PREFACE)
    wire = Wire(flags=0 if began else int(Flag.MIDSTREAM))
    for time, by_client, data in said:
        (wire.sent_by_client if by_client else wire.sent_by_server)(data, time)
    streams, shapes = Streams(EXCHANGE), Intern[Fields](100)
    batches = [*streams.read(wire.frames(), said[-1][0]), *streams.finish()]
    engine = Engine(connections(1), shapes, Options(redact=False))
    found: list[tuple[Any, dict[str, object]]] = []
    for batch in batches:
        spans = engine.parse_batches([batch], NOW)
        for i, shape in enumerate(spans.shape.tolist()):
            side = shapes[shape].server
            at = zip(spans.slot_start[i].tolist(), spans.slot_length[i].tolist(), strict=True)
            texts = [spans.text[start : start + size].tobytes().decode() for start, size in at]
            slots = {slot.attribute: texts[slot.index] for slot in side.slots if texts[slot.index]}
            found.append((batch.head[i], {**dict(side.attributes), **slots}))
    return sorted(found, key=lambda one: int(one[0]["n"]))


@pytest.mark.parametrize("name", ["grpc-unary", "grpc-server-stream", "http2-multi"])
def test_recorded_streams_are_read_as_they_are_known_to_be(name: str) -> None:
    truths = yaml.safe_load((PCAPS / "http" / f"{name}.yaml").read_text())["exchanges"]
    found = told(name)
    assert [int(head["n"]) for head, _ in found] == [truth["ids"]["stream_id"] for truth in truths]
    for truth, (head, said) in zip(truths, found, strict=True):
        known = truth["attributes"]
        assert head["t_req"] == truth["start"]
        assert head["t_rsp"] == truth["response_start"]
        assert head["t_rsp_end"] // 1000 * 1000 == truth.get("response_end", truth["response_start"])
        assert ("error.type" in said) == truth["error"]
        if truth["protocol"] == "grpc":  # the conventions have renamed these since
            assert said["rpc.system.name"] == known["rpc.system"]
            assert said["rpc.method"] == f"{known['rpc.service']}/{known['rpc.method']}"
            code = known.get("rpc.grpc.status_code")
            assert said.get("rpc.status_code") == (None if code is None else STATUSES[code])
            assert said["server.address"] == known["server.address"]
        else:
            assert said.items() >= known.items()
            assert "url.path" not in said  # it was said before the capture began
