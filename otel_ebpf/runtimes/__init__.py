"""Runtimes whose units of execution are not threads: found in running processes, and told to the kernel side."""

from __future__ import annotations

from otel_ebpf.runtimes.base import Recogniser
from otel_ebpf.runtimes.go import Go
from otel_ebpf.runtimes.jvm import Jvm
from otel_ebpf.runtimes.node import Node
from otel_ebpf.runtimes.python import Python


def recognisers() -> list[Recogniser]:
    """One of each runtime; a new one is a module here and an entry in this list."""
    return [Go(), Jvm(), Node(), Python()]
