"""Redis as DeepFlow recorded it."""

from __future__ import annotations

import pytest

from otel_ebpf.protocols.base import Options, Session
from otel_ebpf.protocols.redis import Redis
from tests.shared.pcap import exchanges

pytestmark = pytest.mark.shared


def test_recorded_exchanges_are_read_as_they_are_known_to_be() -> None:
    redis = Redis()
    count = 0
    for truth, request, response in exchanges("redis"):
        assert redis.detect(request, response) >= 0.9
        [reading] = redis.parse(request, response, Session(), Options(redact=False))
        attributes = dict(reading.fields.client.attributes)
        assert attributes["db.operation.name"] == reading.fields.client.name == truth["operation"]
        assert attributes["db.system.name"] == truth["attributes"]["db.system.name"]
        assert reading.texts == (truth["resource"],)
        assert reading.fields.status == truth.get("status", "")
        assert reading.fields.client.error is truth["error"]
        count += 1
    assert count == 2
