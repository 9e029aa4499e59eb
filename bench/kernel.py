"""What the kernel side costs: ns added to an exchange and to syscalls that are no socket I/O, and bytes in the rings.

One program does one thing without pause (bench/exchange.c); hooks are attached and detached around it in random order,
80 ms each. A window's figure is the lower quartile of its chunks (interference only ever slows); what is reported is
the median over rounds of the difference to the same round's window without any program. The hooks' own dispatch is in
it, which the kernel's run statistics leave out.
"""

from __future__ import annotations

import random
import resource
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.processes import compiled
from bench.table import Row, Spread
from otel_ebpf.capture.live import CaptureSettings, LiveSource
from otel_ebpf.errors import KernelError
from otel_ebpf.kernel import libbpf
from otel_ebpf.model import Flag
from scripts import build_bpf

WINDOW_S, SETTLE_S, WARM_S, DRAIN_S = 0.08, 0.01, 0.5, 0.1
FEWEST_CHUNKS = 8
EXCHANGE_S = 20e-6
"""About what one exchange of the stream takes."""
RING_HEADER = 8

Hooks = dict[str, Callable[[], Callable[[], None]]]
"""Variant → attach it, giving what detaches it."""


@contextmanager
def capture(rings: Counter) -> Iterator[Callable[[], Callable[[], None]]]:
    """The product's own programs, loaded and drained as the agent drains them, attached only when asked."""
    source = LiveSource(CaptureSettings())
    source.start()
    hooks = [name for name in source.object.links if not name.startswith("sweep")]
    ended = threading.Event()

    def drain() -> None:
        while not ended.wait(DRAIN_S):
            for batch in source.read(time.monotonic_ns()).exchanges:
                rings.take(batch.head, batch.head.dtype.itemsize + batch.request.shape[1] + batch.response.shape[1])

    def attach() -> Callable[[], None]:
        links = [source.object.attach(name) for name in hooks]

        def detach() -> None:
            for link in links:
                link.destroy()

        return detach

    for name in hooks:
        source.object.links[name].destroy()
    thread = threading.Thread(target=drain, name="drain")
    thread.start()
    try:
        yield attach
    finally:
        ended.set()
        thread.join()
        source.close()


class Counter:
    """What came out of the rings, by process."""

    def __init__(self) -> None:
        self.server_ends: dict[int, int] = defaultdict(int)
        self.client_ends: dict[int, int] = defaultdict(int)
        self.bytes: dict[int, int] = defaultdict(int)

    def take(self, head: NDArray[np.void], size: int) -> None:
        """A batch of records of `size` bytes each, as they are without the ring's header."""
        served = head["flags"] & np.uint32(Flag.SERVER) != 0
        for tgid in np.unique(head["tgid"]).tolist():
            mine = head["tgid"] == tgid
            self.server_ends[tgid] += int((mine & served).sum())
            self.client_ends[tgid] += int((mine & ~served).sum())
            self.bytes[tgid] += int(mine.sum()) * (RING_HEADER + (size + 7 & ~7))


@contextmanager
def floor() -> Iterator[Callable[[], Callable[[], None]]]:
    """Empty programs on the same hooks."""
    with tempfile.TemporaryDirectory(prefix="otel-ebpf-bench.") as folder:
        path = Path(folder) / "empty.bpf.o"
        build_bpf.compile_one(Path(__file__).with_name("empty.bpf.c"), path, build_bpf.machine())
        handle = libbpf.pointer("bpf_object__open_file", str(path).encode(), None)
        libbpf.call("bpf_object__load", handle)

        def attach() -> Callable[[], None]:
            programs = libbpf.each("bpf_object__next_program", handle)
            links = [libbpf.pointer("bpf_program__attach", program) for program in programs]

            def detach() -> None:
                for link in links:
                    libbpf.library().bpf_link__destroy(link)

            return detach

        try:
            yield attach
        finally:
            libbpf.library().bpf_object__close(handle)


class Stream:
    """bench/exchange.c at work; `chunks()` is what it said: (n, 2) float64, begin and ns per round."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen([str(compiled("exchange")), *arguments], stdout=subprocess.PIPE)
        self.pid = self._process.pid
        self._said: list[bytes] = []
        self._reader = threading.Thread(target=self._read, name="stream")
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while data := self._process.stdout.read(1 << 12):
            self._said.append(data)

    def chunks(self) -> NDArray[np.float64]:
        """End it and take all."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        raw = b"".join(self._said)
        return np.frombuffer(raw[: len(raw) // 16 * 16], np.float64).reshape(-1, 2)


def differences(
    stream: Stream, hooks: Hooks, rounds: int, window_s: float = WINDOW_S
) -> tuple[float, dict[str, list[float]]]:
    """Base ns per round of the stream, and what each variant adds, one value per round of measurement.

    "control" is a second window without any program: what it "adds" is the noise.
    """
    windows: list[tuple[int, str, int, int]] = []
    time.sleep(WARM_S)
    for number in range(rounds):
        order = ["none", "control", *hooks]
        random.shuffle(order)
        for variant in order:
            detach = hooks[variant]() if variant in hooks else None
            time.sleep(SETTLE_S)
            begin = time.monotonic_ns()
            time.sleep(window_s)
            windows.append((number, variant, begin, time.monotonic_ns()))
            if detach:
                detach()
    chunks = stream.chunks()
    chunk_ns = np.diff(chunks[:, 0], append=chunks[-1, 0])
    figure: dict[tuple[int, str], float] = {}
    for number, variant, begin, end in windows:
        inside = chunks[(chunks[:, 0] > begin) & (chunks[:, 0] + chunk_ns < end), 1]
        if len(inside) >= FEWEST_CHUNKS:
            figure[number, variant] = float(np.quantile(inside, 0.25))
    base = {number: value for (number, variant), value in figure.items() if variant == "none"}
    added = {
        variant: [figure[number, variant] - base[number] for number in base if (number, variant) in figure]
        for variant in ("control", *hooks)
    }
    return float(np.median(list(base.values()))), added


def exchange_rows(rounds: int) -> list[Row]:
    """ns and ring bytes per HTTP/1.1 keep-alive exchange, both ends on the host."""
    rings = Counter()
    with capture(rings) as ours, floor() as empty:
        stream = Stream("http", "16")
        base, added = differences(stream, {"floor": empty, "ours": ours}, rounds)
        detach = ours()
        counted = 20_000
        with subprocess.Popen([str(compiled("exchange")), "http", "16", str(counted)]) as process:
            process.wait()
        time.sleep(5 * DRAIN_S)
        detach()
    served, sent = rings.server_ends[process.pid], rings.client_ends[process.pid]
    detail: dict[str, object] = {"base_ns": base, "rounds": rounds}
    bytes_detail: dict[str, object] = {"exchanges": counted, "server_ends": served, "client_ends": sent}
    micro = [value / 1000 for value in added["ours"]]
    return [
        Row("kernel: floor, the same hooks with empty programs", Spread.of([v / 1000 for v in added["floor"]]), " µs"),
        Row("kernel: added to an HTTP/1.1 exchange, both ends", Spread.of(micro), " µs", limit=1.6, detail=detail),
        Row(
            "ring bytes per exchange, both ends",
            Spread.of([rings.bytes[process.pid] / counted]),
            " B",
            digits=0,
            limit=600,
            detail=bytes_detail,
        ),
        Row(
            "ends of exchanges captured, of both ends of each",
            Spread.of([100 * (served + sent) / (2 * counted)]),
            " %",
            limit=100,
            at_least=True,
            detail=bytes_detail,
        ),
    ]


def syscall_rows(rounds: int) -> list[Row]:
    """ns added to system calls that are no socket I/O."""
    rows = []
    with capture(Counter()) as ours, floor() as empty:
        for what, name in (("getppid", "getppid"), ("read", "lseek + read of a file"), ("write", "write to /dev/null")):
            base, added = differences(Stream(what), {"floor": empty, "ours": ours}, rounds)
            control = Spread.of(added["control"])
            # The target is 0: met when it is no more than what two windows without any program differ by.
            limit = round(max(1.0, abs(control.low), abs(control.high)), 1)
            detail: dict[str, object] = {"base_ns": base, "floor_ns": Spread.of(added["floor"]).median}
            rows.append(Row(f"added to {name}", Spread.of(added["ours"]), " ns", digits=1, limit=limit, detail=detail))
    return rows


def connection_rows(rounds: int) -> list[Row]:
    """The same with few and with as many open connections as descriptors allow, both ends in one process.

    Of the many, ten are used, which shows what depends on their number; or all in turn, which shows what it costs that
    the state of none is in the processor's caches: `base` says by how much the exchange itself slows then.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    many = min(10_000, (hard - 100) // 2)
    few = _with_connections(rounds, 10, 10)
    idle, turn = _with_connections(rounds, many, 10), _with_connections(rounds, many, many)
    slower = turn[0] / few[0]
    table = []
    for what, (base, added) in (("10 of them in use", idle), (f"all in turn (without us ×{slower:.2f})", turn)):
        ratios = Spread.of([value / Spread.of(few[1]).median for value in added])
        detail: dict[str, object] = {"base_ns": base, "few_base_ns": few[0], "few_ns": Spread.of(few[1]).median}
        name = f"kernel: cost per exchange with {many:,} open connections ÷ with 10, {what}"
        table.append(Row(name, ratios, "", limit=1.15, detail=detail))
    return table


def _with_connections(rounds: int, count: int, used: int) -> tuple[float, list[float]]:
    """ns of an exchange without programs, and what ours add to it."""
    with capture(Counter()) as ours:
        detach = ours()
        stream = Stream("http", str(count), "0", str(used))
        # Every connection is seen a few times first: their state is made once, and is not what is asked for.
        time.sleep(WARM_S + 10 * count * EXCHANGE_S)
        detach()
        base, added = differences(stream, {"ours": ours}, rounds, max(WINDOW_S, 2 * used * EXCHANGE_S))
        return base, added["ours"]


def rows(quick: bool) -> Sequence[Row]:
    """All of them."""
    rounds = 8 if quick else 40
    try:
        return [*exchange_rows(rounds), *syscall_rows(rounds), *connection_rows(rounds)]
    except KernelError as error:
        raise SystemExit(f"bench: {error}") from error
