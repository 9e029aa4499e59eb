"""A thread per connection (http.server), calls over a pool of http.client connections."""

from __future__ import annotations

import argparse
import http.client
import queue
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--backend", required=True)
options = parser.parse_args()
pool: "queue.LifoQueue[http.client.HTTPConnection]" = queue.LifoQueue()


def call(path: str) -> None:
    try:
        connection = pool.get_nowait()
    except queue.Empty:
        connection = http.client.HTTPConnection(options.backend)
    connection.request("GET", path)
    connection.getresponse().read()
    pool.put(connection)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        token = url.path[3:]
        for i in range(int(parse_qs(url.query).get("k", ["1"])[0])):
            call(f"/b/{token}/{i}")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


Server(("127.0.0.1", options.port), Handler).serve_forever()
