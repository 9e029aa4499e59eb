"""The agent beside the shop, and the questions that the demo asks of its viewer."""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from otel_ebpf.demo.processes import Processes, Service
from otel_ebpf.errors import UnsupportedError

_LEAST_SPANS, _LEAST_SERVICES = 5, 4
_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Trace:
    """How much there is of one."""

    spans: int
    services: int


class Observer:
    """`otel-ebpf run`, with a viewer of its own whose store dies with the demo. page: its address, "" until ready."""

    def __init__(self, processes: Processes, folder: Path, listen: str) -> None:
        self._processes = processes
        keys = {
            "viewer.listen": listen,
            "viewer.store": str(folder / "store"),
            "admin.address": "none",
            "signals": "traces,metrics,logs",
        }
        command = [sys.executable, "-m", "otel_ebpf.cli", "run", "--output", "none", "--viewer"]
        command += [part for name, value in keys.items() for part in ("--set", f"{name}={value}")]
        self.service: Service = processes.start("agent", command)
        self.page = ""

    def await_ready(self) -> None:
        """Wait until the agent observes and the page is served. UnsupportedError: with what the agent says."""
        self._processes.await_word(self.service, "ready")
        said = self.service.log.read_text(errors="replace")
        found = re.search(r"^view: (http\S+)$", said, re.MULTILINE)
        if found is None:
            why = re.search(r"no viewer: (.*?)(?:; the live lines.*)?$", said, re.MULTILINE)
            raise UnsupportedError(f"demo: no viewer: {why[1] if why else 'the agent does not say why'}")
        self.page = found[1]

    def whole_trace(self) -> Trace | None:
        """One that goes from nginx as far as a database; None: not yet."""
        asked = urllib.parse.urlencode({"start": "-5m", "end": "now", "service": "nginx", "limit": 20})
        try:
            with urllib.request.urlopen(f"{self.page}api/v1/traces?{asked}", timeout=_TIMEOUT_S) as response:
                traces = json.load(response)["traces"]
        except (OSError, ValueError, KeyError, urllib.error.HTTPError):
            return None
        for trace in traces:
            if trace["spans"] >= _LEAST_SPANS and len(trace["services"]) >= _LEAST_SERVICES:
                return Trace(trace["spans"], len(trace["services"]))
        return None
