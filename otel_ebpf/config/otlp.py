"""Where each signal goes: the `otlp.*` keys, and what follows from them for one signal.

OpenTelemetry specification, protocol/exporter.md: each option can be given for all signals and for one, where the
latter wins; only the general HTTP endpoint gets the signal's path appended. Here a value for all signals from a
stronger source also wins over one for a single signal from a weaker one: `--otlp-endpoint` over
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT.
"""
# ruff: noqa: RUF009 (`key` and `group` declare fields)

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from otel_ebpf.config.keys import group, key
from otel_ebpf.config.kinds import Choice, Duration, File, Flag, Headers, Pairs, Url

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")

_URL, _FILE, _FLAG, _HEADERS = Url(), File(), Flag(), Headers()
_PROTOCOL = Choice("grpc", "http/protobuf")
_COMPRESSION = Choice("none", "gzip", "zstd")
_TIMEOUT = Duration(least=0.001, most=3600)
_GENERAL, _ONE = "OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_{}_"


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS towards the endpoint."""

    ca_file: str | None = key(
        _FILE, None, "PEM file of trusted authorities; default: the system's", env=_GENERAL + "CERTIFICATE"
    )
    cert_file: str | None = key(
        _FILE, None, "PEM file of our certificate, for mutual TLS", env=_GENERAL + "CLIENT_CERTIFICATE"
    )
    key_file: str | None = key(_FILE, None, "PEM file of its private key", env=_GENERAL + "CLIENT_KEY")
    insecure: bool = key(_FLAG, False, "plain text to an endpoint given as host:port", env=_GENERAL + "INSECURE")


@dataclass(frozen=True, slots=True)
class SignalTls:
    """The same for one signal; None = as for all."""

    ca_file: str | None = key(_FILE, None, "as otlp.tls.ca_file", env=_ONE + "CERTIFICATE")
    cert_file: str | None = key(_FILE, None, "as otlp.tls.cert_file", env=_ONE + "CLIENT_CERTIFICATE")
    key_file: str | None = key(_FILE, None, "as otlp.tls.key_file", env=_ONE + "CLIENT_KEY")
    insecure: bool | None = key(_FLAG, None, "as otlp.tls.insecure", env=_ONE + "INSECURE")


@dataclass(frozen=True, slots=True)
class OtlpSignal:
    """What is different for one signal; None = as for all."""

    endpoint: str | None = key(_URL, None, "URL for this signal alone, used as it is", env=_ONE + "ENDPOINT")
    protocol: str | None = key(_PROTOCOL, None, "as otlp.protocol", env=_ONE + "PROTOCOL")
    headers: Pairs | None = key(_HEADERS, None, "as otlp.headers", env=_ONE + "HEADERS", secret=True)
    compression: str | None = key(_COMPRESSION, None, "as otlp.compression", env=_ONE + "COMPRESSION")
    timeout: float | None = key(_TIMEOUT, None, "as otlp.timeout", env=_ONE + "TIMEOUT")
    tls: SignalTls = group(SignalTls)


@dataclass(frozen=True, slots=True)
class Target:
    """What one signal is sent with. url: with scheme; for HTTP with the path. timeout: seconds."""

    url: str
    protocol: str
    headers: Pairs
    compression: str
    timeout: float
    ca_file: str | None
    cert_file: str | None
    key_file: str | None


@dataclass(frozen=True, slots=True)
class Otlp:
    """Export. Nothing is exported unless there is an endpoint."""

    endpoint: str | None = key(
        _URL,
        None,
        "base URL of a Collector or backend (http/protobuf: /v1/traces and the like are appended); without one, "
        "nothing is exported",
        env=_GENERAL + "ENDPOINT",
    )
    protocol: str | None = key(
        _PROTOCOL, None, "default: grpc if the endpoint's port is 4317, else http/protobuf", env=_GENERAL + "PROTOCOL"
    )
    headers: Pairs = key(
        _HEADERS, (), "sent with every export, e.g. for authentication", env=_GENERAL + "HEADERS", secret=True
    )
    compression: str = key(
        _COMPRESSION,
        "none",
        "gzip costs more CPU than all else the agent does; zstd: for http/protobuf, with the Python package zstandard",
        env=_GENERAL + "COMPRESSION",
    )
    timeout: float = key(_TIMEOUT, 10.0, "the longest that one export request may take", env=_GENERAL + "TIMEOUT")
    tls: Tls = group(Tls)
    traces: OtlpSignal = group(OtlpSignal)
    metrics: OtlpSignal = group(OtlpSignal)
    logs: OtlpSignal = group(OtlpSignal)

    def of(self, signal: Signal) -> Target | None:
        """What the signal is sent with; None if it has no endpoint.

        >>> Otlp(endpoint="http://c:4318").of("traces").url
        'http://c:4318/v1/traces'
        """
        own: OtlpSignal = getattr(self, signal)
        endpoint = own.endpoint or self.endpoint
        if endpoint is None:
            return None
        insecure = self.tls.insecure if own.tls.insecure is None else own.tls.insecure
        url = endpoint if "://" in endpoint else f"{'http' if insecure else 'https'}://{endpoint}"
        protocol = own.protocol or self.protocol or ("grpc" if urlsplit(url).port == 4317 else "http/protobuf")
        if protocol != "grpc" and own.endpoint is None:
            url = f"{url.rstrip('/')}/v1/{signal}"
        return Target(
            url=url,
            protocol=protocol,
            headers=self.headers if own.headers is None else own.headers,
            compression=own.compression or self.compression,
            timeout=self.timeout if own.timeout is None else own.timeout,
            ca_file=own.tls.ca_file or self.tls.ca_file,
            cert_file=own.tls.cert_file or self.tls.cert_file,
            key_file=own.tls.key_file or self.tls.key_file,
        )
