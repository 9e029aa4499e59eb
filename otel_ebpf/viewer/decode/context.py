"""What decoding knows beside the request: the clock, and what it has seen before."""

from __future__ import annotations

from dataclasses import dataclass, field

from otel_ebpf.viewer.decode.attributes import Attributes
from otel_ebpf.viewer.decode.batch import Batch
from otel_ebpf.viewer.decode.peers import Peers
from otel_ebpf.viewer.decode.resources import Resources
from otel_ebpf.viewer.decode.written import Writing

FUTURE_NS = 600 * 10**9
"""How far ahead a sender's clock may be."""


@dataclass(slots=True)
class Context:
    """Kept from one request to the next. now: Unix ns. oldest: what began before is not kept for want of age."""

    now: int
    oldest: int
    attributes: Attributes = field(default_factory=Attributes)
    resources: Resources = field(init=False)
    peers: Peers = field(default_factory=Peers)
    writing: Writing = field(default_factory=Writing)

    def __post_init__(self) -> None:
        self.resources = Resources(self.attributes)

    def wrong_time(self, time: int) -> str:
        """Why an item of this time cannot be kept; "" if it can."""
        if time > self.now + FUTURE_NS:
            return "time is more than 10 minutes in the future"
        return "time is before the oldest that is kept" if time < self.oldest else ""

    def count_left_out(self, batch: Batch) -> None:
        """Hand what was left out of attributes to the batch that it belongs to."""
        if self.attributes.left_out:
            batch.lose("attribute, event or text beyond the limits", self.attributes.left_out)
            self.attributes.left_out = 0
