"""The shop's customers: several kinds of them, over HTTPS, at a steady rate; says once a second how it went so far.

{"requests": 80, "failed": 2}
"""

from __future__ import annotations

import http.client
import json
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

Step: TypeAlias = "tuple[str, str, dict[str, int] | None]"
"""Method, path, JSON body."""
Kind: TypeAlias = "Callable[[], Iterator[Step]]"
PRODUCTS = 240
_WORDS = ("desk", "lamp", "oak", "chair", "wool", "blue", "shelf", "clock")
_THREADS = 8
_TIMEOUT_S = 15.0


@dataclass(slots=True)
class Tally:
    """How it went for one thread since the start. failed: no answer, or one of 500 and above."""

    requests: int = 0
    failed: int = 0


def visitor() -> Iterator[Step]:
    """Looks around."""
    yield "GET", "/", None
    for _ in range(random.randint(2, 5)):
        yield "GET", f"/products/{_popular()}", None
    if random.random() < 0.3:
        yield "GET", "/static/logo.svg", None


def searcher() -> Iterator[Step]:
    """Knows what it wants, more or less."""
    for _ in range(random.randint(1, 3)):
        yield "GET", f"/search?q={random.choice(_WORDS)}", None
        yield "GET", f"/products/{_popular()}", None


def buyer() -> Iterator[Step]:
    """Fills a cart and pays."""
    yield "GET", "/", None
    for _ in range(random.randint(1, 3)):
        number = _popular()
        yield "GET", f"/products/{number}", None
        yield "POST", "/cart/items", {"product": number, "quantity": random.randint(1, 2)}
    yield "GET", "/cart", None
    yield "POST", "/checkout", {}


def robot() -> Iterator[Step]:
    """Follows links, old ones too."""
    for number in random.sample(range(1, PRODUCTS + 30), 4):
        yield "GET", f"/products/{number}", None


KINDS: tuple[tuple[Kind, int], ...] = ((visitor, 4), (searcher, 2), (buyer, 3), (robot, 1))
"""What a customer does, and how many of ten do it."""


def _popular() -> int:
    """A product; those with low numbers are asked for more often."""
    return min(int(random.paretovariate(0.7)), PRODUCTS)


class Pace:
    """Lets requests begin at `rate` a second on average, never in step."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._next = time.monotonic()

    def wait(self) -> None:
        """Until it is this thread's turn."""
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next + random.uniform(0.5, 1.5) / self._rate, now - 1)
            pause = self._next - now
        time.sleep(max(pause, 0))


def shop(url: str, authority: str, pace: Pace, tally: Tally) -> None:
    """One customer after the other, each with a connection and a session of its own."""
    context = ssl.create_default_context(cafile=authority)
    address = urlsplit(url).netloc
    kinds, weights = [kind for kind, _ in KINDS], [weight for _, weight in KINDS]
    while True:
        (kind,) = random.choices(kinds, weights)
        headers = {"User-Agent": f"{kind.__qualname__}/1.0", "X-Session": f"{random.getrandbits(48):x}"}
        connection = http.client.HTTPSConnection(address, timeout=_TIMEOUT_S, context=context)
        for method, path, body in kind():
            pace.wait()
            tally.requests += 1
            try:
                given = None if body is None else json.dumps(body)
                connection.request(
                    method, path, given, headers | ({"Content-Type": "application/json"} if given else {})
                )
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                tally.failed += 1
                break
            tally.failed += response.status >= 500
        connection.close()


def main() -> None:
    """Run until the end."""
    pace, tallies = Pace(float(os.environ["RATE"])), [Tally() for _ in range(_THREADS)]
    for tally in tallies:
        given = (os.environ["SHOP_URL"], os.environ["SHOP_CERTIFICATE"], pace, tally)
        threading.Thread(target=shop, args=given, daemon=True).start()
    while True:
        time.sleep(1)
        total = {"requests": sum(t.requests for t in tallies), "failed": sum(t.failed for t in tallies)}
        print(json.dumps(total), flush=True)


if __name__ == "__main__":
    main()
