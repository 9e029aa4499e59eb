"""The forms of PromQL that the dashboards share: rates, shares of what failed, quantiles."""

from __future__ import annotations

WINDOW = "$__rate_interval"
RANGE = "$__range"
"""The whole time range of the dashboard: for tables and graphs that show one value of each thing."""


def selector(*matchers: str) -> str:
    """
    >>> selector('service_name=~"$service"', 'error_type!=""')
    '{service_name=~"$service",error_type!=""}'
    """
    return f"{{{','.join(matchers)}}}"


def total(inner: str, by: str = "") -> str:
    """
    >>> total("x", "service_name")
    'sum by (service_name) (x)'
    """
    return f"sum by ({by}) ({inner})" if by else f"sum({inner})"


def rate(metric: str, *matchers: str, by: str = "", window: str = WINDOW) -> str:
    """Events a second of a counter, or of a histogram's `_count`."""
    return total(f"rate({metric}{selector(*matchers)}[{window}])", by)


def share(part: str, whole: str) -> str:
    """What part is of the whole, 0 where there is no part at all; nothing, not NaN, where the whole is 0."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def failed(metric: str, *matchers: str, by: str = "", window: str = WINDOW) -> str:
    """The share of a histogram's events that have an `error.type`."""
    return share(
        rate(f"{metric}_count", *matchers, 'error_type!=""', by=by, window=window),
        rate(f"{metric}_count", *matchers, by=by, window=window),
    )


def quantile(q: float, metric: str, *matchers: str, by: str = "", window: str = WINDOW) -> str:
    """
    >>> quantile(0.99, "x_seconds", by="service_name")
    'histogram_quantile(0.99, sum by (le, service_name) (rate(x_seconds_bucket{}[$__rate_interval]))) >= 0'
    """
    labels = f"le, {by}" if by else "le"
    return quantile_of(q, rate(f"{metric}_bucket", *matchers, by=labels, window=window))


def quantile_of(q: float, buckets: str) -> str:
    """Nothing, not NaN, where there was no event: no number is greater or less than NaN."""
    return f"histogram_quantile({q}, {buckets}) >= 0"


def mean(metric: str, *matchers: str, by: str = "", window: str = WINDOW) -> str:
    """Mean duration; nothing where there was no event."""
    count = rate(f"{metric}_count", *matchers, by=by, window=window)
    return f"{rate(f'{metric}_sum', *matchers, by=by, window=window)} / ({count} > 0)"
