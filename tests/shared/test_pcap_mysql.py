"""MySQL as DeepFlow recorded it."""

from __future__ import annotations

from typing import Any

import pytest

from otel_ebpf.protocols.base import Options, Session
from otel_ebpf.protocols.mysql import MySQL
from tests.shared.pcap import conversations, exchanges

pytestmark = pytest.mark.shared

NOT_REPORTED = {"COM_QUIT"}


def operations(truth: dict[str, Any]) -> set[str]:
    """The readings of `operation` that are right, in upper case."""
    also = truth.get("also", {}).get("operation", [])
    return {name.upper() for name in [truth["operation"], *(also if isinstance(also, list) else [also])]}


def test_recorded_exchanges_are_read_as_they_are_known_to_be() -> None:
    module = MySQL()
    sessions: dict[tuple[str, str], Session] = {}
    count = 0
    for truth, request, response in exchanges("mysql"):
        session = sessions.setdefault((truth["capture"], truth["client"]), Session())
        assert module.detect(request, response) >= 0.8, truth
        readings = module.parse(request, response, session, Options(redact=False))
        count += 1
        if truth["operation"] in NOT_REPORTED or (truth["operation"] == "LOGIN" and not truth["error"]):
            assert not readings
            continue
        [reading] = readings
        attributes = dict(reading.fields.client.attributes)
        assert str(attributes["db.operation.name"]).upper() in operations(truth)
        assert attributes["db.system.name"] == "mysql"
        if reading.texts:
            text, whole = (" ".join(text.split()) for text in (reading.texts[0], truth["resource"]))
            # the sizes that are known of a compressed exchange leave out its own headers: the bytes end too early
            assert text == whole or ("compressed" in truth["capture"] and len(text) > 30 and whole.startswith(text))
        assert reading.fields.status == truth.get("status", "")
        assert reading.fields.client.error is truth["error"]
    assert count == 17


def test_whole_connections_are_followed() -> None:
    module = MySQL()
    names = {}
    for capture in ("mysql", "mysql-error", "mysql-exec", "mysql-login-error", "mysql-compressed-response"):
        for conversation in conversations(f"mysql/{capture}"):
            session = Session()
            names[capture] = [
                reading.fields.client.name
                for request, response in conversation.turns()
                for reading in module.parse(request[:1024], response[:512], session, Options())
            ]
    assert names == {
        "mysql": ["SET", "set", "SET", "SHOW", "rollback"],
        "mysql-error": ["select", "SELECT", "COM_INIT_DB abcd"],
        "mysql-exec": ["COM_STMT_PREPARE INSERT `controller`", "INSERT `controller`"],
        "mysql-login-error": ["CONNECT mydemo-dn1"],
        "mysql-compressed-response": ["SELECT `az_controller_connection`"],
    }
