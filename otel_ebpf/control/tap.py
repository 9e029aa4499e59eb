"""`otel-ebpf tap [FILTER]`: the live lines alone, as tcpdump would print them; nothing is exported.

    otel-ebpf tap 'service=shop duration>100ms'
    otel-ebpf tap --json 'status>=500' | jq .name

The language of filters is documented in `filter`, the keys of the JSON lines in `jsonlines`.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from otel_ebpf.config import Config
from otel_ebpf.control.filter import Filter
from otel_ebpf.control.pace import Pace
from otel_ebpf.control.sinks import JsonSink, TextSink
from otel_ebpf.control.tables import Sink
from otel_ebpf.protocols import registry


def main(config: Config, filter_text: str, json: bool) -> int:
    """Observe until SIGTERM, SIGINT, or until the reader of the lines has gone; returns the exit code.

    A terminal gets as many lines as a person can take in; a pipe or a file gets all of them. ConfigError: the filter is
    wrong.
    """
    filter_ = Filter.parse(filter_text, [protocol.name for protocol in registry()])
    from otel_ebpf import agent

    sink: Sink
    if json:
        sink = JsonSink(sys.stdout, filter_)
    else:
        sink = TextSink(sys.stdout, filter_, Pace() if sys.stdout.isatty() else None)
    return agent.run(without_export(config), [sink])


def without_export(config: Config) -> Config:
    """The configuration for a look: nothing leaves, and the admin address is left to an agent that may be running,
    unless somebody asked for one here."""
    asked = config.origins.get("admin.address", "default") != "default"
    return replace(
        config, signals=(), output="none", admin=config.admin if asked else replace(config.admin, address="none")
    )
