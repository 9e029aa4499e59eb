"""RED metrics from all spans: duration histograms named and bucketed by the semantic conventions."""

from otel_ebpf.metrics.durations import DurationMetrics
from otel_ebpf.metrics.points import Collection, Exemplar, HistogramPoint, Temporality

__all__ = ["Collection", "DurationMetrics", "Exemplar", "HistogramPoint", "Temporality"]
