"""Real programs as context managers: started in the foreground, ready when asked and answering, ended by their pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

READY_S = 60.0
"""How long a server may take to answer: generous, since the kernel matrix runs them ten times slower."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class MissingProgram(Exception):
    """A program that the tests need is not installed: never a reason to skip."""


def program(name: str, package: str) -> str:
    """Path of a program, also from sbin, which is not on everybody's PATH."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    if path is None:
        raise MissingProgram(f"{name} not found: apt-get install --no-install-recommends {package}")
    return path


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A loopback port that nobody has at this moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> Callable[[], bool]:
    """Ready test: somebody accepts connections on the port."""

    def test() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    return test


def succeeds(*command: str) -> Callable[[], bool]:
    """Ready test: the command exits with 0."""
    return lambda: subprocess.run(command, capture_output=True).returncode == 0


def wait_until(test: Callable[[], bool], what: str, limit_s: float = READY_S) -> None:
    """Poll until `test` holds; AssertionError naming `what` when it never does."""
    end = time.monotonic() + limit_s
    while not test():
        assert time.monotonic() < end, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.02)


@contextmanager
def scratch(owner: str | None = None) -> Iterator[Path]:
    """A temporary folder that servers which drop their rights can enter; theirs, if `owner` is given."""
    with tempfile.TemporaryDirectory(prefix="otel-ebpf-test.") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if owner:
            shutil.chown(folder, owner, owner)
        yield folder


@contextmanager
def running(
    command: Sequence[str],
    ready: Callable[[], bool],
    *,
    log: Path,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
    end_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` until the block ends; what it says goes to the file `log`, which a failure to start shows."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        end = time.monotonic() + READY_S
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                said = log.read_text(errors="replace")[-2000:]
                raise AssertionError(f"{command[0]} did not start (exit {process.poll()}):\n{said}")
            time.sleep(0.02)
        yield process
    finally:
        end_process(process, end_signal)


def end_process(process: subprocess.Popen[bytes], with_signal: signal.Signals = signal.SIGTERM) -> None:
    """End a process that `running` started, and whatever of its session is left."""
    if process.poll() is None:
        process.send_signal(with_signal)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def descendants(root: int) -> set[int]:
    """`root` and every live process below it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue  # it ended meanwhile
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found
