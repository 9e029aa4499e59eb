"""What a person sees of the demo: a line for each stage with the time since the start, then one line that changes.

✓ postgres         127.0.0.1:40123     1.4 s
✓ first trace      9 spans, 5 services 6.1 s
http://127.0.0.1:8890/  8.1 requests/s, 1 failed, 00:01:12. Ctrl-C ends
"""

from __future__ import annotations

import time

from rich.console import Console
from rich.status import Status
from rich.text import Text

_NAME, _WHAT = 19, 32


class Progress:
    """Writes to standard output. Where that is no terminal, the changing line is left out."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._began = time.monotonic()
        self._status: Status | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def done(self, name: str, what: str = "") -> None:
        """A stage is over."""
        line = Text.assemble(("✓ ", "green"), f"{name:<{_NAME}}", (f"{what:<{_WHAT}}", "dim"), f"{self.elapsed:6.1f} s")
        self._console.print(line, soft_wrap=True)

    def say(self, text: str, style: str = "") -> None:
        """A line that stays."""
        self._console.print(Text(text, style), soft_wrap=True)

    def now(self, text: str) -> None:
        """What is going on at this moment: one line, in place of the one before."""
        if not self._console.is_terminal:
            return
        if self._status is None:
            self._status = self._console.status(text, refresh_per_second=2)
            self._status.start()
        self._status.update(Text(text))

    def close(self) -> None:
        """Take the changing line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None
