"""Who may come in: one `Door` per listening address, asked by the gRPC server and, as ASGI middleware, by HTTP's.

- At loopback addresses everyone, but by a name that is ours: a web page that points its own name at 127.0.0.1 (DNS
  rebinding) would otherwise read what a browser on this host can read. Browsers cannot speak gRPC, so there it is not
  asked.
- At others: who shows the token. OTLP clients send it as a header. A browser opens /?token=… once and gets a cookie;
  cookies are sent to every port of a host, so it holds a key made of the token, which is good for the page alone.
- Client certificates are TLS's business: whoever is here has one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode

from otel_ebpf.viewer.listening import is_loopback
from otel_ebpf.viewer.receiver.answers import JSON, PROTOBUF, Failure, failure, status_body
from otel_ebpf.viewer.receiver.asgi import App, Event, Receive, Scope, Send, answer, header
from otel_ebpf.viewer.receiver.door_page import POLICY, token_page
from otel_ebpf.viewer.receiver.reception import Reception, Stranger, Unsupported

_BEARER = b"bearer "
SECURITY_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Door:
    """What one address demands. token: "" for none. hosts: names and addresses that Host may bear; None: any."""

    def __init__(self, token: str = "", hosts: Iterable[str] | None = None) -> None:
        self.hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._token = token.encode()

    @property
    def wants_token(self) -> bool:
        """Nobody comes in without."""
        return bool(self._token)

    def knows_token(self, token: bytes) -> bool:
        """In a time that does not tell how much of it is right."""
        return hmac.compare_digest(token, self._token)

    def knows_authorization(self, value: bytes) -> bool:
        """The value of an Authorization header is "Bearer" and our token (RFC 6750 §2.1)."""
        scheme, token = value[: len(_BEARER)], value[len(_BEARER) :]
        return scheme.lower() == _BEARER and self.knows_token(token.strip())

    def knows_host(self, value: str) -> bool:
        """The Host header is ours, whatever its port: a tunnel may have changed that.

        >>> door = Door(hosts=["box"])
        >>> door.knows_host("BOX:80"), door.knows_host("[::1]:8890"), door.knows_host("box.example.org")
        (True, True, False)
        """
        if self.hosts is None:
            return True
        bracketed = value.startswith("[")
        host = value[1:].partition("]")[0] if bracketed else value.partition(":")[0]
        host = host.lower().rstrip(".")
        # RFC 6761 §6.3: localhost and all below it are loopback
        return host == "localhost" or host.endswith(".localhost") or is_loopback(host) or host in self.hosts

    def cookie(self) -> str:
        """The value of the page's cookie."""
        return hmac.new(self._token, b"otel-ebpf page", hashlib.sha256).hexdigest()

    def knows_cookie(self, value: str) -> bool:
        """See `cookie`."""
        return hmac.compare_digest(value.encode(), self.cookie().encode())


class OtlpAccess:
    """ASGI middleware of the OTLP/HTTP address: refuses with OTLP's answers."""

    def __init__(self, app: App, door: Door, reception: Reception) -> None:
        self._app, self._door, self._reception = app, door, reception

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = _refusal(scope, self._door)
        if error is None:
            await self._app(scope, receive, send)
            return
        self._reception.count(error)
        content_type = JSON if header(scope, b"content-type").lower().startswith(JSON.encode()) else PROTOBUF
        told = failure(error)
        await answer(send, told.status, content_type, status_body(told, content_type), told.headers, receive)


class PageAccess:
    """ASGI middleware of the page and its API: token or cookie, and the headers that keep browsers strict.

    cookie: its name, different for each viewer of a host: cookies do not know of ports. secure: it came by TLS.
    """

    def __init__(self, app: App, door: Door, cookie: str = "otel_ebpf", secure: bool = False) -> None:
        self._app, self._door, self._cookie, self._secure = app, door, cookie, secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def strict(event: Event) -> None:
            if event["type"] == "http.response.start":
                own = list(event.get("headers", ()))
                names = {name for name, _ in own}
                event = {**event, "headers": [*own, *(one for one in SECURITY_HEADERS if one[0] not in names)]}
            await send(event)

        error = _of_another_site(scope) or _refusal(scope, self._door)
        if isinstance(error, Stranger):
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            tokens = [value for key, value in query if key == "token"]
            if tokens and self._door.knows_token(tokens[-1].encode()):
                await self._welcome(scope, query, strict)
                return
            if self._has_cookie(scope):
                error = None
        if error is not None:
            await _refuse_page(scope, receive, strict, failure(error))
            return
        await self._app(scope, receive, strict)

    def _has_cookie(self, scope: Scope) -> bool:
        try:
            cookies = SimpleCookie(header(scope, b"cookie").decode("latin-1"))
        except CookieError:
            return False
        found = cookies.get(self._cookie)
        return found is not None and self._door.knows_cookie(found.value)

    async def _welcome(self, scope: Scope, query: list[tuple[str, str]], send: Send) -> None:
        """Give the cookie, and have the token taken out of the address before anybody sees or keeps it."""
        rest = urlencode([(key, value) for key, value in query if key != "token"])
        # one slash: "//x" would be another host
        path = "/" + quote(scope["path"]).lstrip("/\\")
        cookie = f"{self._cookie}={self._door.cookie()}; Path=/; HttpOnly; SameSite=Strict"
        headers = (
            (b"location", (f"{path}?{rest}" if rest else path).encode()),
            (b"set-cookie", (cookie + ("; Secure" if self._secure else "")).encode()),
            (b"cache-control", b"no-store"),
        )
        await answer(send, 303, "text/plain", b"", headers)


def _of_another_site(scope: Scope) -> Unsupported | None:
    """A page of somebody else's asks: it could not read the answers, but take our time, and listeners' places.

    Source: W3C, "Fetch Metadata Request Headers". Links that a person follows are of mode navigate.
    """
    foreign = header(scope, b"sec-fetch-site") == b"cross-site" and header(scope, b"sec-fetch-mode") != b"navigate"
    return Unsupported("pages of other sites may not ask here", 403) if foreign else None


def _refusal(scope: Scope, door: Door) -> Stranger | Unsupported | None:
    """Why the request must not come in; None: it may."""
    host = header(scope, b"host").decode("latin-1")
    if not door.knows_host(host):
        shown = "".join(c if c.isprintable() else "?" for c in host[:100])
        # RFC 9110 §15.5.20: Misdirected Request
        return Unsupported(f"{shown!r} is no name of this address: use localhost, or the address itself", 421)
    if door.wants_token and not door.knows_authorization(header(scope, b"authorization")):
        return Stranger("a token is needed: Authorization: Bearer …; in a browser, open the address with ?token=…")
    return None


async def _refuse_page(scope: Scope, receive: Receive, send: Send, told: Failure) -> None:
    headers = (*told.headers, (b"cache-control", b"no-store"))
    if scope["path"].startswith("/api"):
        body, content_type = json.dumps({"error": told.message}).encode(), JSON
    elif told.status == 401 and scope["method"] in ("GET", "HEAD") and b"text/html" in header(scope, b"accept"):
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        rest = [(key, value) for key, value in query if key != "token"]
        page = token_page(quote(scope["path"]), rest, wrong=len(rest) < len(query))
        body, content_type = page.encode(errors="replace"), "text/html; charset=utf-8"
        headers = (*headers, (b"content-security-policy", POLICY))
    else:
        body, content_type = f"{told.message}\n".encode(), "text/plain; charset=utf-8"
    await answer(send, told.status, content_type, body, headers, receive)
