"""The ASGI messages that all HTTP parts of the viewer's door need: types, one whole answer, a header."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

# the types of the ASGI specification, version 3: its messages are open dictionaries
Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


def header(scope: Scope, name: bytes) -> bytes:
    """The header's value, b"" if it is not there; if there are several, the last."""
    value = b""
    for key, found in scope["headers"]:
        if key == name:
            value = found
    return value


async def answer(
    send: Send,
    status: int,
    content_type: str,
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]] = (),
    unread: Receive | None = None,
) -> None:
    """A whole answer. unread: the request's body was not read; the connection ends with the answer."""
    fields = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    if unread is not None:
        fields.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": unread is not None})
    if unread is not None:
        await drain(unread)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def drain(receive: Receive, limit: int = 1 << 20, seconds: float = 1.0) -> None:
    """Take a little of a body that was refused.

    Closing with bytes unread resets the connection, perhaps before the client has read the answer (RFC 9112 §9.6).
    """
    until = time.monotonic() + seconds
    while limit > 0:
        try:
            event = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
        except asyncio.TimeoutError:
            return
        if event["type"] != "http.request" or not event.get("more_body", False):
            return
        limit -= len(event.get("body", b""))
