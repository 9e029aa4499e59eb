"""A process and what is known of it → the one OpenTelemetry Resource of its service instance.

The name, in this order: what the process says itself (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, the Java agent's
system properties), the user's rules, systemd's unit, the container's name, what a person would call it.

Workers belong to the instance of their master: nginx's, gunicorn's, PostgreSQL's processes are one instance each, named
by the topmost ancestor with the same executable, control group and name. Otherwise each of a thousand PostgreSQL
backends would be a resource and a set of metric series.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path

from otel_ebpf.config.kinds import Pairs, parse_pairs
from otel_ebpf.config.rules import ServiceRule, fits
from otel_ebpf.model import Attributes, AttributeValue, Resource
from otel_ebpf.resource import procfs
from otel_ebpf.resource.cgroup import Place, place
from otel_ebpf.resource.containers import Container, container
from otel_ebpf.resource.gobuild import GoBuild, go_build
from otel_ebpf.resource.host import TELEMETRY, boot_id, host_root
from otel_ebpf.resource.names import Guess, guess
from otel_ebpf.resource.procfs import Process
from otel_ebpf.resource.runtimes import java_property
from otel_ebpf.resource.words import clean

INSTANCE_NAMESPACE = uuid.UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")
"""Semantic conventions, `service.instance.id`: the namespace of UUIDs made from an inherent id."""
_OURS = re.compile(r"process\.|telemetry\.")
"""What nobody else can say better; given values of these names are ignored (they would also be of the wrong type)."""
_MOST_ANCESTORS = 16
_MOST_GIVEN = 8 << 10
"""Characters of attributes that a process may give itself: its resource goes out with every request."""
_PAIRS = 1 << 11
_SECRET_NAME = re.compile(r"(?i)(pass|secret|token|credential|auth|api[-_]?key|private[-_]?key|dsn)")
_USER_INFO = re.compile(r"(://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class _Known:
    """All that is found out of one process before its resource is written."""

    process: Process
    place: Place
    container: Container | None
    given: dict[str, str]
    name: str
    namespace: str
    guess: Guess


class Describer:
    """Writes resources. rules: the user's, the first that fits wins. extra: the user's attributes for all resources.
    host: attributes of the host. command_args: report process.command_args, redacted."""

    def __init__(
        self,
        rules: Sequence[ServiceRule] = (),
        extra: Pairs = (),
        host: Attributes = (),
        *,
        command_args: bool = False,
        root: Path | None = None,
        read: Callable[[int], Process | None] = procfs.read,
    ) -> None:
        self._rules = tuple(rules)
        self._extra = {name: value for name, value in extra if name != "service.name" and not _OURS.match(name)}
        self._host = host
        self._command_args = command_args
        self._root = root or host_root()
        self._read = read
        self._seed = f"{dict(host).get('host.id', '')}/{boot_id()}"
        self._booted = round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME), 2)
        """Unix time of the boot, found once: start times, in ticks of 10 ms, must not change with the clock."""
        self._pairs: dict[tuple[str, AttributeValue], tuple[str, AttributeValue]] = {}
        """Of attributes that many resources have in common there is one each."""
        own = read(os.getpid())
        self._own_unit = place(own.cgroup).unit if own else ""

    def of_process(self, process: Process, said: Attributes = ()) -> Resource:
        """The resource of the instance that the process belongs to. said: what it calls itself in what it exports."""
        known = self._leader(self._know(process))
        if said:
            own = {name: clean(str(value)) for name, value in said}
            given = {**known.given, **{name: value for name, value in own.items() if value}}
            namespace = own.get("service.namespace") or known.namespace
            known = replace(known, given=given, name=own.get("service.name") or known.name, namespace=namespace)
        instance = f"{self._seed}/{known.process.pid}/{known.process.start}"
        detected: dict[str, AttributeValue] = {"service.instance.id": str(uuid.uuid5(INSTANCE_NAMESPACE, instance))}
        detected.update(_process_attributes(known, self._booted, command_args=self._command_args))
        if known.container is not None:
            detected.update(_container_attributes(known.container))
        return self._resource(known.name, known.namespace, detected, known.given)

    def of_comm(self, comm: str) -> Resource:
        """The resource of all processes that were gone before they could be looked at, by the kernel's name of them."""
        name = clean(comm) or "unknown_service"
        instance = str(uuid.uuid5(INSTANCE_NAMESPACE, f"{self._seed}/{name}"))
        return self._resource(name, "", {"service.instance.id": instance}, {})

    def _resource(
        self, name: str, namespace: str, detected: dict[str, AttributeValue], given: dict[str, str]
    ) -> Resource:
        attributes: dict[str, AttributeValue] = {"service.name": name}
        if namespace:
            attributes["service.namespace"] = namespace
        attributes |= detected | dict(self._host) | self._extra | given | dict(TELEMETRY)
        attributes["service.name"] = name
        if len(self._pairs) >= _PAIRS:
            self._pairs.clear()
        return Resource(name, tuple(self._pairs.setdefault(pair, pair) for pair in attributes.items()))

    def _know(self, process: Process) -> _Known:
        if "--multiprocessing-fork" in process.argv:
            # Python's multiprocessing starts `python -c 'from multiprocessing.spawn import …'` for its parent's work.
            parent = self._read(process.parent)
            process = (
                replace(parent, pid=process.pid, start=process.start, parent=process.parent) if parent else process
            )
        where = place(process.cgroup)
        box = container(where, self._root)
        guessed = guess(process, procfs.files_of(process.pid), lambda: build_of(process.pid))
        given = given_attributes(process)
        namespace = given.get("service.namespace", "")
        own = given.get("service.name")
        rule = next((r for r in self._rules if _rule_fits(r, process, where, box)), None)
        if own:
            name = own
        elif rule is not None:
            name, namespace = rule.name, namespace or rule.namespace
        elif where.unit and where.unit != self._own_unit:
            name = where.unit
        else:
            name = (box.name if box else "") or guessed.name
        return _Known(process, where, box, given, clean(name) or guessed.name, namespace, guessed)

    def _leader(self, known: _Known) -> _Known:
        for _ in range(_MOST_ANCESTORS):
            parent = self._read(known.process.parent) if known.process.parent > 1 else None
            if (
                parent is None
                or parent.executable != known.process.executable
                or parent.cgroup != known.process.cgroup
                or not parent.executable
            ):
                return known
            above = self._know(parent)
            if (above.name, above.namespace) != (known.name, known.namespace):
                return known
            known = above
        return known


def given_attributes(process: Process) -> dict[str, str]:
    """What the process says of itself. OpenTelemetry specification, resource/sdk.md: OTEL_SERVICE_NAME wins over
    service.name in OTEL_RESOURCE_ATTRIBUTES, and a text with an error in it is discarded as a whole, as is one that is
    too long; the Java agent's system properties win over both."""
    given: dict[str, str] = {}
    texts = [process.environment.get("OTEL_RESOURCE_ATTRIBUTES", "")]
    names = [process.environment.get("OTEL_SERVICE_NAME", "")]
    if process.executable.endswith("/java"):
        texts.append(java_property(process, "otel.resource.attributes"))
        names.append(java_property(process, "otel.service.name"))
    for text, name in zip(texts, names, strict=True):
        try:
            pairs = parse_pairs(text) if len(text) <= _MOST_GIVEN else ()
            given.update((key, value) for key, value in pairs if not _OURS.match(key))
        except ValueError:
            given.update({})
        if name:
            given["service.name"] = name
    return {key: value for key, value in given.items() if value}


def redacted(argv: Sequence[str]) -> tuple[str, ...]:
    """The arguments with the values of what looks like a secret replaced.

    >>> redacted(["app", "--db-password", "x", "--token=y", "postgres://u:p@db/shop"])
    ('app', '--db-password', '***', '--token=***', 'postgres://***@db/shop')
    """
    shown: list[str] = []
    hide = False
    for argument in argv:
        name, equals, _value = argument.partition("=")
        secret = _SECRET_NAME.search(name) is not None
        if hide and not argument.startswith("-"):
            shown.append("***")
        elif equals and secret:
            shown.append(f"{name}=***")
        else:
            shown.append(_USER_INFO.sub(r"\1***@", argument))
        hide = secret and not equals and argument.startswith("-")
    return tuple(shown)


def build_of(pid: int) -> GoBuild | None:
    """What Go wrote into the executable of a running process."""
    try:
        with Path(f"/proc/{pid}/exe").open("rb") as file:
            return go_build(file.fileno())
    except OSError:
        return None


def _rule_fits(rule: ServiceRule, process: Process, where: Place, box: Container | None) -> bool:
    return (
        fits(rule.executable, process.executable)
        and fnmatchcase(" ".join(process.argv), rule.command or "*")
        and (not rule.container or (box is not None and any(fits(rule.container, t) for t in (box.name, box.id) if t)))
        and (not rule.unit or fnmatchcase(where.unit, rule.unit))
    )


def _process_attributes(known: _Known, booted: float, *, command_args: bool) -> dict[str, AttributeValue]:
    process = known.process
    started = datetime.fromtimestamp(booted + process.start_ns / 1e9, timezone.utc)
    texts = {
        "process.creation.time": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "process.executable.name": process.executable.rpartition("/")[2],
        "process.executable.path": process.executable,
        # A single argument with spaces is a title that the process gave itself: it may tell users and databases.
        "process.command": process.argv[0] if process.argv and " " not in process.argv[0] else "",
        "process.owner": _owner(process),
        "process.runtime.name": known.guess.runtime,
        "process.runtime.version": known.guess.version,
    }
    found: dict[str, AttributeValue] = {"process.pid": process.pid, **{k: v for k, v in texts.items() if v}}
    if command_args and process.argv:
        found["process.command_args"] = redacted(process.argv)
    return found


def _owner(process: Process) -> str:
    """passwd(5) of the process's own root; not by getpwuid(3), which may ask a server and wait for it."""
    content = procfs.files_of(process.pid)("/etc/passwd") or b""
    for line in content.decode(errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(process.uid):
            return fields[0]
    return ""


def _container_attributes(box: Container) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {"container.id": box.id}
    if box.name:
        found["container.name"] = box.name
    if box.image:
        # registry:port/name:tag@sha256:digest
        name = box.image.partition("@")[0]
        head, slash, tail = name.rpartition("/")
        short, colon, tag = tail.partition(":")
        found["container.image.name"] = f"{head}{slash}{short}"
        if colon:
            found["container.image.tags"] = (tag,)
    return found
