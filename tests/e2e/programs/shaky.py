"""A service that is slow and fails when it is told to: `shaky.py PORT [URL]`. Given a URL, it asks the service there
for the same path, and answers 200 whatever that said. Else /fail/… is answered with 500, and …?slow after 0.3 s. Knows
nothing of tracing."""

import sys
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def status_of(path: str) -> int:
    if len(sys.argv) > 2:
        try:
            with urllib.request.urlopen(f"{sys.argv[2]}{path}", timeout=20) as response:
                response.read()
        except urllib.error.HTTPError as error:
            error.read()
        return 200  # what went wrong behind does not show in front
    if path.endswith("?slow"):
        time.sleep(0.3)
    return 500 if path.startswith("/fail") else 200


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = status_of(self.path)
        self.wfile.write(f"HTTP/1.1 {status} Said\r\nContent-Length: 2\r\n\r\nok".encode())

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 256


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
