"""Records what dig and a real BIND say to each other, as fixtures for the tests of the DNS module.

    python record_dns.py tests/unit/data/dns.txt        # needs named and dig (bind9, bind9-dnsutils)

named serves the zone below on a free loopback port; dig asks through a relay. One block a question: `# name` and dig's
arguments, then the bytes in hexadecimal, `>` from the client and `<` from the server.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ZONE = """$TTL 300
@ IN SOA ns hostmaster 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.53
www IN CNAME front
front 60 IN CNAME edge
edge IN A 192.0.2.1
edge IN A 192.0.2.2
edge IN AAAA 2001:db8::1
many IN A 192.0.2.10
text IN TXT "hello world"
_http._tcp IN SRV 0 5 80 edge
xn--bcher-kva IN A 192.0.2.7
odd\\.label IN A 192.0.2.8
""" + "".join(f"big IN A 198.51.100.{i}\n" for i in range(1, 101))

QUESTIONS = {
    "address": "edge.example.test A",
    "address of IPv6": "edge.example.test AAAA",
    "aliases": "www.example.test A",
    "randomised case": "eDGe.exAMple.TEST A",
    "international": "xn--bcher-kva.example.test A",
    "dot in a label": r"'odd\.label.example.test' A",
    "service": "_http._tcp.example.test SRV",
    "text": "text.example.test TXT",
    "no such name": "nowhere.example.test A",
    "no such type": "text.example.test AAAA",
    "refused": "www.elsewhere.invalid A",
    "unknown type": "edge.example.test TYPE65400",
    "chaos class": "version.bind CH TXT",
    "bad version": "edge.example.test A +edns=5 +noednsneg",
    "no EDNS": "edge.example.test A +noedns",
    "truncated": "big.example.test A +ignore +bufsize=512",
    "large over TCP": "big.example.test A +tcp",
    "over TCP": "www.example.test A +tcp",
    "zone transfer": "example.test AXFR",
    "iterative": "edge.example.test A +norecurse +noedns",
    "notify": "example.test SOA +opcode=NOTIFY",
    "update": "example.test SOA +opcode=UPDATE",
}


class Relay:
    """UDP and TCP from a free port to the server; `said` holds what went through since it was emptied."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.said: list[tuple[str, bytes]] = []
        self.stream = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.stream.getsockname()[1]
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.bind(("127.0.0.1", self.port))
        for target in (self._udp, self._tcp):
            threading.Thread(target=target, daemon=True).start()

    def _udp(self) -> None:
        while True:
            request, client = self.datagrams.recvfrom(65536)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
                upstream.sendto(request, self.server)
                response = upstream.recv(65536)
            self.said += [(">", request), ("<", response)]
            self.datagrams.sendto(response, client)

    def _tcp(self) -> None:
        while True:
            client, _ = self.stream.accept()
            with client, socket.create_connection(self.server) as upstream:
                request = client.recv(65536)
                upstream.sendall(request)
                upstream.settimeout(0.5)
                response = b""
                with contextlib.suppress(TimeoutError):  # the server keeps the connection open when it has said all
                    while received := upstream.recv(65536):
                        response += received
                self.said += [(">", request), ("<", response)]
                client.sendall(response)


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as name, socket.socket() as probe:
        folder = Path(name)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        (folder / "zone").write_text(ZONE)
        (folder / "named.conf").write_text(
            f'options {{ directory "{folder}"; pid-file none; session-keyfile none; recursion no; version "9";'
            f" listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; allow-transfer {{ any; }};"
            f" minimal-responses yes; check-names primary ignore; }}; controls {{ }};"
            f' zone "example.test" {{ type primary; file "zone"; allow-update {{ none; }}; }};'
        )
        probe.close()
        named = subprocess.Popen(["named", "-g", "-c", str(folder / "named.conf")], stderr=subprocess.DEVNULL)
        try:
            time.sleep(2)
            relay = Relay(("127.0.0.1", port))
            blocks = []
            for title, question in QUESTIONS.items():
                relay.said.clear()
                dig = ["dig", "@127.0.0.1", "-p", str(relay.port), "+tries=1", "+qr", *shlex.split(question)]
                said = subprocess.run(dig, capture_output=True, text=True).stdout
                print(title, re.findall(r"status: (\w+)", said))
                lines = "\n".join(f"{mark} {data.hex()}" for mark, data in relay.said)
                blocks.append(f"# {title}: {question}\n{lines}\n")
            target.write_text("\n".join(blocks))
        finally:
            named.terminate()
            named.wait()


main(Path(sys.argv[1]))
