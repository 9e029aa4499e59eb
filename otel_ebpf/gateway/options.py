"""The options of `otel-ebpf gateway`; imports little, since every command's help reads it."""

from __future__ import annotations

import argparse

from otel_ebpf.viewer.options import add_receivers

WINDOW, MEMORY = "5s", "256MiB"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where it goes to is the configuration's: --otlp-endpoint and so on."""
    add = parser.add_argument
    add_receivers(parser)
    parser.set_defaults(listen="")
    add("--window", metavar="TIME", default=WINDOW, help="how long spans wait for those of other hosts (%(default)s)")
    add("--memory", metavar="BYTES", default=MEMORY, help="how much of them may wait (%(default)s)")
    add("--shard", metavar="I/N", default="0/1", help="the I-th, from 0, of N gateways that share the work")
    add("--peer", metavar="URL", action="append", default=[], help="with --shard: OTLP/HTTP of each of the N, in order")
