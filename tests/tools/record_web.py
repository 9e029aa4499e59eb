"""Records what real HTTP and Redis clients and servers say to each other, as fixtures for the tests.

    python -m tests.tools.record_web http tests/unit/data/http.txt      # needs nginx, curl, wget
    python -m tests.tools.record_web redis tests/unit/data/redis.txt    # needs redis-server, redis-cli

It starts the server itself (tests/servers.py) and runs each scenario below against it (tests/tools/recorder.py says
what is written).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tests.servers import nginx, redis
from tests.tools.recorder import record, run

Scenario = tuple[str, Callable[[int], None]]

LOCATIONS = """
location /orders { return 201 '{"id":4711}'; }
location /busy { return 503; }
location /old { return 301 /hello.txt; }
"""


def curl(path: str, *more: str, host: str = "shop.example.com") -> Callable[[int], None]:
    return lambda port: run("curl", "-s", "-H", f"Host: {host}", *more, f"http://127.0.0.1:{port}{path}")


def kept_alive(port: int) -> None:
    run("curl", "-s", *(f"http://127.0.0.1:{port}/users/{n}/cart?page={n}" for n in (17, 18, 19)))


HTTP: list[Scenario] = [
    ("curl", curl("/hello.txt?color=red&access_token=secret")),
    ("curl: a traceparent", curl("/hello.txt", "-H", "traceparent: 00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")),
    ("curl: one connection, three requests", kept_alive),
    ("curl: POST", curl("/orders/", "-d", "item=1")),
    ("curl: HEAD", curl("/hello.txt", "-I")),
    ("curl: HTTP/1.0", curl("/hello.txt", "-0")),
    ("curl: a method that nobody knows", curl("/hello.txt", "-X", "BREW")),
    ("curl: lower-case method", curl("/hello.txt", "-X", "get")),
    ("curl: not allowed", curl("/hello.txt", "-d", "x")),
    ("curl: unavailable", curl("/busy")),
    ("curl: moved", curl("/old")),
    ("curl: port in Host", curl("/hello.txt", host="shop.example.com:8443")),
    ("curl: a proxy's request", lambda port: run("curl", "-s", "-x", f"127.0.0.1:{port}", "http://shop.example.com/x")),
    (
        "wget: range",
        lambda port: run("wget", "-qO-", "--header=Range: bytes=0-2", f"http://127.0.0.1:{port}/hello.txt"),
    ),
]


def cli(text: str, *more: str) -> Callable[[int], None]:
    return lambda port: run("redis-cli", "-p", str(port), *more, text=text)


REDIS: list[Scenario] = [
    (
        "redis-cli",
        cli(
            "SET user:1 Ada EX 60\nGET user:1\nGET nobody\nLPUSH list a b\nGET list\nSELECT 3\nHSET h f v\nNOSUCH x\n"
            "CONFIG GET maxmemory\nEVAL 'return redis.call(\"GET\", KEYS[1])' 1 user:1\n"
            "MULTI\nINCR n\nINCR n\nEXEC\n"
        ),
    ),
    ("redis-cli: RESP3", cli("HSET h f v\nHGETALL h\nGET missing\nSADD s 1\nGET s\n", "-3")),
    ("redis-cli: login refused", cli("GET a\n", "--user", "nobody", "--pass", "secret", "--no-auth-warning")),
    (
        "redis-cli: 3 commands in one write",
        cli("*2\r\n$3\r\nGET\r\n$1\r\na\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\nPING\r\n", "--pipe"),
    ),
]


def main() -> None:
    what, out = sys.argv[1:]
    if what == "http":
        with nginx(locations=LOCATIONS) as server:
            record(("127.0.0.1", server.port), HTTP, Path(out))
    else:
        with redis() as server:
            record(("127.0.0.1", server.port), REDIS, Path(out))


if __name__ == "__main__":
    main()
