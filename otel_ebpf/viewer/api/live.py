"""Spans as they come in, as server-sent events (HTML Living Standard, "Server-sent events").

A listener gets at most `ROWS` spans every `EVERY_S`. Of what there is more it is told the number; whether these would
have passed its filter, nobody has looked.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping

import anyio
import anyio.to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from otel_ebpf.viewer.api.answers import KINDS, LiveSpan
from otel_ebpf.viewer.api.match import Fits, compiled
from otel_ebpf.viewer.api.sources import LiveSource, Row, Subscription
from otel_ebpf.viewer.api.values import attributes, ms, span_id, text, whole
from otel_ebpf.viewer.decode.traces import COLUMNS

EVERY_S = 0.25
ROWS = 200
LOOKED_AT = 4000
"""Spans that are held against the filter at a time; each is parsed for it."""
_ALIVE = 60
"""Times nothing happened after which a comment is sent, so that a listener that has gone is noticed: 15 s."""
_INDEX = {name: number for number, (name, _) in enumerate(COLUMNS)}
_CLIENT, _PRODUCER = 3, 4
_STATUSES = (
    "http.response.status_code",
    "db.response.status_code",
    "rpc.response.status_code",
    "rpc.grpc.status_code",
    "http.status_code",
    "error.type",
)
_TARGETS = ("url.path", "url.full", "http.target", "http.url")
_DETAILS = ("db.query.text", "db.statement", "dns.question.name", "messaging.destination.name")
_LONGEST = 1024


class EventStream(StreamingResponse):
    """The answer that goes on. Raises ConfigError (a wrong filter) or Busy when it is made, not when it is sent."""

    def __init__(self, source: LiveSource, q: str, headers: Mapping[str, str]) -> None:
        fits = compiled(q)
        self._subscription = source.subscribe()
        events = _events(self._subscription, fits)
        super().__init__(events, media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Here and not in the generator, which may never be begun."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._subscription.close()


async def _events(subscription: Subscription, fits: Fits) -> AsyncIterator[str]:
    silent = 0
    yield ": these are spans as they come in\n\n"
    while True:
        await anyio.sleep(EVERY_S)
        rows, missed = subscription.take()
        spans: list[LiveSpan] = []
        if rows:
            spans, more = await anyio.to_thread.run_sync(fitting, rows, fits)
            missed += more
        if spans:
            yield _event("spans", spans)
        if missed:
            yield _event("missed", {"count": missed})
        silent = 0 if spans or missed else silent + 1
        if silent >= _ALIVE:
            silent = 0
            yield ": still here\n\n"


def _event(name: str, data: object) -> str:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


def fitting(rows: list[Row], fits: Fits) -> tuple[list[LiveSpan], int]:
    """The newest ROWS spans that fit, oldest first; and how many were not looked at, which is bounded by LOOKED_AT."""
    found: list[LiveSpan] = []
    # What happens inside of a service is no exchange, and not a line of tap.
    exchanges = [row for row in rows if whole(row[_INDEX["kind"]]) >= 2]
    looked_at = 0
    for row in reversed(exchanges[-LOOKED_AT:]):
        if len(found) == ROWS:
            break
        looked_at += 1
        span = live_span(row)
        if fits(span, text(row[_INDEX["name"]])):
            found.append(span)
    found.reverse()
    return found, len(exchanges) - looked_at


def live_span(row: Row) -> LiveSpan:
    """A row that decoding made, as a line."""
    values = {name: row[number] for name, number in _INDEX.items()}
    said = attributes(values["attributes"])
    failed = whole(values["status"]) == 2
    status = next((str(said[name]) for name in _STATUSES if said.get(name) not in (None, "")), "")
    return LiveSpan(
        time=ms(values["start"]),
        service=text(values["service"]),
        kind=KINDS[min(whole(values["kind"]), 5)],
        peer=text(values["peer"]),
        system=text(values["system"]),
        what=_what(text(values["name"]), said)[:_LONGEST],
        status=status or ("error" if failed else "ok"),
        failed=failed,
        duration=ms(values["duration"]),
        link=str(said.get("otel_ebpf.link.method", "")),
        trace_id=f"{whole(values['trace_high']):016x}{whole(values['trace_low']):016x}",
        span_id=span_id(values["span_id"]),
    )


def _what(name: str, said: dict[str, object]) -> str:
    """What was asked for: the method and target of HTTP, the query of a database, else the name."""
    target = next((str(said[key]) for key in _TARGETS if said.get(key)), "")
    method = str(said.get("http.request.method") or said.get("http.method") or "")
    if target and method:
        query = str(said.get("url.query") or "")
        return f"{method} {target}?{query}" if query and "?" not in target else f"{method} {target}"
    detail = next((str(said[key]) for key in _DETAILS if said.get(key)), "")
    if not detail or detail.casefold() in name.casefold():
        return name
    first = name.partition(" ")[0]
    return detail if detail.casefold().startswith(first.casefold()) else f"{name} {detail}"
