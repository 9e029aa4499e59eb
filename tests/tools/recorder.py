"""Records what a client and a server say to each other through a TCP proxy, as fixtures for tests of protocol modules.

A file has one block a connection: a line `# name`, then the bytes in turns as Python literals, `>` from the client and
`<` from the server, each as capture would cut them (REQUEST_LARGE, RESPONSE_LARGE) with `…` behind what was longer.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

REQUEST, RESPONSE = 1024, 512


class Recorder:
    """A proxy on a free loopback port; `take` returns what the connections since the last call said."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.turns: dict[int, list[tuple[str, bytes]]] = {}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            upstream = socket.create_connection(self.server)
            turns = self.turns.setdefault(len(self.turns), [])
            for source, sink, mark in ((client, upstream, ">"), (upstream, client, "<")):
                threading.Thread(target=self._pump, args=(source, sink, mark, turns), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, mark: str, turns: list[tuple[str, bytes]]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if turns and turns[-1][0] == mark:
                    turns[-1] = (mark, turns[-1][1] + data)
                else:
                    turns.append((mark, data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def take(self) -> Iterator[list[tuple[str, bytes]]]:
        time.sleep(0.3)
        for number in sorted(self.turns):
            if self.turns[number]:
                yield list(self.turns[number])
                self.turns[number].clear()


def record(server: tuple[str, int], scenarios: list[tuple[str, Callable[[int], None]]], out: Path) -> None:
    recorder = Recorder(server)
    with out.open("w") as file:
        for name, scenario in scenarios:
            scenario(recorder.port)
            for turns in recorder.take():
                print(f"# {name}", file=file)
                for mark, data in turns:
                    limit = REQUEST if mark == ">" else RESPONSE
                    print(mark, repr(data[:limit]) + ("…" if len(data) > limit else ""), file=file)


def run(*command: str, text: str = "") -> None:
    subprocess.run(command, input=text.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
