"""What rows are made of and what takes long to make: under .cache, once, whoever asks first."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fidelity.row import APPS
from tests.fidelity.site import CACHE

PACKAGES = CACHE / "python"
"""A virtual environment with the packages of apps/requirements.txt."""


@contextmanager
def once(name: str, *sources: Path | str) -> Iterator[bool]:
    """Whether `name` is to be made now; afterwards it counts as made of `sources`, files or words. One maker at a time.

    with once("axum", *folder.glob("*.rs")) as needed:
        if needed:
            subprocess.run(["cargo", …], check=True)
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    stamp = hashlib.sha256(
        b"\0".join(source.encode() if isinstance(source, str) else source.read_bytes() for source in sources)
    ).hexdigest()
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = CACHE / f"{name}.made"
        needed = not made.exists() or made.read_text() != stamp
        yield needed
        if needed:
            made.write_text(stamp)


def python_packages() -> None:
    """See to it that `PACKAGES` is there."""
    requirements = APPS / "requirements.txt"
    with once("python", requirements) as needed:
        if needed:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(PACKAGES)], check=True, capture_output=True)
            pip = [str(PACKAGES / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            subprocess.run([*pip, "-r", str(requirements)], check=True, capture_output=True)
