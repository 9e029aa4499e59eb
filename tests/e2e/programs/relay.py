"""A service that asks others: `relay.py HOST:PORT[,CERTIFICATE,KEY] URL…`. GET /r/ID makes it ask each URL + /r/ID, one
after the other, over connections that each of its threads keeps; then it answers. Knows nothing of tracing."""

import http.client
import socketserver
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit


class Kept(threading.local):
    """The connections of a thread, by URL."""

    def __init__(self) -> None:
        self.to: dict[str, http.client.HTTPConnection] = {}


kept = Kept()


def connection(url: str) -> http.client.HTTPConnection:
    """This thread's connection to the server of that URL."""
    if url not in kept.to:
        parts = urlsplit(url)
        host = str(parts.hostname)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            kept.to[url] = http.client.HTTPSConnection(host, parts.port, context=context, timeout=20)
        else:
            kept.to[url] = http.client.HTTPConnection(host, parts.port, timeout=20)
    return kept.to[url]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        asked = []
        for url in sys.argv[2:]:
            upstream = connection(url)
            upstream.request("GET", self.path)
            asked.append(upstream.getresponse().read())
        body = b"(" + b"".join(asked) + b")"
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self.wfile.write(head + body)

    def log_message(self, *_: object) -> None:
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256


address, *tls = sys.argv[1].split(",")
host, _, port = address.rpartition(":")
server = Server((host, int(port)), Handler)
if tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print("ready", flush=True)
server.serve_forever()
