"""Which protocol it is, of the traffic that DeepFlow recorded."""

from __future__ import annotations

import pytest

from otel_ebpf.protocols import registry
from otel_ebpf.protocols.base import Protocol
from tests.shared.pcap import exchanges

pytestmark = pytest.mark.shared

FOLDERS = {name: name for name in ("http", "redis", "mysql", "dns", "fastcgi")} | {
    "postgresql": "postgre",
    "grpc": "http",
}
OTHERS = ("memcached", "mongo", "nats", "kafka", "amqp", "mqtt", "dubbo")


@pytest.mark.parametrize("module", registry(), ids=lambda module: module.name)
def test_what_others_say_is_not_taken_for_ones_own(module: Protocol) -> None:
    for folder in {*FOLDERS.values(), *OTHERS} - {FOLDERS[module.name]}:
        for truth, request, response in exchanges(folder):
            assert module.detect(request, response) < 0.5, truth
