"""Lines on standard output for `otel-ebpf tap`, and wherever standard output is no terminal."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from otel_ebpf.control.filter import Filter
from otel_ebpf.control.jsonlines import JsonLines
from otel_ebpf.control.lines import WIDE, Lines, ansi, plain
from otel_ebpf.control.pace import Pace, in_time_order, worth_showing
from otel_ebpf.control.per_id import Failed
from otel_ebpf.control.tables import Tables
from otel_ebpf.control.terminal import columns_of, is_terminal, speaks_unicode, wants_colour
from otel_ebpf.control.writer import QUEUE_BYTES, Writer
from otel_ebpf.model import Spans

_AT_ONCE = 512
"""Lines that are formatted before they are handed to the writer."""


class _Output:
    """What both kinds of lines have in common: the filter, the writer, and the word about what was dropped."""

    def __init__(self, stream: TextIO, filter_: Filter, limit: int) -> None:
        stream.flush()
        self._filter = filter_
        self._writer = Writer(stream.fileno(), limit)

    @property
    def dropped(self) -> int:
        """Lines that the reader was too slow for."""
        return self._writer.dropped

    def close(self) -> None:
        """Write what waits; say on stderr what was dropped."""
        self._writer.close()
        if self.dropped:
            print(f"otel-ebpf: {self.dropped:,} lines dropped: their reader was too slow", file=sys.stderr)


class TextSink(_Output):
    """Lines for people. On a terminal at most `pace` of them; the others are counted: `… 1,234 more`."""

    def __init__(
        self, stream: TextIO, filter_: Filter | None = None, pace: Pace | None = None, *, limit: int = QUEUE_BYTES
    ) -> None:
        filter_ = filter_ or Filter(())
        super().__init__(stream, filter_, limit)
        self._stream = stream
        self._unicode = speaks_unicode(stream)
        self._lines = Lines(unicode=self._unicode)
        self._terminal = is_terminal(stream)
        self._render = ansi if wants_colour(stream) else plain
        self._pace = pace
        self._failed = Failed()
        self._told = 0.0

    def show(self, spans: Spans, tables: Tables) -> None:
        """See `Sink`."""
        now = time.monotonic()
        rows = in_time_order(spans, self._filter.mask(spans, tables))
        if self._terminal:
            self._lines.columns = columns_of(self._stream, WIDE)
        if self._pace is not None and len(rows):
            granted = self._pace.take(len(rows), now)
            if granted < len(rows):
                rows = worth_showing(rows, self._failed.of(spans, tables)[rows], granted)
        for begin in range(0, len(rows), _AT_ONCE):
            some = rows[begin : begin + _AT_ONCE]
            text = "".join(f"{self._render(line)}\n" for line in self._lines.format(spans, tables, some))
            self._put(text, len(some))
        if self._pace is not None and self._pace.skipped and now - self._told >= 1:
            self._told = now
            self._put(f"{'…' if self._unicode else '...'} {self._pace.told():,} more\n", 0)
        self._writer.check()

    def _put(self, text: str, lines: int) -> None:
        self._writer.put(text.encode("utf-8" if self._unicode else "ascii", "backslashreplace"), lines)


class JsonSink(_Output):
    """One JSON object an exchange, for machines: all of them, unless the reader is too slow."""

    def __init__(self, stream: TextIO, filter_: Filter | None = None, *, limit: int = QUEUE_BYTES) -> None:
        super().__init__(stream, filter_ or Filter(()), limit)
        self._json = JsonLines()

    def show(self, spans: Spans, tables: Tables) -> None:
        """See `Sink`."""
        rows = in_time_order(spans, self._filter.mask(spans, tables))
        for begin in range(0, len(rows), _AT_ONCE):
            some = rows[begin : begin + _AT_ONCE]
            text = "".join(f"{line}\n" for line in self._json.format(spans, tables, some))
            self._writer.put(text.encode("ascii"), len(some))
        self._writer.check()
