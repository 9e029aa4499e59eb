"""An HTTP server that maps the files given to it as if they were its libraries, under a name of control characters.

impostor.py FILE …      prints its port
"""

from __future__ import annotations

import ctypes
import mmap
import socket
import sys
from pathlib import Path

PR_SET_NAME = 15

mapped = []
for path in map(Path, sys.argv[1:]):
    with path.open("rb") as file:
        mapped.append(mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC))
ctypes.CDLL(None).prctl(PR_SET_NAME, b"\x1b[31m\n\xff)(", 0, 0, 0)
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        with client:
            if client.recv(65536):
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
