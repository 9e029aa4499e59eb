"""HTTP/1.1 as DeepFlow recorded it."""

from __future__ import annotations

import pytest

from otel_ebpf.protocols.base import Options, Session
from otel_ebpf.protocols.http import Http
from tests.shared.pcap import exchanges

pytestmark = pytest.mark.shared


def test_recorded_exchanges_are_read_as_they_are_known_to_be() -> None:
    http = Http()
    count = 0
    for truth, request, response in exchanges("http"):
        known = truth.get("attributes", {})
        if known.get("network.protocol.version") != "1.1":
            assert http.detect(request, response) < 0.5, truth  # HTTP/2 is another protocol
            continue
        assert http.detect(request, response) == 1.0
        [reading] = http.parse(request, response, Session(), Options(redact=False))
        said = {
            **dict(reading.fields.server.attributes),
            **{slot.attribute: reading.texts[slot.index] for slot in reading.fields.server.slots},
        }
        opt_in = {"http.request.body.size", "http.response.body.size"}
        assert {k: v for k, v in known.items() if k in said or k not in opt_in}.items() <= said.items()
        assert reading.fields.status == truth["status"]
        assert reading.fields.client.error is truth["error"]
        assert http.complete(request, response, len(request), len(response)) is True
        count += 1
    assert count >= 1
