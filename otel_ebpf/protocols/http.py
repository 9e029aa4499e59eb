"""HTTP/1.0, HTTP/1.1 and the streams of HTTP/2 (RFC 9110, 9112, 9113), reported by the stable HTTP conventions.

`read` is the plain reading of one exchange; http_columns.py reads whole batches and must say the same.

Not among the attributes: body sizes (opt-in, and as many shapes as sizes); `network.protocol.name` (only if not http);
`url.template`. Documented values of `error.type`: the status code as text; "no_response" and "connection_reset" when
the request was never answered; of HTTP/2 the name of the error code that ended the stream ("REFUSED_STREAM").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from otel_ebpf.model import Attributes
from otel_ebpf.protocols.base import Fields, Options, Reading, Session, Side, Slot
from otel_ebpf.protocols.extras import Interning, Leave, Reader, Told
from otel_ebpf.protocols.redact import Redactor
from otel_ebpf.protocols.routes import Routes

METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY")
OTHER = "_OTHER"
TARGET, PATH, QUERY = range(3)
"""Slots: what `url.full` ends in, `url.path`, `url.query`."""
MOST = 256
"""Requests of one exchange that are told apart."""
LONGEST_VALUE = 256
"""Host and User-Agent values beyond this many bytes are left out: they are no names."""

_KNOWN = b"|".join(method.encode() for method in METHODS)
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([^\n]*) HTTP/(1\.[01])\r?\n")
_CUT = re.compile(rb"(" + _KNOWN + rb") (/[^ \n]*)$")
_STATUS = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9][0-9])")
# of streams of HTTP/2, whose heads are written like those of HTTP/1 (http2/message.py)
_STREAM_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([^\n]*) HTTP/2\.0\r\n")
_STREAM_STATUS = re.compile(rb"HTTP/2\.0 ([1-9][0-9][0-9])")
_METHODS_BEGUN = tuple({method[:k].encode() for method in METHODS for k in range(1, len(method) + 1)})
_FRAMING = re.compile(rb"\n(content-length|transfer-encoding):([^\n]*)", re.IGNORECASE)
_START = re.compile(rb"(?:" + _KNOWN + rb") [^\r\n]* HTTP/1\.[01]\r?\n")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~%\-]+)(?::([0-9]{1,5}))?")
_ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(?:[^/?#@]*@)?([^/?#]*)([^?]*)(?:\?(.*))?", re.DOTALL)
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_BODYLESS = (204, 304)


def split_host(value: str) -> tuple[str, int] | None:
    """Address and port of a Host value or authority; port 0: none given. None: not a host.

    >>> split_host("Shop.example:8080"), split_host("[::1]"), split_host("a b")
    (('shop.example', 8080), ('::1', 0), None)
    """
    match = _HOST.fullmatch(value)
    if match is None:
        return None
    port = int(match[2] or 0)
    return (match[1].strip("[]").lower(), port) if port < 65536 else None


@dataclass(frozen=True, slots=True)
class Kind:
    """Everything about an exchange that is the same for many.

    method: as sent, "" for one that is not known and was left out. host: as sent. prefix: of `url.full`, before the
    target; None: scheme and host. status: 0 = none seen. failure: see Told.
    """

    method: str
    version: str
    scheme: str
    host: str
    route: str
    agent: str
    status: int
    failure: str = ""
    prefix: str | None = None

    def fields(self) -> Fields:
        """Both sides of the exchange, as the conventions want them."""
        known = self.method in METHODS
        method = _said("http.request.method", self.method if known else OTHER)
        original = _said("http.request.method_original", "" if known else self.method)
        host = split_host(self.host) if self.host else None
        server: Attributes = ()
        if host is not None:
            port = host[1] or _PORTS.get(self.scheme, 0)
            server = (*_given("server.address", host[0]), *_said("server.port", port))
        status = _said("http.response.status_code", self.status)
        version = _said("network.protocol.version", self.version)
        scheme = _given("url.scheme", self.scheme)
        route = _said("http.route", self.route)
        agent = _said("user_agent.original", self.agent)
        word = self.method if known else "HTTP"
        failed = self.failure or (str(self.status) if self.status >= 500 else "")
        refused = self.failure or (str(self.status) if self.status >= 400 else "")
        prefix = f"{self.scheme}://{self.host}" if self.prefix is None else self.prefix
        full = (Slot("url.full", TARGET, prefix),) if host is not None or self.prefix is not None else ()
        return Fields(
            "http",
            Side(
                f"{word} {self.route}" if self.route else word,
                (*method, *original, *scheme, *route, *server, *agent, *status, *_error(failed), *version),
                (*method, *scheme, *route, *status, *_error(failed), *version),
                error=bool(failed),
                slots=_SERVER_SLOTS,
                addressed=host is not None,
            ),
            Side(
                word,
                (*method, *original, *server, *status, *_error(refused), *version),
                (*method, *server, *status, *_error(refused), *version),
                error=bool(refused),
                slots=full,
                addressed=host is not None,
            ),
            str(self.status) if self.status else "",
        )


_SERVER_SLOTS = (Slot("url.path", PATH), Slot("url.query", QUERY))


@lru_cache(4096)
def _given(name: str, value: str | int) -> Attributes:
    """One attribute: the same object for all shapes that have it, of which there may be 16,384."""
    return ((name, value),)


def _said(name: str, value: str | int) -> Attributes:
    """The same, if there is a value."""
    return _given(name, value) if value else ()


def _error(kind: str) -> Attributes:
    return _said("error.type", kind)


def status_of(response: bytes) -> tuple[int, int]:
    """Status of the final response and where it begins; 0: not seen; -1: this is no HTTP/1.x response.

    Interim responses (RFC 9110 §15.2) are stepped over, but 101 is final: what follows is another protocol.
    """
    at = 0
    for _ in range(8):
        match = _STATUS.match(response, at)
        if match is None:
            fits = response[at:].startswith(b"HTTP/1."[: len(response) - at])
            return (0 if fits else -1), at
        status = int(match[2])
        if status >= 200 or status == 101:
            return status, at
        end = response.find(b"\r\n\r\n", at)
        if end < 0:
            return 0, at
        at = end + 4
    return 0, at


def header_lines(message: bytes, at: int = 0) -> tuple[list[tuple[bytes, bytes]], int]:
    """Names (lower-case) and values of the complete header lines behind the first line; where the head ends, or -1."""
    at = message.find(b"\n", at) + 1
    found: list[tuple[bytes, bytes]] = []
    while at:
        end = message.find(b"\n", at)
        if end < 0:
            break
        line = message[at : end - 1] if message[at:end].endswith(b"\r") else message[at:end]
        if not line:
            return found, end + 1
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name.lower(), value.strip(b" \t")))
        at = end + 1
    return found, -1


def framing(message: bytes, at: int) -> tuple[list[tuple[bytes, bytes]], int]:
    """As `header_lines`, but only what says where the body ends."""
    line = message.find(b"\n", at)
    end = message.find(b"\n\r\n", line) if line >= 0 else -1
    bare = message.find(b"\n\n", line, end + 1 if end >= 0 else len(message)) if line >= 0 else -1
    head = bare + 2 if bare >= 0 else end + 3 if end >= 0 else -1
    found = _FRAMING.finditer(message, max(line, 0), head if head >= 0 else len(message))
    return [(match[1].lower(), match[2].removesuffix(b"\r").strip(b" \t")) for match in found], head


def body_end(headers: Sequence[tuple[bytes, bytes]], head: int, data: bytes, fallback: int) -> int:
    """Where the body ends that begins at `head` (RFC 9112 §6.3): `fallback` if none is announced, -1: unknown."""
    fields = dict(reversed(headers))
    if b"transfer-encoding" in fields:
        end = data.find(b"0\r\n\r\n", head)
        while end > head and data[end - 1 : end] != b"\n":
            end = data.find(b"0\r\n\r\n", end + 1)
        return end + 5 if end >= 0 else -1
    length = fields.get(b"content-length")
    if length is None:
        return fallback
    return head + int(length) if length.isdigit() and len(length) <= 18 else -1


def _begins(rest: bytes) -> bool:
    """Whether these bytes, too few for a request line, may be the begin of one."""
    word, blank, _ = rest.lstrip(b"\r\n").partition(b" ")
    return word.decode("latin-1") in METHODS if blank else word in _METHODS_BEGUN


class Http:
    """Module of the registry; `parse` reads with what can be known from the bytes alone."""

    name = "http"
    duration_metric = ("http.server.request.duration", "http.client.request.duration")

    def detect(self, request: bytes, response: bytes) -> float:
        answered = _STATUS.match(response) is not None
        if _START.match(request):
            return 1.0 if answered or not response else 0.3
        if _LINE.match(request) or _CUT.match(request):
            return 0.95 if answered else 0.5 if not response else 0.2
        return 0.6 if answered else 0.0

    def parse(self, request: bytes, response: bytes, session: Session, options: Options) -> Sequence[Reading]:
        reading = Plain(options).read(request, response, Told(server=True))
        return () if reading is None else (reading,)

    def split(self, request: bytes) -> Sequence[int]:
        ends: list[int] = []
        at = 0
        while at < len(request) and len(ends) < MOST:
            if not _LINE.match(request, at):
                # Nothing announced it: it is the body of the last request, unless it begins the next one.
                if ends and not _begins(request[at:]):
                    ends[-1] = len(request)
                break
            headers, head = framing(request, at)
            at = body_end(headers, head, request, head) if head >= 0 else -1
            if at < 0:
                break
            ends.append(at)
        return ends

    def replies(self, response: bytes) -> Sequence[int]:
        ends: list[int] = []
        at = 0
        while at < len(response) and len(ends) < MOST:
            status, offset = status_of(response[at:])
            headers, head = framing(response, at + offset)
            if status <= 0 or head < 0:
                break
            # The answer to HEAD has no body whatever its header says; then the ends do not fit, and nothing is certain.
            at = head if status in _BODYLESS or status == 101 else body_end(headers, head, response, -1)
            if at < 0:
                break
            ends.append(at)
        return ends

    def complete(self, request: bytes, response: bytes, req_bytes: int, rsp_bytes: int) -> bool | None:
        status, at = status_of(response)
        if status <= 0:
            return None
        headers, head = framing(response, at)
        if head < 0:
            return None
        if status in _BODYLESS or request.startswith(b"HEAD "):
            return True
        end = body_end(headers, head, response, -1)
        return None if end < 0 else rsp_bytes >= end

    def leaves(self, request: bytes, response: bytes) -> Leave:
        status, _ = status_of(response)
        if status == 101:
            return Leave.UNKNOWN
        return Leave.UNDECIDED if request.startswith(b"CONNECT ") and 200 <= status < 300 else Leave.NO

    def reader(self, options: Options, intern: Interning) -> Reader:
        from otel_ebpf.protocols.http_columns import HttpReader

        return HttpReader(options, intern)


class Plain:
    """Reads one exchange at a time. `keep`: whether a text may become part of a shape (it bounds how many do)."""

    def __init__(
        self,
        options: Options,
        routes: Routes | None = None,
        keep: Callable[[str, bytes], str] = lambda _kind, text: text.decode("utf-8", "replace"),
    ) -> None:
        self.redactor = Redactor(options.secret_parameters) if options.redact else None
        self.routes = routes or Routes(options.routes)
        self.keep = keep

    def read(self, request: bytes, response: bytes, told: Told) -> Reading | None:
        """The exchange of one request; None: these bytes are no HTTP."""
        request = request.lstrip(b"\r\n")  # RFC 9112 §2.2: empty lines before the request line are ignored
        line = (_STREAM_LINE if told.stream else _LINE).match(request)
        cut = None if line else _CUT.match(request)
        match = line or cut
        if match is None:
            return None
        if told.stream:
            answered = _STREAM_STATUS.match(response)
            status, version = int(answered[1]) if answered else 0, "2"
        else:
            status, at = status_of(response) if response else (0, 0)
            if status < 0:
                return None
            answer = _STATUS.match(response, at)
            version = (line or answer or (b"", b"", b"", b""))[3 if line else 1].decode()
        headers = dict(reversed(header_lines(request)[0])) if line else {}
        sent = match[1].decode()
        method = sent if sent in METHODS else self.keep("method", match[1])
        agent = headers.get(b"user-agent", b"") if told.server else b""
        authority = headers.get(b"host", b"")
        form = self._target(match[2], sent, authority, told)
        kind = Kind(
            method,
            version,
            form.scheme,
            self._host(form.authority, told),
            self._route(form.path, status, told),
            self.keep("agent", agent) if 0 < len(agent) <= LONGEST_VALUE else "",
            status,
            told.failure,
            form.prefix,
        )
        return Reading(kind.fields(), (form.full, form.path, form.query))

    def _host(self, authority: bytes, told: Told) -> str:
        if 0 < len(authority) <= LONGEST_VALUE:
            host = self.keep("host", authority)
            if host and split_host(host) is not None:
                return host
        if not told.address:
            return ""
        address = f"[{told.address}]" if ":" in told.address else told.address
        return f"{address}:{told.port}" if told.port else address

    def _route(self, path: str, status: int, told: Told) -> str:
        if not told.server or not path.startswith("/"):
            return ""
        return self.routes.route(path, told.service, teaches=status != 404)

    def _target(self, raw: bytes, method: str, host: bytes, told: Told) -> _Target:
        """RFC 9112 §3.2: the four forms of a request target."""
        scheme = "https" if told.https else "http"
        target = raw.decode("utf-8", "replace")
        redactor = self.redactor
        if method == "CONNECT" and split_host(target) is not None:
            return _Target(scheme, raw, target, "", "", "//")
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is not None:
            scheme = absolute[1].lower() if absolute[1].lower() in _PORTS else scheme
            path, query = absolute[3] or "/", absolute[4] or ""
            authority = absolute[2].encode()
            if redactor is None:
                return _Target(scheme, authority, target, path, query, "")
            return _Target(scheme, authority, redactor.target(target), redactor.path(path), redactor.query(query), "")
        if target == "*":
            known = host.decode("utf-8", "replace")
            return _Target(scheme, host, f"{scheme}://{known}" if split_host(known) else "", "*", "", "")
        path, _, query = target.partition("?")
        if redactor is not None:
            path, query = redactor.path(path), redactor.query(query)
            target = f"{path}?{query}" if "?" in target else path
        return _Target(scheme, host, target, path, query, None)


@dataclass(frozen=True, slots=True)
class _Target:
    scheme: str
    authority: bytes
    full: str
    path: str
    query: str
    prefix: str | None
