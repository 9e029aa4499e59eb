"""What is the same for every resource of this host: host.*, os.*, telemetry.* of the semantic conventions."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from otel_ebpf import __version__
from otel_ebpf.model import Attributes

_ARCHITECTURES = {
    # uname(2) → the values of `host.arch`
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm32",
    "i686": "x86",
    "ppc64le": "ppc64",
    "s390x": "s390x",
}
TELEMETRY: Attributes = (
    # `telemetry.sdk.name`: "opentelemetry" is reserved; another SDK gives the name of its module. The language is the
    # one of the SDK, not of the observed program.
    ("telemetry.sdk.name", "otel_ebpf"),
    ("telemetry.sdk.language", "python"),
    ("telemetry.sdk.version", __version__),
    ("telemetry.distro.name", "otel-ebpf"),
    ("telemetry.distro.version", __version__),
)


def host_root() -> Path:
    """Where the host's own files are seen, also from inside a container that shares the host's pids."""
    root = Path("/proc/1/root")
    return root if os.access(root / "etc", os.R_OK | os.X_OK) else Path("/")


def host_attributes(root: Path | None = None) -> Attributes:
    """host.* and os.*. root: where the host's files are."""
    root = root or host_root()
    release = _os_release(root)
    found = {
        "host.name": socket.gethostname(),
        "host.id": machine_id(root),
        "host.arch": _ARCHITECTURES.get(os.uname().machine, ""),
        "os.type": "linux",
        "os.name": release.get("NAME", ""),
        "os.version": release.get("VERSION_ID", ""),
        "os.description": release.get("PRETTY_NAME", ""),
    }
    return tuple((name, value) for name, value in found.items() if value)


def machine_id(root: Path) -> str:
    """machine-id(5), as the conventions ask of `host.id`; "" if the host has none."""
    return next((text for name in ("etc/machine-id", "var/lib/dbus/machine-id") if (text := _text(root / name))), "")


def boot_id() -> str:
    """Different after each boot: with pid and start time it names a process for ever."""
    return _text(Path("/proc/sys/kernel/random/boot_id"))


def _os_release(root: Path) -> dict[str, str]:
    """os-release(5): NAME=value, the value perhaps in quotes."""
    text = _text(root / "etc/os-release") or _text(root / "usr/lib/os-release")
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {name: value.strip().strip("'\"") for name, equals, value in pairs if equals}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
