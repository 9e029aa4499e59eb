"""`otel-ebpf demo`: the shop, the agent and its viewer, until Ctrl-C; nothing is left behind."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from otel_ebpf.demo import programs
from otel_ebpf.demo.customers import Customers
from otel_ebpf.demo.folder import scratch
from otel_ebpf.demo.observer import Observer
from otel_ebpf.demo.processes import Processes, Stopped, last_words
from otel_ebpf.demo.progress import Progress
from otel_ebpf.demo.shop import CALLERS, Shop
from otel_ebpf.demo.stop import SIGNALS, Stop
from otel_ebpf.errors import ConfigError, UnsupportedError

_TURN_S = 0.5
_FIRST_TRACE_S = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """rate: requests a second. folder: where the demo's own is made; None: the system's. listen: the page's address."""

    rate: float = 8.0
    folder: Path | None = None
    shop_only: bool = False
    listen: str = "127.0.0.1:8890"


def run(options: Options) -> int:
    """Run until Ctrl-C or SIGTERM; returns the exit code. UnsupportedError, ConfigError: it cannot be started."""
    if not 0.1 <= options.rate <= 1000:
        raise ConfigError(f"--rate: {options.rate:g} is not a number of requests a second from 0.1 to 1000")
    found, account = programs.find(), programs.account()
    if account is None and not options.shop_only:
        raise UnsupportedError("demo: must run as root: the agent loads BPF programs (--shop-only: the shop alone)")
    stop, progress = Stop(), Progress()
    with (
        scratch(options.folder or Path(tempfile.gettempdir())) as folder,
        _ending(Processes(folder, stop), progress) as all_,
    ):
        try:
            shop = Shop(found, all_, account, progress.done)
            observer = None if options.shop_only else Observer(all_, folder, options.listen)
            shop.open()
            if observer is not None:
                observer.await_ready()
                progress.done("agent", "observes this host")
                progress.done("view", observer.page)
            customers = Customers(shop.let_in(options.rate).process)
            progress.say(f"shop: {shop.url} (curl --cacert {shop.certificate} {shop.url})", "dim")
            if observer is not None:
                _await_first_trace(observer, stop, progress)
            _watch(all_, customers, observer, stop, progress)
        except Stopped:
            pass
    return 0


@contextmanager
def _ending(processes: Processes, progress: Progress) -> Iterator[Processes]:
    """Whatever happens, all processes end with the context, and a second Ctrl-C does not keep them from it."""
    try:
        yield processes
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        try:
            progress.close()
            progress.say("ending", "dim")
        finally:
            processes.close(CALLERS)


def _await_first_trace(observer: Observer, stop: Stop, progress: Progress) -> None:
    """Until a request is seen from the customer to the database."""
    deadline = time.monotonic() + _FIRST_TRACE_S
    while time.monotonic() < deadline:
        trace = observer.whole_trace()
        if trace is not None:
            progress.done("first whole trace", f"{trace.spans} spans, {trace.services} services")
            progress.say(f"\n  {observer.page}\n", "bold")
            return
        if stop.wait(0.1):
            raise Stopped
    progress.say(
        f"no whole trace within {_FIRST_TRACE_S:.0f} s: `otel-ebpf doctor` says what this host lacks", "yellow"
    )
    progress.say(f"\n  {observer.page}\n", "bold")


def _watch(
    processes: Processes, customers: Customers, observer: Observer | None, stop: Stop, progress: Progress
) -> None:
    """Show how it goes, until a signal comes. A service may end (somebody tries what happens); the agent may not."""
    where = f"{observer.page}  " if observer else ""
    while not stop.wait(_TURN_S):
        customers.read()
        seconds = int(progress.elapsed)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        progress.now(f"{where}{customers.rate:.0f} requests/s, {customers.failed} failed, {clock}. Ctrl-C ends")
        for service in processes.ended():
            words = f"{service.name} has ended (exit {service.process.returncode}): {last_words(service.log)}"
            if observer is not None and service is observer.service:
                raise UnsupportedError(f"demo: {words}")
            progress.say(f"{words}; the shop goes on without it", "yellow")
