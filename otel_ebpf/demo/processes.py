"""Processes of the demo: started, waited for, and ended together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from otel_ebpf.control import child
from otel_ebpf.demo.stop import Stop
from otel_ebpf.errors import UnsupportedError

READY_S = 60.0
"""Generous: a busy machine, or an emulated one."""
_PATIENCE_S = 12.0
"""The agent may take 3.5 s to flush, and its viewer 5 s to write."""

Account = tuple[int, int]


@dataclass(slots=True)
class Service:
    """A process. log: the file with what it says."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    end_signal: signal.Signals


class Stopped(Exception):
    """A signal came while something was waited for."""


class Processes:
    """All processes of a folder. Errors are UnsupportedError, one line with the process's own last words."""

    def __init__(self, folder: Path, stop: Stop) -> None:
        self.folder = folder
        self._stop = stop
        self._services: list[Service] = []

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        account: Account | None = None,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        end_signal: signal.Signals = signal.SIGTERM,
        reads: Path = Path(os.devnull),
        heard: bool = False,
    ) -> Service:
        """Start a program; what it says goes to its log.

        environment: added to ours. reads: its stdin. heard: its stdout is a pipe.
        """
        log = self.folder / f"{name}.log"
        with log.open("ab") as output, reads.open("rb") as given:
            try:
                process = child.start(
                    command,
                    account=account,
                    folder=folder or self.folder,
                    environment={**_environment(), **(environment or {})},
                    end_signal=end_signal,
                    stdin=given,
                    stdout=subprocess.PIPE if heard else output,
                    stderr=output,
                )
            except OSError as error:
                raise UnsupportedError(f"demo: {name}: {command[0]}: {error.strerror}") from error
        service = Service(name, process, log, end_signal)
        self._services.append(service)
        return service

    def await_end(self, service: Service) -> None:
        """Wait until a process that makes something has made it."""
        self.until(lambda: child.has_ended(service.process), service.name)
        self._services.remove(service)
        if child.end(service.process, service.end_signal, 0.0):
            self.fail(service)

    def await_port(self, service: Service, port: int) -> None:
        """Wait until a server accepts connections on a loopback port."""

        def answers() -> bool:
            if child.has_ended(service.process):
                self.fail(service)
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return False
            return True

        self.until(answers, service.name)

    def await_word(self, service: Service, word: str) -> None:
        """Wait until a line of what it says is this word."""

        def said() -> bool:
            if child.has_ended(service.process):
                self.fail(service)
            return word in service.log.read_text(errors="replace").split("\n")

        self.until(said, service.name)

    def fail(self, service: Service) -> NoReturn:
        """Give up: the service has not done what it should."""
        raise UnsupportedError(f"demo: {service.name}: {last_words(service.log)}")

    def until(self, test: Callable[[], bool], name: str) -> None:
        """Wait until `test` holds; Stopped when a signal comes."""
        if self._stop.until(test, READY_S):
            return
        if self._stop.wait(0):
            raise Stopped
        raise UnsupportedError(
            f"demo: {name}: not ready within {READY_S:.0f} s: {last_words(self.folder / f'{name}.log')}"
        )

    def ended(self) -> list[Service]:
        """Those that ended since this was last asked."""
        found = [service for service in self._services if child.has_ended(service.process)]
        for service in found:
            # What is left of its session ends too: nginx's workers do not see that their master is gone.
            child.end(service.process, service.end_signal, 0.0)
            self._services.remove(service)
        return found

    def close(self, first: Collection[str] = ()) -> None:
        """End all; `first` those with these names: the ones that call, so that nobody's last request fails."""
        callers = [service for service in self._services if service.name in first]
        for group in (callers, [service for service in self._services if service not in callers]):
            for service in group:
                if not child.has_ended(service.process):
                    service.process.send_signal(service.end_signal)
            deadline = time.monotonic() + _PATIENCE_S
            for service in group:
                child.end(service.process, service.end_signal, max(deadline - time.monotonic(), 0.1))
        self._services.clear()


def last_words(log: Path) -> str:
    """The last line that a process wrote; at most 300 characters."""
    try:
        lines = log.read_text(errors="replace").split("\n")[-20:]
    except OSError:
        lines = []
    return next((line.strip()[-300:] for line in reversed(lines) if line.strip()), "it said nothing")


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody has at this moment, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _environment() -> dict[str, str]:
    """Ours, without what would name or instrument a service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
