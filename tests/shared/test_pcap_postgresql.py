"""PostgreSQL as DeepFlow recorded it."""

from __future__ import annotations

import pytest

from otel_ebpf.protocols.base import Options, Session
from otel_ebpf.protocols.postgresql import PostgreSQL
from tests.shared.pcap import exchanges

pytestmark = pytest.mark.shared


def test_recorded_exchanges_are_read_as_they_are_known_to_be() -> None:
    module = PostgreSQL()
    count = 0
    for truth, request, response in exchanges("postgre"):
        assert module.detect(request, response) >= 0.9
        [reading] = module.parse(request, response, Session(), Options(redact=False))
        attributes = dict(reading.fields.client.attributes)
        assert str(attributes.get("db.operation.name", "")).upper() == truth.get("operation", "")
        assert attributes["db.system.name"] == truth["attributes"]["db.system.name"]
        assert reading.texts == (truth["resource"],)
        assert reading.fields.status == truth.get("status", "")
        assert reading.fields.client.error is truth["error"]
        count += 1
    assert count == 2
