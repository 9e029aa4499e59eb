"""OTLP/HTTP: an ASGI application for POST /v1/traces, /v1/metrics and /v1/logs, in protobuf and in JSON.

Source: opentelemetry-proto, docs/specification.md, "OTLP/HTTP". Answers have the request's encoding. There is no CORS:
a web page of another origin cannot send here, for only the two content types are taken, and a browser asks before it
sends these. No framework: a refusal must be said before the body is read, and the body must be read by pieces.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from otel_ebpf.viewer.contract import Outcome, Signal
from otel_ebpf.viewer.receiver.answers import JSON, PROTOBUF, failure, retry_seconds, status_body, success
from otel_ebpf.viewer.receiver.asgi import Receive, Scope, Send, answer, header
from otel_ebpf.viewer.receiver.bodies import WINDOW_BITS, read_body
from otel_ebpf.viewer.receiver.reception import Incomplete, Reception, Stay, TooLarge, Unsupported

PATHS: dict[str, Signal] = {"/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs"}
PROFILES = "/v1development/profiles"
_LARGE_JSON = 1 << 20
_CODINGS = (b"accept-encoding", b"gzip, deflate, identity")


class OtlpHttp:
    """The application; `close` ends its thread."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        # one: what a conversion holds besides its request must not be multiplied by the number of clients
        self._converter = ThreadPoolExecutor(1, "otlp-json")

    def close(self) -> None:
        """Convert no more."""
        self._converter.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content_type = header(scope, b"content-type").decode("latin-1").partition(";")[0].strip().lower()
        spoken = JSON if content_type == JSON else PROTOBUF
        stay: Stay | None = None
        handed = False
        try:
            signal, coding = self._check(scope, content_type)
            stay = self._reception.room.enter()
            request = await read_body(receive, coding, self._reception.request_bytes, stay)
            if content_type == JSON:
                request = await self._from_json(signal, request)
            handed = True
            outcome: Outcome = await self._reception.hand_in(signal, request, stay)
        except Incomplete as error:
            self._reception.count(error)  # nobody is there to be told
            return
        except Exception as error:
            # a defect too must have an answer, and be counted
            self._reception.count(error)
            told = failure(error)
            headers = told.headers
            if told.retry_after is not None:
                headers = (*headers, (b"retry-after", str(retry_seconds(told.retry_after)).encode()))
            unread = None if handed else receive
            await answer(send, told.status, spoken, status_body(told, spoken), headers, unread)
            return
        finally:
            if stay is not None and not handed:
                stay.leave()
        await answer(send, 200, spoken, success(signal, outcome, spoken))

    def _check(self, scope: Scope, content_type: str) -> tuple[Signal, str]:
        """The signal and the content coding; Unsupported or TooLarge, as far as the header tells."""
        path = scope["path"]
        signal = PATHS.get(path)
        if path == PROFILES:
            raise Unsupported("profiles are not taken yet: traces, metrics and logs are", 404)
        if signal is None:
            raise Unsupported(f"not found: there are {', '.join(PATHS)}", 404)
        if scope["method"] != "POST":
            raise Unsupported("only POST", 405, ((b"allow", b"POST"),))
        if content_type not in (PROTOBUF, JSON):
            raise Unsupported(f"content-type {content_type[:100]!a}: expected {PROTOBUF} or {JSON}", 415)
        coding = header(scope, b"content-encoding").decode("latin-1").strip().lower()
        if coding == "identity":
            coding = ""
        if coding and coding not in WINDOW_BITS:
            raise Unsupported(f"content-encoding {coding[:100]!a}: expected gzip or deflate", 415, (_CODINGS,))
        length = header(scope, b"content-length")
        limit = self._reception.request_bytes
        if length.isdigit() and (len(length) > 18 or int(length) > limit):
            raise TooLarge(f"more than {limit} bytes")
        return signal, coding

    async def _from_json(self, signal: Signal, request: bytes) -> bytes:
        from otel_ebpf.viewer.receiver.json_form import to_protobuf

        if len(request) >= _LARGE_JSON:
            self._reception.tidy_later()
        return await asyncio.get_running_loop().run_in_executor(self._converter, to_protobuf, signal, request)
