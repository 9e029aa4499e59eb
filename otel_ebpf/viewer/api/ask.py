"""A question: what was asked, whom to ask, and what the answer may take."""

from __future__ import annotations

from dataclasses import dataclass

from otel_ebpf.errors import OtelEbpfError
from otel_ebpf.viewer.api.parameters import BadParameter, Given
from otel_ebpf.viewer.api.sources import StatusSource
from otel_ebpf.viewer.api.window import Window
from otel_ebpf.viewer.contract import Reader


class NotFound(OtelEbpfError):
    """404: there is no such thing in the store."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to an endpoint."""

    reader: Reader
    given: Given
    status: StatusSource

    @property
    def window(self) -> Window:
        """From the parameters start and end; BadParameter if they are in the wrong order."""
        start, end = self.given.sure("start"), self.given.sure("end")
        if start >= end:
            raise BadParameter("start: not before end")
        return Window(start, end)
