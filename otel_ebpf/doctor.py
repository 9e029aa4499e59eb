"""`otel-ebpf doctor`: what this host allows, feature by feature, with the remedy for each no.

Nothing is concluded from version numbers: map and program types are made, types are looked up in the kernel's own BTF,
and at the end the programs are loaded and attached for a moment, as `run` would.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from json import dumps
from pathlib import Path
from urllib.parse import urlsplit

from otel_ebpf import __version__
from otel_ebpf.config import Config
from otel_ebpf.config.otlp import SIGNALS
from otel_ebpf.errors import OtelEbpfError
from otel_ebpf.runtimes.watch import Runtimes

CAPABILITIES = {
    # include/uapi/linux/capability.h; what for
    "CAP_BPF": (39, "load BPF programs"),
    "CAP_PERFMON": (38, "attach them to tracepoints and uprobes"),
    "CAP_SYS_PTRACE": (19, "read /proc of other users' processes: names, libraries"),
    "CAP_NET_ADMIN": (12, "network programs of BPF"),
    "CAP_SYS_RESOURCE": (24, "lock memory for BPF maps where the kernel counts it by RLIMIT_MEMLOCK"),
}
CAP_SYS_ADMIN = 21
_MAPS = {"ring buffer": 27, "socket storage": 24, "task storage": 29}
"""enum bpf_map_type: BPF_MAP_TYPE_RINGBUF, _SK_STORAGE, _TASK_STORAGE."""
_PROGRAM_OF_UPROBES = 2
"""enum bpf_prog_type: BPF_PROG_TYPE_KPROBE."""
_DISTRIBUTIONS = ("numpy", "grpcio", "opentelemetry-proto", "opentelemetry-sdk", "pyyaml", "rich")
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO, include/linux/proc_ns.h."""
_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronized."""
_REACH_SECONDS = 2.0
_VMLINUX = Path("/sys/kernel/btf/vmlinux")
_BTF_REMEDY = "use a kernel with CONFIG_DEBUG_INFO_BTF=y: those of Debian 11, Ubuntu 20.10, RHEL 8.2 and later have it"


@dataclass(frozen=True, slots=True)
class Check:
    """One feature. ok: None = cannot be told without more rights. needed: without it the main job cannot run.

    use: what it is for. detail: what was found. remedy: what to do about a no."""

    name: str
    ok: bool | None
    needed: bool
    use: str
    detail: str = ""
    remedy: str = ""


def main(config: Config, json: bool = False) -> int:
    """Print all checks; 1 if the main job cannot run."""
    checks = examine(config)
    fine = all(check.ok for check in checks if check.needed)
    if json:
        document = {"version": __version__, "ok": fine, "checks": [asdict(check) for check in checks]}
        print(dumps(document, indent=2))
    elif sys.stdout.isatty():
        _print_table(checks, fine)
    else:
        _print_lines(checks, fine)
    return 0 if fine else 1


def examine(config: Config) -> list[Check]:
    """All checks, in the order in which one builds on another."""
    return [check for part in _PARTS for check in part(config)]


# ---- rights ----


def _rights(config: Config) -> Iterator[Check]:
    root = os.geteuid() == 0
    yield Check("root", root, True, "everything", f"uid {os.geteuid()}", "run it with sudo")
    effective = _effective_capabilities()
    everything = effective >> CAP_SYS_ADMIN & 1
    for name, (bit, use) in CAPABILITIES.items():
        implied = everything and name in ("CAP_BPF", "CAP_PERFMON")
        held = bool(effective >> bit & 1 or implied)
        yield Check(
            name,
            held,
            name in ("CAP_BPF", "CAP_PERFMON"),
            use,
            "by CAP_SYS_ADMIN" if implied and not effective >> bit & 1 else "",
            f"add it: `docker run --cap-add {name[4:]}`, systemd AmbientCapabilities={name}, or --privileged",
        )
    own = Path("/proc/self/ns/pid").stat().st_ino
    yield Check(
        "host's process ids",
        own == _INITIAL_PID_NAMESPACE,
        False,
        "tell whose an exchange is",
        "" if own == _INITIAL_PID_NAMESPACE else "in a pid namespace of its own",
        "start the container with --pid=host (Kubernetes: hostPID: true)",
    )


def _effective_capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("\nCapEff:")[2].split()[0], 16)


# ---- kernel ----


def _kernel(config: Config) -> Iterator[Check]:
    yield Check("kernel", True, False, "", f"{os.uname().release} {os.uname().machine}")
    readable = os.access(_VMLINUX, os.R_OK)
    yield Check("BTF", readable, True, "fit the programs to this kernel", str(_VMLINUX), _BTF_REMEDY)
    mode = _lockdown()
    yield Check(
        "lockdown",
        mode != "confidentiality",
        True,
        "read kernel memory in BPF programs",
        mode or "not in use",
        "start the kernel without lockdown=confidentiality (integrity does no harm)",
    )
    jit = _text(Path("/proc/sys/net/core/bpf_jit_enable"))
    yield Check("JIT", jit not in ("", "0"), False, "low cost", f"{jit or 'none'}", "sysctl net.core.bpf_jit_enable=1")
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    enough = resource.RLIM_INFINITY in (soft, hard) or bool(_effective_capabilities() >> 24 & 1)
    yield Check(
        "locked memory",
        enough,
        False,
        "maps on kernels that count them by RLIMIT_MEMLOCK (before 5.11)",
        "unlimited" if soft == resource.RLIM_INFINITY else f"{soft} bytes" + (", can be raised" if enough else ""),
        "ulimit -l unlimited, or systemd LimitMEMLOCK=infinity",
    )
    tracefs = next((path for path in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing") if _is_tracefs(path)), "")
    mount = "mount -t tracefs tracefs /sys/kernel/tracing"
    yield Check("tracefs", bool(tracefs), False, "looking at tracepoints by hand", tracefs, mount)
    cgroup2 = mount_of("cgroup2")
    yield Check(
        "cgroup2", bool(cgroup2), False, "systemd units and containers", cgroup2, "mount -t cgroup2 none /sys/fs/cgroup"
    )
    uprobe = Path("/sys/bus/event_source/devices/uprobe/type").exists()
    yield Check("uprobes", uprobe, False, "plaintext of TLS libraries", "", "use a kernel with CONFIG_UPROBE_EVENTS=y")
    synchronized = _clock_state() != _TIME_ERROR
    yield Check(
        "clock",
        synchronized,
        False,
        "order of spans from several hosts",
        "synchronized" if synchronized else "not synchronized",
        "run chrony or systemd-timesyncd",
    )


def _lockdown() -> str:
    """`none [integrity] confidentiality` → "integrity"; "" if the kernel has no lockdown or securityfs is not there."""
    return _text(Path("/sys/kernel/security/lockdown")).partition("[")[2].partition("]")[0]


def _is_tracefs(path: str) -> bool:
    return os.access(f"{path}/events", os.R_OK | os.X_OK)


def mount_of(kind: str) -> str:
    """proc_pid_mountinfo(5): field 5 is the mount point; after " - " comes the type."""
    for line in _text(Path("/proc/self/mountinfo")).splitlines():
        head, _, tail = line.partition(" - ")
        if tail.split(" ")[0] == kind:
            return head.split(" ")[4]
    return ""


def _clock_state() -> int:
    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024)))


# ---- libraries ----


def _libraries(config: Config) -> Iterator[Check]:
    yield Check("python", True, False, "", sys.version.split()[0])
    for name in _DISTRIBUTIONS:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = ""
        yield Check(name, bool(found), True, "Python package", found, f"pip install {name}")
    from otel_ebpf.kernel.libbpf import library

    try:
        libbpf = library()
    except (OtelEbpfError, AttributeError) as error:
        yield Check("libbpf", False, True, "load programs", str(error), "install libbpf1 (Debian) or libbpf (Fedora)")
        return
    version = f"{libbpf.libbpf_major_version()}.{libbpf.libbpf_minor_version()}"
    yield Check("libbpf", True, True, "load programs", version)
    for name in ("requests", "tls"):
        yield _compiled(name)
    yield from _types(libbpf)


def _compiled(name: str) -> Check:
    from otel_ebpf.kernel.btf import object_path

    try:
        path = object_path(name)
    except OtelEbpfError as error:
        return Check(f"{name}.bpf.o", False, name == "requests", "compiled programs", str(error), "make bpf")
    return Check(f"{name}.bpf.o", True, name == "requests", "compiled programs", f"{path.stat().st_size} bytes")


def _types(libbpf: ctypes.CDLL) -> Iterator[Check]:
    """What the kernel makes when it is asked to; without the rights it says no to everything."""
    capable = bool(_effective_capabilities() >> CAP_SYS_ADMIN & 1 or _effective_capabilities() >> 39 & 1)

    def probed(function: str, number: int) -> bool | None:
        return getattr(libbpf, function)(number, None) == 1 if capable else None

    kprobe = probed("libbpf_probe_bpf_prog_type", _PROGRAM_OF_UPROBES)
    use = "plaintext of TLS libraries"
    yield Check("uprobe programs", kprobe, False, use, _by_rights(kprobe), _kernel_remedy("kprobe program"))
    storage = {"socket storage": "cheap state per socket", "task storage": "cheap state per thread"}
    for name, number in _MAPS.items():
        supported = probed("libbpf_probe_bpf_map_type", number)
        use = storage.get(name, "hand exchanges to the agent")
        fallback = "a newer kernel has it; here hash maps serve" if name in storage else _kernel_remedy(name)
        yield Check(f"{name} maps", supported, name not in storage, use, _by_rights(supported), fallback)
    if not os.access(_VMLINUX, os.R_OK):
        return
    from otel_ebpf.kernel.features import has_sock_length, has_tracepoint

    typed = has_tracepoint("inet_sock_set_state")
    yield Check("typed tracepoints", typed, True, "capture", "", _kernel_remedy("tracing program"))
    front = has_sock_length()
    yield Check(
        "sock_*_length tracepoints",
        front,
        False,
        "no cost for calls that are no socket I/O",
        "" if front else "sys_exit serves instead",
        "a newer kernel (6.3, or a distribution's backport) has them",
    )
    names = _VMLINUX.read_bytes()
    for iterator in ("bpf_sk_storage_map", "bpf_map_elem"):
        there = f"\0bpf_iter__{iterator}\0".encode() in names
        needed = iterator == ("bpf_sk_storage_map" if front else "bpf_map_elem")
        yield Check(f"iterator {iterator}", there, needed, "end idle requests", "", _kernel_remedy("iterator"))
    yield from _propagation()


def _propagation() -> Iterator[Check]:
    from otel_ebpf.capture.propagation import HTTP_HEADER, TCP_OPTION, refusal

    use, instead = "traces across hosts without a gateway", "a gateway joins them: docs/hosts.md"
    for mode, what in ((TCP_OPTION, "context in TCP options"), (HTTP_HEADER, "context in HTTP headers")):
        if mode == HTTP_HEADER and os.geteuid() != 0:
            yield Check(what, None, False, use, "cannot be tried without root", instead)
            continue
        why = refusal(mode)
        yield Check(what, not why, False, use, why or f"can be turned on: propagation={mode}", instead)


def _by_rights(supported: bool | None) -> str:
    return "cannot be told without CAP_BPF" if supported is None else ""


def _kernel_remedy(what: str) -> str:
    return f"use a kernel with BPF {what} support: 5.10 or later, CONFIG_BPF_SYSCALL=y"


# ---- the main job ----


def _capture(config: Config) -> Iterator[Check]:
    """Load and attach everything for a moment, as `run` does."""
    if os.geteuid() != 0 or not os.access(_VMLINUX, os.R_OK):
        yield Check("capture", None, True, "the main job", "cannot be tried without root and BTF", "see above")
        return
    from otel_ebpf.capture.live import CaptureSettings, LiveSource

    began = time.monotonic()
    try:
        timeout_ns = int(config.kernel.request_timeout * 1e9)
        source = LiveSource(CaptureSettings(timeout_ns, propagation=config.propagation))
        try:
            source.start()
            front = "sock_*_length" if source.storage else "sys_exit"
            failures = dict(source.failures)
            runtimes = source.runtimes
        finally:
            source.close()
    except OtelEbpfError as error:
        yield Check("capture", False, True, "the main job", str(error), "see what else is missing above")
        return
    took = f"by {front}, loaded and attached in {time.monotonic() - began:.1f} s"
    yield Check("capture", True, True, "the main job", took)
    for program, why in failures.items():
        yield Check(f"program {program}", False, False, "part of capture", why, "see above; the rest goes on")
    if runtimes is not None:
        yield from _runtimes(runtimes)


def _runtimes(runtimes: Runtimes) -> Iterator[Check]:
    """Whose goroutines, contexts, virtual threads and asynchronous ids can be read."""
    gives = "parents of calls in Go, Python, Node and JVM processes"
    found = Counter(f"{name} {version}" for name, version in list(runtimes.found.values()))
    read = ", ".join(f"{count} × {what}" for what, count in sorted(found.items())) or "none runs here now"
    yield Check("runtimes", True, False, gives, read)
    for what, why in sorted(dict(runtimes.refusals).items()):
        yield Check(f"runtime {what}", False, False, gives, why, "calls have a parent only where their threads tell it")


# ---- the way out ----


def _export(config: Config) -> Iterator[Check]:
    reached: dict[tuple[str, int], str] = {}
    for signal in SIGNALS:
        target = config.otlp.of(signal) if signal in config.signals else None
        if target is None:
            continue
        url = urlsplit(target.url)
        where = (url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
        if where not in reached:
            reached[where] = _unreachable(where)
        detail = f"{target.url} by {target.protocol}" + (f": {reached[where]}" if reached[where] else "")
        remedy = "start a Collector there, or correct otlp.endpoint; until then spans are kept up to batch.queue"
        yield Check(f"export of {signal}", not reached[where], False, "OTLP", detail, remedy)
    if not reached:
        yield Check("export", True, False, "OTLP", "none configured: the live view is shown (--otlp-endpoint URL)")
    if config.admin.address != "none":
        taken = _cannot_listen(config.admin.address)
        yield Check(
            "admin address",
            not taken,
            False,
            "/readyz, /healthz, /metrics",
            f"{config.admin.address}{f': {taken}' if taken else ''}",
            "is an agent running already? else choose another by --admin-address",
        )


def _unreachable(where: tuple[str, int]) -> str:
    """Why no TCP connection can be made; "" if one can."""
    try:
        socket.create_connection(where, _REACH_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _cannot_listen(address: str) -> str:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, int(port)))
        except OSError as error:
            return "in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return ""


_PARTS: tuple[Callable[[Config], Iterator[Check]], ...] = (_rights, _kernel, _libraries, _capture, _export)


# ---- output ----


def _verdict(fine: bool) -> str:
    return "This host can be observed." if fine else "This host cannot be observed: see each NO that is needed."


def _word(check: Check) -> str:
    if check.ok is None:
        return "?"
    return "yes" if check.ok else "NO" if check.needed else "no"


def _print_lines(checks: list[Check], fine: bool) -> None:
    for check in checks:
        said = "; ".join(text for text in (check.detail, check.use and f"for: {check.use}") if text)
        remedy = f" → {check.remedy}" if not check.ok and check.remedy else ""
        print(f"{_word(check):4} {check.name}: {said}{remedy}")
    print(_verdict(fine))


def _print_table(checks: list[Check], fine: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"yes": "green", "NO": "bold red", "no": "yellow", "?": "yellow"}
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("", "feature", "found", "for", "remedy"):
        table.add_column(title, overflow="fold")
    for check in checks:
        word = _word(check)
        remedy = "" if check.ok else check.remedy
        table.add_row(Text(word, colours[word]), *map(Text, (check.name, check.detail, check.use, remedy)))
    console = Console()
    console.print(table)
    console.print(Text(_verdict(fine), "bold green" if fine else "bold red"))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
