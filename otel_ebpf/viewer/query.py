"""`otel-ebpf query …`: ask a running viewer from a script or a terminal.

    otel-ebpf query services --start -15m
    otel-ebpf query traces --service shop --status error --attr http.route=/cart
    otel-ebpf query trace 4bf92f3577b34da6a3ce929d0e0e4736
    otel-ebpf query map --json | jq .edges

Parameters are those of the query API (docs/query-api.md), with dashes for underscores. Every command's help reads this
module, so it imports little.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from otel_ebpf.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from urllib.error import HTTPError

ADDRESS = "127.0.0.1:8890"
SECONDS = 30.0
MOST = 256 << 20
"""Bytes of an answer."""
WHAT: dict[str, tuple[str, ...]] = {
    "services": ("services", "services/{}"),
    "map": ("map",),
    "red": ("red",),
    "traces": ("traces",),
    "trace": ("", "traces/{}"),
    "span": ("", "", "traces/{}/spans/{}"),
    "attributes": ("attributes", "attributes/{}"),
    "logs": ("logs",),
    "metrics": ("metrics", "metrics/{}"),
    "agents": ("agents",),
    "status": ("status",),
}
"""The endpoint of each, by how many names or ids are given; "" where they are too few."""
_NAMES = "names or ids"
_OF_SERVICES = ("red", "traces", "logs")
PARAMETERS = {
    "start": ("TIME", "from when on: -15m (s, m, h, d), now, or Unix milliseconds"),
    "end": ("TIME", "until when (default: now)"),
    "service": ("NAME", "of this service"),
    "operation": ("NAME", "of this operation (span name)"),
    "kind": ("KIND", "server, client, producer, consumer, internal"),
    "status": ("STATUS", "ok or error"),
    "min_ms": ("MS", "at least this duration"),
    "max_ms": ("MS", "at most this duration"),
    "attr": ("KEY=VALUE", "with this attribute; may be repeated"),
    "client": ("NAME", "calls by this service or peer"),
    "server": ("NAME", "calls to this service, database or peer"),
    "order": ("ORDER", "recent or slowest"),
    "limit": ("N", "at most so many"),
    "group_by": ("KEY", "the map by this resource attribute"),
    "steps": ("N", "steps of time, at most 500"),
    "trace_id": ("ID", "logs of this trace"),
    "span_id": ("ID", "logs of this span"),
    "severity": ("N", "logs of at least this severity number (9 INFO, 13 WARN, 17 ERROR)"),
    "text": ("TEXT", "logs that contain this"),
    "prefix": ("TEXT", "attribute values that begin so"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `otel-ebpf query`."""
    # "-15m" is a value here, like a negative number: argparse would take it for an option.
    parser._negative_number_matcher = re.compile(r"-[0-9]+([smhd]|\.[0-9]+)?$")
    parser.add_argument("what", choices=tuple(WHAT), metavar="WHAT", help=", ".join(WHAT))
    parser.add_argument("names", nargs="*", metavar="NAME", help="a service, metric, attribute key, or ids in hex")
    parser.add_argument("--address", metavar="H:P", default=ADDRESS, help=f"of the viewer's page (default {ADDRESS})")
    parser.add_argument("--token-file", metavar="F", help="file with the token that the viewer asks for")
    parser.add_argument("--json", action="store_true", help="the API's answer as it is")
    for name, (metavar, what) in PARAMETERS.items():
        action = "append" if name == "attr" else "store"
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=what, action=action)


def main(options: argparse.Namespace) -> int:
    """Ask and print; returns the exit code. UnsupportedError: no viewer answers, or it says no."""
    body = _get(_url(options), _token(options.token_file))
    if options.json:
        sys.stdout.write(body.decode("utf-8", "replace") + "\n")
        return 0
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise UnsupportedError(f"query: what answers at {options.address} is no viewer of otel-ebpf")
    from otel_ebpf.viewer.query_text import show

    if not show(options.what if not options.names else f"{options.what} NAME", answer):
        sys.stderr.write(f"query: {_nothing(options)}\n")
    return 0


def _nothing(options: argparse.Namespace) -> str:
    """What was asked for in vain, and what else could be asked."""
    if options.what == "agents":
        return "no agent has reported here in this time"
    others = ("start", "end", "limit", "order", "steps", "group_by")
    given = {name: getattr(options, name) for name in PARAMETERS if name not in others}
    filters = [
        f"--{name.replace('_', '-')} {value}"
        for name, values in given.items()
        for value in (values if isinstance(values, list) else [values])
        if value is not None
    ]
    what = f"nothing fits {' '.join(filters)}" if filters else "there is nothing"
    names = ", or other values (`otel-ebpf query services` lists the services)" if filters else ""
    return f"{what} in this time: try a longer one (--start -24h){names}"


def _url(options: argparse.Namespace) -> str:
    paths = WHAT[options.what]
    count = len(options.names)
    if count >= len(paths) or not paths[count]:
        wanted = " or ".join(str(number) for number, path in enumerate(paths) if path)
        named = f": use --service {options.names[0]}" if options.what in _OF_SERVICES and count == 1 else ""
        raise ConfigError(f"query {options.what}: takes {wanted} {_NAMES}, got {count}{named}")
    path = paths[count].format(*(quote(name, safe="") for name in options.names))
    given = [(name, getattr(options, name)) for name in PARAMETERS]
    pairs = [(name, value) for name, value in given if value is not None]
    base = options.address if "://" in options.address else f"http://{options.address}"
    if not re.fullmatch(r"https?://[^/\s]+/?", base):
        raise ConfigError(f"--address: {options.address!r} is not host:port like {ADDRESS}, or http(s)://host:port")
    return f"{base.rstrip('/')}/api/v1/{path}{'?' if pairs else ''}{urlencode(pairs, doseq=True)}"


def _token(file: str | None) -> str:
    if file is None:
        return ""
    try:
        token = Path(file).read_text().strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"--token-file: {file!r} cannot be read: {error}") from error
    if not token.isascii() or not token.isprintable():
        raise ConfigError(f"--token-file: {file!r} does not hold a token of printable ASCII")
    return token


def _get(url: str, token: str) -> bytes:
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import ProxyHandler, Request, build_opener

    # No proxy of the environment: the viewer is an address of one's own.
    opener = build_opener(ProxyHandler({}))
    headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        with opener.open(Request(url, headers=headers), timeout=SECONDS) as response:
            body: bytes = response.read(MOST + 1)
    except HTTPError as error:
        raise UnsupportedError(f"query: {_said(error)}") from error
    except (URLError, OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UnsupportedError(
            f"query: no viewer answers at {url.split('/api/')[0]} ({reason}): start `otel-ebpf view`, or name another "
            "with --address"
        ) from error
    if len(body) > MOST:
        raise UnsupportedError("query: the answer is too long: ask for a shorter time or a smaller --limit")
    return body


def _said(error: HTTPError) -> str:
    """What the viewer says is wrong."""
    from http.client import HTTPException

    try:
        body = json.loads(error.read(65536))
    except (ValueError, OSError, HTTPException):
        body = None
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        return str(body["error"])
    if error.code in (401, 403):
        return f"the viewer refuses ({error.code}): give its token with --token-file"
    return f"the viewer answers {error.code} {error.reason}"
