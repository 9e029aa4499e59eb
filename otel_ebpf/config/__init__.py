"""The typed configuration: one tree of dataclasses, from defaults, a YAML file, the environment and flags."""

from otel_ebpf.config.load import load
from otel_ebpf.config.otlp import Otlp, Signal, Target
from otel_ebpf.config.rules import Match, ServiceRule, fits
from otel_ebpf.config.schema import Config

__all__ = ["Config", "Match", "Otlp", "ServiceRule", "Signal", "Target", "fits", "load"]
