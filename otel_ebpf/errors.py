"""The few ways in which otel-ebpf tells a user that it cannot go on; each is one line and names the remedy."""

from __future__ import annotations


class OtelEbpfError(Exception):
    """Base of all errors that are meant for a user. `exit_code` is what the command exits with."""

    exit_code = 1


class ConfigError(OtelEbpfError):
    """Wrong usage or configuration: names the key, the value and what was expected.

    >>> raise ConfigError("otlp.protocol: 'http' is not one of 'grpc', 'http/protobuf'")
    """

    exit_code = 2


class UnsupportedError(OtelEbpfError):
    """This host cannot do what is asked: names what is missing and the remedy."""


class KernelError(OtelEbpfError, OSError):
    """A libbpf or bpf(2) call failed; carries errno and the last lines of libbpf's own log."""
