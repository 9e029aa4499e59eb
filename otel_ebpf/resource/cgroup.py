"""Where a process runs, told by its control group: systemd unit and container.

The text is that of /proc/PID/cgroup, cgroups(7): `0::/path` for v2, `4:memory:/path` for each v1 hierarchy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from otel_ebpf.resource.words import word_set

LAUNCHERS = word_set(
    "atd cloud-final containerd cri-o cri-docker cron crond crio docker dockerd gitlab-runner k3s k3s-agent kubelet "
    "libvirtd lxc lxd machined monit podman rc-local rke2-agent rke2-server runit snapd ssh sshd supervisor "
    "supervisord systemd-nspawn user container-getty console-getty getty serial-getty xinetd"
)
"""Units that start other people's programs: their name says nothing about what runs in them."""

_HEX = "[0-9a-f]{64}"
_CONTAINER = (
    # The forms that container runtimes give to the last or an inner segment of the path.
    (re.compile(rf"^docker-({_HEX})\.scope$"), "docker"),
    (re.compile(rf"^cri-containerd[-:]({_HEX})(?:\.scope)?$"), "containerd"),
    (re.compile(rf"^nerdctl-({_HEX})\.scope$"), "containerd"),
    (re.compile(rf"^crio-({_HEX})(?:\.scope)?$"), "cri-o"),
    (re.compile(rf"^libpod-(?:payload-)?({_HEX})(?:\.scope)?$"), "podman"),
    (re.compile(rf"^[A-Za-z0-9_.:-]*[-:]({_HEX})(?:\.scope)?$"), ""),  # kubelet with systemd driver, others
    (re.compile(rf"^({_HEX})$"), ""),  # cgroupfs driver: /docker/ID, /kubepods/…/ID, /ecs/TASK/ID
    (re.compile(r"^([0-9a-f]{32}-\d{5,12})$"), "containerd"),  # AWS ECS on Fargate: TASK-NUMBER
)
_MACHINE = re.compile(r"^(?:machine-(.+)\.scope|lxc\.payload\.(.+)|systemd-nspawn@(.+)\.service)$")


@dataclass(frozen=True, slots=True)
class Place:
    """unit: systemd service without ".service"; container: id; machine: name of an LXC or nspawn container, or a name
    that containerd may know (`namespace`/`machine`). All "" if not so."""

    unit: str = ""
    container: str = ""
    runtime: str = ""
    machine: str = ""
    namespace: str = ""


def place(text: str) -> Place:
    """What the text of /proc/PID/cgroup says.

    >>> place("0::/system.slice/shop.service").unit
    'shop'
    """
    places = [_place(path) for path in _paths(text)]
    # v1 hierarchies may disagree (systemd's alone knows units): each fact from the first that has it.
    return Place(
        unit=next((p.unit for p in places if p.unit), ""),
        container=next((p.container for p in places if p.container), ""),
        runtime=next((p.runtime for p in places if p.container), ""),
        machine=next((p.machine for p in places if p.machine), ""),
        namespace=next((p.namespace for p in places if p.machine), ""),
    )


def _paths(text: str) -> Iterator[str]:
    """Each distinct path, v2 and systemd's own hierarchy first."""
    rows = [line.split(":", 2) for line in text.splitlines()]
    rows = [row for row in rows if len(row) == 3]
    rows.sort(key=lambda row: (row[0] != "0", row[1] != "name=systemd"))
    yield from dict.fromkeys(row[2] for row in rows)


def _place(path: str) -> Place:
    segments = [segment for segment in path.split("/") if segment not in ("", "..")]
    container, runtime = "", ""
    for n, segment in enumerate(segments):
        for pattern, name in _CONTAINER:
            if match := pattern.match(segment):
                container, runtime = match[1], name or _by_parent(segments[:n])
                break
    machine, namespace = _machine(segments)
    return Place(
        _without_instance(_unit(segments)),
        container,
        runtime,
        "" if container else machine,
        "" if container else namespace,
    )


def _by_parent(parents: list[str]) -> str:
    known = {"docker": "docker", "libpod_parent": "podman", "actions_job": "docker"}
    return next((known[parent] for parent in reversed(parents) if parent in known), "")


def _machine(segments: list[str]) -> tuple[str, str]:
    for n, segment in enumerate(segments):
        if match := _MACHINE.match(segment):
            name = next(group for group in match.groups() if group)
            # systemd escapes '-' in unit names: systemd.unit(5)
            return re.sub(r"\\x([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), name), ""
        if segment == "lxc" and n + 1 < len(segments):
            return segments[n + 1], ""
    # `ctr run` and runc with cgroupfs: /NAMESPACE/NAME; whether it is a container, the runtime's own files tell.
    if len(segments) == 2 and not any(segment.endswith((".slice", ".scope", ".service")) for segment in segments):
        return segments[1], segments[0]
    return "", ""


def _unit(segments: list[str]) -> str:
    """The innermost service that is no launcher. A user's own services count, the user's session does not."""
    for segment in reversed(segments):
        if segment.endswith(".scope") and not segment.startswith(("docker-", "libpod-", "crio-", "cri-", "nerdctl-")):
            return ""  # session-3.scope, init.scope, tmux-spawn-….scope: started by hand
        if segment.endswith(".service"):
            unit = segment.removesuffix(".service")
            return "" if unit.split("@")[0] in LAUNCHERS else unit
    return ""


def _without_instance(unit: str) -> str:
    """`worker@2` is one of several alike; `postgresql@15-main` is one of its own.

    >>> _without_instance("worker@2"), _without_instance("postgresql@15-main")
    ('worker', 'postgresql@15-main')
    """
    name, _at, instance = unit.partition("@")
    return name if instance.isdecimal() else unit
