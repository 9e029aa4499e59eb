"""The live view: services with rate, errors and latency above, exchanges below, losses and troubles at the bottom.

The agent's loop only queues a batch; a thread of its own counts, formats the few lines that will be seen, and draws. So
a terminal that has stopped (Ctrl-S, a slow ssh) holds up nobody, and what the view costs does not depend on how often
the loop turns. Where standard output is no terminal there are plain lines.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from otel_ebpf.control.lines import Line, Lines, ansi, plain
from otel_ebpf.control.pace import Pace, in_time_order, worth_showing
from otel_ebpf.control.per_id import Failed
from otel_ebpf.control.sinks import TextSink
from otel_ebpf.control.statistics import Statistics
from otel_ebpf.control.tables import Sink, Tables
from otel_ebpf.control.terminal import Screen, is_terminal, size_of, speaks_unicode, wants_colour
from otel_ebpf.control.view import View, frame, losses, table
from otel_ebpf.control.window import Window
from otel_ebpf.control.writer import write_all
from otel_ebpf.errors import OtelEbpfError
from otel_ebpf.model import Spans

REDRAW_S = 0.5
SUMMARY_S = 1.0
"""Between two looks at the statistics and at the services."""
CLOSE_S = 1.0
_SIZE = (80, 24)
_KEPT = 500
_BATCHES = 64
"""Batches that wait to be counted; there are more only while the terminal does not move."""
_PER_SECOND = 100
"""Lines; nobody reads as many."""


def open_console(stream: TextIO, statistics: Callable[[], Statistics], title: str = "") -> Sink:
    """The live view on a terminal, plain lines elsewhere. statistics: called from another thread, once a second.

    title: the live view's first line.
    """
    if is_terminal(stream):
        return Console(stream, statistics, title)
    return TextSink(stream, pace=Pace())


class Console:
    """The live view. It takes the terminal over with the first batch, and gives it back in `close`."""

    def __init__(self, stream: TextIO, statistics: Callable[[], Statistics], title: str = "") -> None:
        self._stream = stream
        self._statistics = statistics
        self._columns, self._rows = size_of(stream, _SIZE)
        self._lines = Lines(self._columns, unicode=speaks_unicode(stream))
        self._pace = Pace(_PER_SECOND)
        self._failed = Failed()
        self._window = Window()
        self._exchanges: deque[Line] = deque(maxlen=_KEPT)
        self._waiting: deque[tuple[Spans, Tables]] = deque()
        self._view = View(unicode=speaks_unicode(stream), title=title)
        self._skipped = 0
        self._due = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """See `Sink`."""
        return self._skipped

    def show(self, spans: Spans, tables: Tables) -> None:
        """See `Sink`."""
        if self._stop.is_set():
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="console", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        if not len(spans):
            return
        if len(self._waiting) < _BATCHES:
            self._waiting.append((spans, tables))
        else:
            self._skipped += len(spans)

    def close(self) -> None:
        """Give the terminal back; what the services did last stays on it."""
        if self._thread is None:
            return
        atexit.unregister(self.close)
        self._stop.set()
        self._thread.join(CLOSE_S)
        self._thread = None

    def _run(self) -> None:
        render = ansi if wants_colour(self._stream) else plain
        try:
            with Screen(self._stream) as screen:
                while not self._stop.wait(REDRAW_S):
                    self._columns, self._rows = size_of(self._stream, _SIZE)
                    self._count(time.monotonic())
                    lines = frame(self._view, self._columns, self._rows)
                    screen.draw([render(line) for line in lines], self._rows)
            self._say_farewell()
        except OSError:
            self._stop.set()  # the terminal is gone, and with it whoever looked; observing goes on

    def _count(self, now: float) -> None:
        """Take over what has come since the last time."""
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if waiting:
            spans, tables = Spans.concat([spans for spans, _ in waiting]), waiting[-1][1]
            self._window.add(spans, tables, now)
            self._add_lines(spans, tables, now)
        if now >= self._due:
            self._due = now + SUMMARY_S
            self._view.services = self._window.rows(now)
            self._view.statistics = self._read_statistics()
        self._view.exchanges = tuple(self._exchanges)
        self._view.more = self._pace.skipped + self._skipped

    def _add_lines(self, spans: Spans, tables: Tables, now: float) -> None:
        rows = in_time_order(spans, spans.shape >= 0)
        granted = self._pace.take(len(rows), now)
        if granted < len(rows):
            rows = worth_showing(rows, self._failed.of(spans, tables)[rows], granted)
        self._lines.columns = self._columns
        self._exchanges.extend(self._lines.format(spans, tables, rows))

    def _read_statistics(self) -> Statistics:
        try:
            return self._statistics()
        except OtelEbpfError as failure:
            self._view.statistics.notes[:] = [f"the agent's statistics cannot be read: {failure}"]
            return self._view.statistics

    def _say_farewell(self) -> None:
        self._due = float("inf")
        now = time.monotonic()
        self._count(now)
        services = self._window.rows(now)
        last = [plain(line) for line in table(services, self._columns, len(services) + 2)] if services else []
        last += [f"lost: {where} {reason} {count:,}" for where, reason, count in losses(self._view.statistics)]
        write_all(self._stream.fileno(), "".join(f"{line}\n" for line in last).encode("utf-8", "backslashreplace"))
