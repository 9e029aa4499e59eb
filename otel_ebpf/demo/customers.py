"""How it goes for the customers, by what their process says once a second."""

from __future__ import annotations

import json
import os
import subprocess
from typing import IO, cast

_MOST = 1 << 16


class Customers:
    """Reads the process's standard output whenever asked, and never waits for it.

    >>> customers.read()
    >>> customers.requests, customers.failed, customers.rate
    (812, 3, 8.0)
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.requests = 0
        self.failed = 0
        self.rate = 0.0
        """requests of the last second that was told"""
        self._stdout = cast("IO[bytes]", process.stdout)
        os.set_blocking(self._stdout.fileno(), False)
        self._rest = b""

    def read(self) -> None:
        """Take over what has been said since."""
        try:
            said = os.read(self._stdout.fileno(), _MOST)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + said).split(b"\n")
        for line in lines:
            told = json.loads(line)
            self.rate = float(told["requests"] - self.requests)
            self.requests, self.failed = told["requests"], told["failed"]
