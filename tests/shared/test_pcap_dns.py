"""DNS as DeepFlow recorded it."""

from __future__ import annotations

import pytest

from otel_ebpf.protocols.base import Options, Session
from otel_ebpf.protocols.dns import Dns
from tests.shared.pcap import exchanges

pytestmark = pytest.mark.shared


def test_recorded_exchanges_are_read_as_they_are_known_to_be() -> None:
    dns = Dns()
    count = 0
    for truth, request, response in exchanges("dns"):
        assert dns.detect(request, response) >= 0.9
        [reading] = dns.parse(request, response, Session(), Options())
        assert reading.fields.client.name == f"DNS {truth['operation']}"
        assert reading.texts == (truth["attributes"]["dns.question.name"],) == (truth["resource"],)
        assert reading.fields.status == truth["status"]
        assert reading.fields.client.error is truth["error"]
        answers = truth["attributes"].get("dns.answers", [])
        assert list(dict(reading.fields.client.attributes).get("dns.answers", ())) == answers  # type: ignore[arg-type]
        assert [(name, address) for name, address, _ in dns.answers(response)] == [
            (truth["resource"], address) for address in answers
        ]
        count += 1
    assert count == 4
