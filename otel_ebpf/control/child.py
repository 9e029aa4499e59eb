"""A process that ends with us, however we end: by Ctrl-C, by SIGTERM, by SIGKILL.

It has a session of its own, so that Ctrl-C at the terminal reaches us alone, and we decide in which order things end.
The kernel sends it its signal when the thread that started it is gone (prctl(2), PR_SET_PDEATHSIG): start it in the
main thread.

>>> child = start(["redis-server", "--port", "7000"])
>>> end(child, signal.SIGTERM, 5.0)
0
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_STEP_S = 0.01
_libc = ctypes.CDLL(None, use_errno=True)


def start(
    command: Sequence[str],
    *,
    end_signal: signal.Signals = signal.SIGTERM,
    account: tuple[int, int] | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a program that gets `end_signal` when we are gone. OSError: it cannot be started.

    account: uid and gid, environment: the whole of it; None = ours.
    """
    parent = os.getpid()

    def bind() -> None:
        # Between fork and exec, after the change of account, which would undo it (credentials(7)).
        _libc.prctl(_PR_SET_PDEATHSIG, int(end_signal), 0, 0, 0)
        if os.getppid() != parent:  # it ended before we were bound to it
            os._exit(1)

    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=folder,
        env=environment,
        user=account[0] if account else None,
        group=account[1] if account else None,
        extra_groups=[] if account else None,
        start_new_session=True,
        preexec_fn=bind,
    )


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has; it stays a zombie, so that its number, which is that of its session, is nobody else's."""
    if process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # another thread waited for it just now
        return True


def end(process: subprocess.Popen[bytes], with_signal: signal.Signals, patience: float) -> int:
    """End a process that `start` started, and what is left of its session; returns its exit code.

    patience: seconds until SIGKILL. A process that was waited for otherwise is left alone: its number may be another's.
    """
    if not has_ended(process):
        process.send_signal(with_signal)
    deadline = time.monotonic() + patience
    while not has_ended(process) and time.monotonic() < deadline:
        time.sleep(_STEP_S)
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()
