"""Services that pass each request on (programs/relay.py), on hosts of their own; which spans are of which request.

    driver → shop | router | → stock | router | → ledger, on the host of the shop

with two_hosts(ports) as hosts, chain(hosts, ports[0]) as shop:
    http.client.HTTPConnection(*shop).request("GET", "/r/7")
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.hosts import Host, TwoHosts
from tests.processes import running, scratch
from tests.spans import SeenSpan

_RELAY = Path(__file__).parent / "programs" / "relay.py"
_SHOP, _LEDGER = 8000, 8001


@contextmanager
def relay(name: str, host: Host, address: str, *upstream: str) -> Iterator[None]:
    """A service at `address` ("10.0.0.1:80", behind commas certificate and key) that asks all of `upstream` (URLs)."""
    with scratch() as folder:
        log = folder / "log"
        command = (*host.command, sys.executable, str(_RELAY), address, *upstream)
        with running(
            command,
            lambda: log.exists() and "ready" in log.read_text(),
            log=log,
            environment={"OTEL_SERVICE_NAME": name},
        ):
            yield


@contextmanager
def chain(hosts: TwoHosts, port: int) -> Iterator[tuple[str, int]]:
    """Shop, stock and ledger; where the shop is. port: of stock, behind the router."""
    with ExitStack() as stack:
        ledger = f"{hosts.client.address}:{_LEDGER}"
        stack.enter_context(relay("ledger", hosts.client, ledger))
        stack.enter_context(relay("stock", hosts.server, f"{hosts.server.address}:{port}", f"http://{ledger}"))
        door, number = hosts.door(port)
        shop = hosts.client.address, _SHOP
        stack.enter_context(relay("shop", hosts.client, "{}:{}".format(*shop), f"http://{door}:{number}"))
        yield shop


def of_request(span: SeenSpan) -> int | None:
    """Which request a span belongs to, by its path; None: none of ours."""
    for name in ("url.path", "url.full"):
        path = str(span.get(name) or "")
        if "/r/" in path:
            return int(path.rpartition("/")[2])
    return None


def by_request(spans: Sequence[SeenSpan], ids: Sequence[int]) -> dict[int, list[SeenSpan]]:
    found: dict[int, list[SeenSpan]] = {}
    for span in spans:
        number = of_request(span)
        if number is not None and number in ids:
            found.setdefault(number, []).append(span)
    return found
