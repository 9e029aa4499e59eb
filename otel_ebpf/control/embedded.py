"""`otel-ebpf view` as a child of the agent, which exports to it as to any other backend.

The child ends with us, however we end; and it ends last, after the exporter was flushed. What it says on stderr is
passed on. When it dies that is said once, and the agent goes on: what it cannot deliver then is counted, as with every
backend that is gone.

>>> with embedded_viewer(config, stop=stopping) as viewer:
...     viewer.page, viewer.http
('http://127.0.0.1:8890/', '127.0.0.1:4318')
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, cast
from urllib.parse import urlsplit

from otel_ebpf.config import Config
from otel_ebpf.config.kinds import Duration
from otel_ebpf.config.schema import Viewer as Keys
from otel_ebpf.control import child

ANNOUNCED_S = 30.0
"""How long it may take until it serves; a large store takes its time to be opened."""
CLOSE_S = 5.0
_LONGEST_LINE = 4096
_PREFIX = "otel-ebpf: "


class EmbeddedViewer:
    """A viewer that serves. page: URL. http: host:port of OTLP. ports: all that it listens on.

    notes: what the operator should know: that it has ended.
    """

    def __init__(self, process: subprocess.Popen[bytes], page: str, grpc: str, http: str) -> None:
        self.pid = process.pid
        self.page, self.http = page, http
        self.ports = frozenset(urlsplit(f"//{at.partition('//')[2] or at}").port or 0 for at in (page, grpc, http))
        self.notes: list[str] = []
        self._process = process
        self._closing = False
        self._thread = threading.Thread(target=self._listen, name="viewer", daemon=True)
        self._thread.start()

    def receiving(self, config: Config) -> Config:
        """The configuration with this viewer as the endpoint of all signals."""
        otlp = replace(config.otlp, endpoint=f"http://{self.http}", protocol="http/protobuf")
        return replace(config, otlp=otlp)

    def close(self) -> None:
        """End it; it writes what it has taken."""
        self._closing = True
        child.end(self._process, signal.SIGTERM, CLOSE_S)
        self._thread.join(1.0)

    def _listen(self) -> None:
        """Pass on what it says, until it ends."""
        last = ""
        stderr = cast("IO[bytes]", self._process.stderr)
        while line := stderr.readline(_LONGEST_LINE):
            if last := line.decode(errors="replace").strip():
                _say(last.removeprefix(_PREFIX))
        if self._closing:
            return
        note = f"the viewer has ended (exit {self._process.wait()}): what is observed is shown here only"
        self.notes.append(note)
        _say(note)


@contextmanager
def embedded_viewer(config: Config, stop: int) -> Iterator[EmbeddedViewer | None]:
    """A viewer that serves while the context lasts. To be entered in the main thread.

    stop: a descriptor that can be read when we are to end. None: the configuration wants none; or it does not serve,
    and why was said on stderr in one line; or we are to end.
    """
    viewer = _start(config.viewer, stop) if config.embeds_viewer else None
    try:
        yield viewer
    finally:
        if viewer is not None:
            viewer.close()


def _start(keys: Keys, stop: int) -> EmbeddedViewer | None:
    command = [sys.executable, "-m", "otel_ebpf.cli", "view", "--announce", "--choose-ports", "--listen", keys.listen]
    command += ["--keep", Duration().show(keys.keep), "--size", str(keys.size)]
    command += ["--store", keys.store] if keys.store else []
    # A token is for those who listen to others: here it would only shut us out.
    environment = {name: value for name, value in os.environ.items() if name != "OTEL_EBPF_VIEW_TOKEN"}
    try:
        process = child.start(command, environment=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        _say(f"no viewer: {error}")
        return None
    stdout, stderr = cast("IO[bytes]", process.stdout), cast("IO[bytes]", process.stderr)
    readable = select.select([stdout.fileno(), stop], [], [], ANNOUNCED_S)[0]
    line = stdout.readline(_LONGEST_LINE) if stdout.fileno() in readable else b""
    try:
        return EmbeddedViewer(process, **json.loads(line))
    except (ValueError, TypeError):  # it has ended, or is not there in time
        child.end(process, signal.SIGTERM, CLOSE_S)
    if stop not in readable:
        said = stderr.read(_LONGEST_LINE).decode(errors="replace").strip().split("\n")[-1]
        why = said.removeprefix(_PREFIX).removeprefix("error: ") or f"not ready within {ANNOUNCED_S:.0f} s"
        _say(f"no viewer: {why}; the live lines go on without")
    return None


def _say(text: str) -> None:
    sys.stderr.write(f"{_PREFIX}{text}\n")
