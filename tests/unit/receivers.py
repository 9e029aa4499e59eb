"""Receivers that fail on purpose, as real servers on loopback: what a healthy Collector never answers."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import CERT_REQUIRED, PROTOCOL_TLS_SERVER, SSLContext

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status


@dataclass
class Reply:
    """One HTTP answer. hang_up: none at all, the connection is closed."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False


@dataclass
class Seen:
    """What reached a receiver."""

    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    connections: set[tuple[str, int]] = field(default_factory=set)


@contextmanager
def http_receiver(replies: Callable[[int], Reply], tls: SSLContext | None = None) -> Iterator[tuple[str, Seen]]:
    """An HTTP/1.1 server; `replies(n)` answers its n-th request. Yields its host:port, and what it saw."""
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            reply = replies(len(seen.bodies))
            seen.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            seen.headers.append({name.lower(): value for name, value in self.headers.items()})
            seen.paths.append(self.path)
            seen.connections.add(self.client_address)
            if reply.hang_up:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in {"content-length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Failure:
    """One gRPC status; retry_delay: seconds in a RetryInfo. code OK: `body` is the response."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
    retry_delay: float | None = None
    body: bytes = b""


@contextmanager
def grpc_receiver(
    failures: Callable[[int], Failure], credentials: grpc.ServerCredentials | None = None
) -> Iterator[tuple[str, Seen]]:
    """A gRPC server that takes any unary method; `failures(n)` answers its n-th call."""
    seen = Seen()

    def call(body: bytes, context: grpc.ServicerContext) -> bytes:
        failure = failures(len(seen.bodies))
        seen.bodies.append(body)
        seen.headers.append({key: str(value) for key, value in context.invocation_metadata()})
        if failure.code is grpc.StatusCode.OK:
            return failure.body
        if failure.retry_delay is not None:
            status = Status(code=failure.code.value[0], message=failure.message)
            nanos = round(failure.retry_delay * 1e9)
            delay = Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
            status.details.add().Pack(RetryInfo(retry_delay=delay))
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(failure.code, failure.message)
        raise AssertionError

    class Any:
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            seen.paths.append(details.method)
            return grpc.unary_unary_rpc_method_handler(call)

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(Any(),))
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}", seen
    finally:
        server.stop(0).wait()


@dataclass
class Certificates:
    """A small authority, and what it signed for 127.0.0.1 (server and client)."""

    authority: Path
    server: tuple[Path, Path]
    client: tuple[Path, Path]
    stranger: tuple[Path, Path]

    def server_context(self) -> SSLContext:
        """For an HTTPS server that demands a client certificate."""
        context = SSLContext(PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.server)
        context.load_verify_locations(self.authority)
        context.verify_mode = CERT_REQUIRED
        return context

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a gRPC server that demands a client certificate."""
        certificate, key = self.server
        pair = (key.read_bytes(), certificate.read_bytes())
        return grpc.ssl_server_credentials([pair], self.authority.read_bytes(), require_client_auth=True)


def make_certificates(folder: Path) -> Certificates:
    """By the openssl command."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("authority", "stranger"):
        openssl("req", "-x509", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in ("server", "client"):
        openssl("req", *key[:-2], "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signer = ("-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *signer, "-days", "2", "-out", f"{name}.pem")

    def pair(name: str) -> tuple[Path, Path]:
        return folder / f"{name}.pem", folder / f"{name}.key"

    return Certificates(folder / "authority.pem", pair("server"), pair("client"), pair("stranger"))
