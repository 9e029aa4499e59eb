"""The way out: bounded queues in front of the transports, so that whoever submits never waits.

    exporter = Exporter(settings)
    exporter.submit("traces", data, items)      # at once: queued, or dropped and counted
    exporter.close()                            # sends what is queued, for at most 5 s

One worker thread per signal. Whatever is not delivered is counted by reason in `statistics`.
"""

from __future__ import annotations

import time

from otel_ebpf.otlp.framing import Message
from otel_ebpf.otlp.sender import Sender, Statistics
from otel_ebpf.otlp.settings import OtlpSettings
from otel_ebpf.otlp.transport import open_transport

CLOSE_TIMEOUT = 5.0


class Exporter:
    """Sends messages of all signals that have an endpoint.

    ConfigError if certificates or keys cannot be used.
    """

    def __init__(self, settings: OtlpSettings) -> None:
        self._senders = {name: Sender(signal, open_transport(signal)) for name, signal in settings.signals.items()}

    def exports(self, signal: str) -> bool:
        """The signal has somewhere to go: nobody need encode what has not."""
        return signal in self._senders

    def submit(self, signal: str, data: bytes, items: int) -> bool:
        """Queue an export request that carries so many spans, log records or points; never waits.

        False if it was dropped: the queue is full, the exporter closed, or the signal has nowhere to go.
        """
        sender = self._senders.get(signal)
        return sender is not None and sender.submit(Message(data, items))

    def flush(self, timeout: float = CLOSE_TIMEOUT) -> bool:
        """Send what is queued now, without waiting for more; True if all of it was dealt with in time."""
        deadline = time.monotonic() + timeout
        for sender in self._senders.values():
            sender.hurry()
        return all(sender.wait_idle(deadline) for sender in self._senders.values())

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Send what is queued, for at most `timeout` seconds; drop and count the rest."""
        deadline = time.monotonic() + timeout
        for sender in self._senders.values():
            sender.begin_close(deadline)
        for sender in self._senders.values():
            sender.finish_close(deadline)

    @property
    def statistics(self) -> dict[str, Statistics]:
        """The counters of each signal, for the agent's own telemetry. They only grow, but for what is queued."""
        return {name: sender.statistics for name, sender in self._senders.items()}
