"""The demo's one folder: made at the start, gone at the end, and swept at the next start if we were killed.

Its lock is held while the demo runs; a folder whose lock is free belongs to nobody any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from otel_ebpf.errors import ConfigError

PREFIX = "otel-ebpf-demo."
_LOCK = "lock"
_PATIENCE_S = 5.0


@contextmanager
def scratch(below: Path) -> Iterator[Path]:
    """A new folder in `below` while the context lasts; others may enter it, but not list it.

    ConfigError: it cannot be made.
    """
    sweep(below)
    lock = None
    while lock is None:  # another demo that starts at this moment may take it for a forgotten one before it is locked
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=below))
        except OSError as error:
            raise ConfigError(f"--dir: {str(below)!r} is no folder that can be written: {error.strerror}") from None
        with suppress(FileNotFoundError):
            lock = _take(folder)
    try:
        folder.chmod(0o711)
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def sweep(below: Path) -> list[Path]:
    """Remove what earlier demos of this user left in `below`; returns the folders."""
    swept = []
    for folder in below.glob(f"{PREFIX}*"):
        with suppress(OSError):
            about = folder.lstat()
            if folder.is_symlink() or not folder.is_dir() or about.st_uid != os.geteuid():
                continue
            lock = _take(folder)
            if lock is None:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
            swept.append(folder)
    return swept


def _remove(folder: Path) -> None:
    """Also while a viewer whose agent was killed still writes into it."""
    deadline = time.monotonic() + _PATIENCE_S
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)


def _take(folder: Path) -> int | None:
    """The descriptor of the folder's lock, which is now ours; None: somebody has it."""
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
