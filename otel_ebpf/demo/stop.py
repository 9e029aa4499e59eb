"""Ctrl-C, SIGTERM and a closed terminal as something to wait for: nothing is interrupted in the middle."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STEP_S = 0.02


class Stop:
    """From its making on the signals end nothing by themselves; they are noted here.

    >>> stop = Stop()
    >>> while not stop.wait(1.0): ...
    """

    def __init__(self) -> None:
        self._told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for number in SIGNALS:
            signal.signal(number, self._tell)

    def _tell(self, _number: int, _frame: FrameType | None) -> None:
        os.eventfd_write(self._told, 1)

    def fileno(self) -> int:
        """Readable once a signal has come."""
        return self._told

    def wait(self, seconds: float) -> bool:
        """Whether a signal has come; waits so long for one."""
        return bool(select.select([self._told], [], [], seconds)[0])

    def until(self, test: Callable[[], bool], seconds: float) -> bool:
        """Wait until `test` holds: True then; False when a signal came first, or the time has passed."""
        deadline = time.monotonic() + seconds
        while not test():
            if time.monotonic() > deadline or self.wait(_STEP_S):
                return False
        return True
