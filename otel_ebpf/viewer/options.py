"""The options of `otel-ebpf view`; imports little, since every command's help reads it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from otel_ebpf.errors import ConfigError

if TYPE_CHECKING:
    from otel_ebpf.viewer.listening import Listening

PAGE, GRPC, HTTP = "127.0.0.1:8890", "127.0.0.1:4317", "127.0.0.1:4318"
AGE, SIZE = "24h", "2GiB"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `otel-ebpf view`."""
    add = parser.add_argument
    add("--listen", metavar="H:P", default=PAGE, help=f"the page and its API (default {PAGE})")
    add_receivers(parser)
    add("--store", metavar="DIR", default=str(default_store()), help="where data is kept (default %(default)s)")
    add("--keep", metavar="TIME", default=AGE, help="how long data is kept (default %(default)s)")
    add("--size", metavar="BYTES", default=SIZE, help="how much data is kept (default %(default)s)")


def add_receivers(parser: argparse.ArgumentParser) -> None:
    """The options of whoever takes OTLP: where, and from whom."""
    add = parser.add_argument
    add("--otlp-grpc", metavar="H:P", default=GRPC, help=f"OTLP by gRPC, or none (default {GRPC})")
    add("--otlp-http", metavar="H:P", default=HTTP, help=f"OTLP by HTTP, or none (default {HTTP})")
    add("--choose-ports", action="store_true", help="take other ports where these are taken")
    add("--token-file", metavar="F", help="file with the token that clients must show (or $OTEL_EBPF_VIEW_TOKEN)")
    add("--tls-cert", metavar="F", default="", help="serve by TLS, with this certificate (PEM)")
    add("--tls-key", metavar="F", default="", help="its key (PEM)")
    add("--tls-client-ca", metavar="F", default="", help="clients must have a certificate of this authority (PEM)")
    add("--insecure", action="store_true", help="let anyone in at addresses that are not loopback")
    add("--announce", action="store_true", help="print the addresses as one line of JSON when serving")


def default_store() -> Path:
    """Root's under /var/lib, anybody else's in their state folder (XDG Base Directory)."""
    if os.geteuid() == 0:
        return Path("/var/lib/otel-ebpf")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "otel-ebpf"


def listening(options: argparse.Namespace) -> Listening:
    """What the options say; ConfigError if the token cannot be read."""
    from otel_ebpf.viewer.listening import Listening

    return Listening(
        page=options.listen,
        grpc="" if options.otlp_grpc == "none" else options.otlp_grpc,
        http="" if options.otlp_http == "none" else options.otlp_http,
        choose_ports=options.choose_ports,
        token=_token(options.token_file),
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        tls_client_ca=options.tls_client_ca,
        insecure=options.insecure,
    )


def _token(path: str | None) -> str:
    if not path:
        return os.environ.get("OTEL_EBPF_VIEW_TOKEN", "")
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {path}: {getattr(error, 'strerror', None) or 'not ASCII'}") from error
