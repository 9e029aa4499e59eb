"""Sampling: the same decisions as the SDK's samplers of the same names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import sampling as sdk
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_ebpf.errors import ConfigError
from otel_ebpf.model import Link, Spans
from otel_ebpf.tracing.sampling import NAMES, Sampler

RATIOS = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 1e-19, 1 - 1e-16]), st.floats(0, 1))
IDS = st.one_of(
    st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.sampled_from([1, 2**63, 2**64 - 1, 2**128 - 1])
)
SDK = {
    "always_on": lambda ratio: sdk.ALWAYS_ON,
    "always_off": lambda ratio: sdk.ALWAYS_OFF,
    "traceidratio": sdk.TraceIdRatioBased,
    "parentbased_always_on": lambda ratio: sdk.ParentBased(sdk.ALWAYS_ON),
    "parentbased_always_off": lambda ratio: sdk.ParentBased(sdk.ALWAYS_OFF),
    "parentbased_traceidratio": sdk.ParentBasedTraceIdRatio,
}


def row(trace_id: int, remote: bool, sampled: bool) -> Spans:
    rows = Spans.empty(1)
    rows.trace[0] = np.frombuffer(trace_id.to_bytes(16, "big"), np.uint64)
    rows.remote_link[0] = Link.TRACEPARENT if remote else Link.NONE
    rows.remote_flags[0] = int(sampled)
    return rows


@given(name=st.sampled_from(NAMES), ratio=RATIOS, trace_id=IDS, remote=st.booleans(), sampled=st.booleans())
def test_decides_as_the_sdk_does(name: str, ratio: float, trace_id: int, remote: bool, sampled: bool) -> None:
    context = None
    if remote:
        parent = SpanContext(trace_id, 7, is_remote=True, trace_flags=TraceFlags(int(sampled)))
        context = trace.set_span_in_context(NonRecordingSpan(parent))
    decision = SDK[name](ratio).should_sample(context, trace_id, "name").decision
    expected = decision is sdk.Decision.RECORD_AND_SAMPLE
    assert Sampler(name, ratio).sample(row(trace_id, remote, sampled)).tolist() == [expected]


def test_keeps_about_the_share_asked_for() -> None:
    rows = Spans.empty(20_000)
    rows.trace = np.random.default_rng(1).integers(1, 2**64, (20_000, 2), np.uint64, endpoint=False)
    assert 0.08 < Sampler("traceidratio", 0.1).sample(rows).mean() < 0.12


def test_a_wrong_name_or_ratio_is_refused() -> None:
    with pytest.raises(ConfigError, match="always_on"):
        Sampler("sometimes")
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Sampler("traceidratio", 1.5)
