"""Asks DNS for a name, then a Redis at the address that it was given: named.py NAME DNS_PORT REDIS_PORT

Writes its own DNS query: the resolver of the system cannot be pointed at another server.
"""

from __future__ import annotations

import socket
import sys

name, dns_port, redis_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
    resolver.settimeout(5)
    resolver.connect(("127.0.0.1", dns_port))
    resolver.send(bytes.fromhex("1234 0100 0001 0000 0000 0000") + labels + bytes.fromhex("00 0001 0001"))
    answer = resolver.recv(512)
address = socket.inet_ntoa(answer[-4:])  # the only record's
with socket.create_connection((address, redis_port)) as store:
    store.sendall(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n")
    store.recv(100)
