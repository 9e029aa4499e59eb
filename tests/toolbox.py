"""Programs that come as wheels and are no part of the product, in a virtual environment of their own under .cache."""

from __future__ import annotations

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
