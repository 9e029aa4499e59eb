"""Who made each exchange: process → unit, container, program → one OpenTelemetry Resource."""

from otel_ebpf.resource.describe import Describer
from otel_ebpf.resource.filters import Filter
from otel_ebpf.resource.host import TELEMETRY, host_attributes
from otel_ebpf.resource.resources import Resources

__all__ = ["TELEMETRY", "Describer", "Filter", "Resources", "host_attributes"]
