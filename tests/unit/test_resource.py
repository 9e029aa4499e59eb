"""Who made each row: real processes that start, work, execute, end and follow each other under one pid."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from opentelemetry.semconv._incubating import attributes as conventions

from otel_ebpf.config import Match, ServiceRule
from otel_ebpf.doctor import mount_of
from otel_ebpf.kernel.btf import Btf, object_path
from otel_ebpf.model import Intern, Resource
from otel_ebpf.resource import Describer, Filter, Resources, host_attributes, procfs, resources
from otel_ebpf.resource.describe import given_attributes, redacted
from otel_ebpf.resource.procfs import Process

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
HOST = host_attributes()


def process_of(pid: int) -> Process:
    found = procfs.read(pid)
    while found is not None and not found.argv:  # in the middle of execve(2)
        found = procfs.read(pid)
    assert found is not None
    return found


@contextmanager
def started(command: list[str], **env: str) -> Iterator[Process]:
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env={**CLEAN, **env}, cwd="/")
    try:
        yield process_of(child.pid)
    finally:
        child.kill()
        child.communicate()


def fresh(describer: Describer | None = None, limit: int = 1000) -> tuple[Resources, Intern[Resource]]:
    table = Intern[Resource](limit)
    return Resources(table, describer or Describer(host=HOST)), table


def service(found: Resources, table: Intern[Resource], pid: int, at: int | None = None) -> str:
    ids = found.ids(np.array([pid], np.uint32), np.array([time.monotonic_ns() if at is None else at], np.uint64))
    return table[int(ids[0])].service


def events(*rows: tuple[int, int, str, bytes]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    btf = Btf.of_object(object_path("requests"))
    kinds = btf.enum("process_event_kind")
    records = np.zeros(len(rows), btf.dtype("process_event"))
    for record, (at, pid, kind, comm) in zip(records, rows, strict=True):
        record["t"], record["tgid"], record["kind"], record["comm"] = at, pid, kinds[f"PROCESS_{kind}"], comm
    return records


def attributes(resource: Resource) -> dict[str, object]:
    return dict(resource.attributes)


# ---- what a resource says ----


def test_a_process_is_described_in_the_words_of_the_conventions() -> None:
    with started(["sleep", "60"]) as process:
        said = attributes(Describer(host=HOST).of_process(process))
    assert said["service.name"] == "sleep"
    assert said["process.pid"] == process.pid
    assert said["process.executable.name"] == Path("/usr/bin/sleep").resolve().name
    assert said["process.command"] == "sleep"
    assert said["process.owner"] == "root"
    assert said["host.name"] == platform.node()
    assert said["host.arch"] == {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    assert said["os.type"] == "linux"
    assert said["telemetry.sdk.name"] == "otel_ebpf"
    assert uuid.UUID(str(said["service.instance.id"])).version == 5
    assert str(said["process.creation.time"]).startswith(time.strftime("%Y-%m-%dT%H:", time.gmtime()))
    assert "process.command_args" not in said


def test_every_attribute_is_in_the_registry_with_its_type() -> None:
    import importlib
    import pkgutil

    known = {
        value
        for module in pkgutil.iter_modules(conventions.__path__)
        for constant, value in vars(importlib.import_module(f"{conventions.__name__}.{module.name}")).items()
        if constant.isupper() and isinstance(value, str)
    }
    describer = Describer(host=HOST, command_args=True)
    with started(["/usr/bin/python3", "-c", "input()"]) as process:
        said = attributes(describer.of_process(process))
    assert set(said) <= known
    types = {"process.pid": int, "process.command_args": tuple, "container.image.tags": tuple}
    assert all(isinstance(value, types.get(name, str)) for name, value in said.items())


def test_the_instance_is_stable_and_its_own() -> None:
    with started(["sleep", "60"]) as one, started(["sleep", "60"]) as other:
        first, again = Describer(host=HOST).of_process(one), Describer(host=HOST).of_process(one)
        assert first == again
        assert attributes(first)["service.instance.id"] != attributes(Describer(host=HOST).of_process(other))


def test_a_process_names_itself_first() -> None:
    env = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,service.namespace=web,team=x%20y", "OTEL_SERVICE_NAME": "shop"}
    rule = ServiceRule(name="rule", namespace="rules", executable="*sleep*")
    with started(["sleep", "60"], **env) as process:
        said = attributes(Describer(rules=[rule], host=HOST).of_process(process))
    assert (said["service.name"], said["service.namespace"], said["team"]) == ("shop", "web", "x y")


def test_a_broken_text_of_attributes_is_discarded_as_a_whole_but_not_the_name() -> None:
    broken = {"OTEL_RESOURCE_ATTRIBUTES": "a=b,broken", "OTEL_SERVICE_NAME": "shop"}
    assert given_attributes(Process(1, environment=broken)) == {"service.name": "shop"}
    endless = {"OTEL_RESOURCE_ATTRIBUTES": ",".join(f"k{n}=v" for n in range(8000)), "OTEL_SERVICE_NAME": "shop"}
    assert given_attributes(Process(1, environment=endless)) == {"service.name": "shop"}


def test_what_only_the_kernel_knows_cannot_be_claimed() -> None:
    claims = {"OTEL_RESOURCE_ATTRIBUTES": "process.pid=1,telemetry.sdk.name=x,host.name=h"}
    assert given_attributes(Process(1, environment=claims)) == {"host.name": "h"}


def test_the_java_agents_properties_win_over_the_variables() -> None:
    process = Process(
        1,
        executable="/usr/bin/java",
        argv=("java", "-Dotel.service.name=billing", "-jar", "x.jar"),
        environment={"OTEL_SERVICE_NAME": "x", "JAVA_TOOL_OPTIONS": "-Dotel.resource.attributes=team=a"},
    )
    assert given_attributes(process) == {"service.name": "billing", "team": "a"}


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        (ServiceRule(name="r", executable="sleep"), True),
        (ServiceRule(name="r", executable="/usr/bin/*"), True),
        (ServiceRule(name="r", executable="/opt/*"), False),
        (ServiceRule(name="r", command="sleep 6?"), True),
        (ServiceRule(name="r", command="sleep"), False),
        (ServiceRule(name="r", container="*"), False),
        (ServiceRule(name="r", unit="shop*"), True),
        (ServiceRule(name="r", unit="shop*", executable="nginx"), False),
    ],
)
def test_the_users_rules_win_over_the_unit(rule: ServiceRule, fits: bool) -> None:
    process = Process(0, argv=("sleep", "60"), executable="/usr/bin/sleep", cgroup="0::/system.slice/shop.service\n")
    assert Describer(rules=[rule]).of_process(process).service == ("r" if fits else "shop")


def test_the_agents_own_unit_names_nobody_else() -> None:
    own = Process(os.getpid(), cgroup="0::/system.slice/otel-ebpf.service\n")
    other = Process(0, argv=("sleep",), executable="/usr/bin/sleep", cgroup=own.cgroup)
    assert Describer(read=lambda pid: own if pid == own.pid else None).of_process(other).service == "sleep"


def test_attributes_of_the_users_environment_are_added_but_name_nobody() -> None:
    extra = (("deployment.environment.name", "prod"), ("service.name", "agent"), ("process.pid", "1"))
    process = Process(0, argv=("sleep",), executable="/usr/bin/sleep")
    said = attributes(Describer(extra=extra).of_process(process))
    assert (said["deployment.environment.name"], said["service.name"], said["process.pid"]) == ("prod", "sleep", 0)


def test_a_container_is_described(tmp_path: Path) -> None:
    id = "ab" * 32
    state = tmp_path / "var/lib/docker/containers" / id
    state.mkdir(parents=True)
    (state / "config.v2.json").write_text('{"Name": "/shop", "Config": {"Image": "reg:5000/acme/shop:1.2@sha256:x"}}')
    process = Process(0, argv=("sleep",), executable="/usr/bin/sleep", cgroup=f"0::/system.slice/docker-{id}.scope\n")
    said = attributes(Describer(root=tmp_path).of_process(process))
    assert (said["service.name"], said["container.id"], said["container.name"]) == ("shop", id, "shop")
    assert (said["container.image.name"], said["container.image.tags"]) == ("reg:5000/acme/shop", ("1.2",))


def test_a_process_in_a_real_control_group_of_a_unit_and_a_container(tmp_path: Path) -> None:
    id = "ab" * 32
    slice = Path(mount_of("cgroup2")) / "otel-ebpf-test.slice"
    groups = [slice, slice / "shop.service", slice / f"docker-{id}.scope"]
    for group in groups:
        group.mkdir()
    try:
        with started(["sleep", "60"]) as process:
            (groups[1] / "cgroup.procs").write_text(str(process.pid))
            assert Describer(host=HOST).of_process(process_of(process.pid)).service == "shop"
            (groups[2] / "cgroup.procs").write_text(str(process.pid))
            said = attributes(Describer(host=HOST).of_process(process_of(process.pid)))
            assert (said["service.name"], said["container.id"]) == ("sleep", id)
    finally:
        for group in reversed(groups):
            while group.exists():
                with suppress(OSError):  # busy until the kernel has let go of the ended process
                    group.rmdir()


def family(*members: Process) -> Callable[[int], Process | None]:
    return {member.pid: member for member in members}.get


def test_workers_belong_to_the_instance_of_their_master() -> None:
    shell = Process(10, parent=1, start=1, argv=("bash",), executable="/usr/bin/bash")
    master = Process(20, parent=10, start=2, argv=("nginx: master process",), executable="/usr/sbin/nginx")
    worker = replace(master, pid=21, parent=20, start=3, argv=("nginx: worker process",))
    describer = Describer(read=family(shell, master, worker))
    assert describer.of_process(worker) == describer.of_process(master)
    assert attributes(describer.of_process(worker))["process.pid"] == 20


def test_programs_of_one_interpreter_are_not_one_instance() -> None:
    parent = Process(20, parent=1, argv=("python3", "/usr/bin/supervisord"), executable="/usr/bin/python3.11")
    child = Process(21, parent=20, argv=("python3", "/srv/shop/app.py"), executable="/usr/bin/python3.11")
    describer = Describer(read=family(parent, child))
    assert attributes(describer.of_process(child))["process.pid"] == 21
    assert describer.of_process(child).service == "shop"


def test_a_child_of_pythons_multiprocessing_is_called_as_its_parent() -> None:
    parent = Process(20, parent=1, argv=("python3", "/srv/shop/app.py"), executable="/usr/bin/python3.11")
    argv = ("python3", "-c", "from multiprocessing.spawn import spawn_main; spawn_main()", "--multiprocessing-fork")
    child = replace(parent, pid=21, parent=20, argv=argv)
    describer = Describer(read=family(parent, child))
    assert describer.of_process(child) == describer.of_process(parent)


def test_secrets_in_arguments_are_replaced() -> None:
    given = "app --db-password x --token=y -v postgres://u:p@db/shop --auth --port 80 API_KEY=1"
    shown = "app --db-password *** --token=*** -v postgres://***@db/shop --auth --port 80 API_KEY=***"
    assert redacted(given.split()) == tuple(shown.split())


# ---- rows ----


def test_rows_get_the_resources_of_their_processes() -> None:
    found, table = fresh()
    with started(["sleep", "60"]) as one, started(["tail", "-f", "/dev/null"]) as other:
        tgids = np.array([one.pid, other.pid, one.pid, one.pid], np.uint32)
        times = np.full(4, time.monotonic_ns(), np.uint64)
        expected = ["sleep", "tail", "sleep", "sleep"]
        assert [table[i].service for i in found.ids(tgids, times).tolist()] == expected
        assert [table[i].service for i in found.ids(tgids, times).tolist()] == expected
    assert found.ids(tgids[:0], times[:0]).dtype == np.int32
    assert len(found) == 2


def test_a_process_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = procfs.read

    def counted(pid: int) -> Process | None:
        read.append(pid)
        return original(pid)

    monkeypatch.setattr(procfs, "read", counted)
    found, table = fresh()
    with started(["sleep", "60"]) as process:
        read.clear()
        for _ in range(3):
            assert service(found, table, process.pid) == "sleep"
    assert read.count(process.pid) == 1


def test_a_process_is_identified_by_the_id_that_it_has_for_itself() -> None:
    """An SDK in a container reports such a one; another process of the host may have the same."""
    found, table = fresh()
    inside = ["unshare", "--fork", "--pid", sys.executable, "-c", "import os; print(os.getpid(), flush=True); input()"]
    with started(["sleep", "60"]) as outside, spoken(inside, OTEL_SERVICE_NAME="inside") as (parent, said):
        child = int(Path(f"/proc/{parent}/task/{parent}/children").read_text())
        names = [service(found, table, pid) for pid in (outside.pid, child)]
        assert (said, names) == ("1", ["sleep", "inside"])
        assert found.identified(1, "") == child
        assert found.identified(outside.pid, "") == outside.pid
        assert found.identified(child, "") == 0
        assert (found.identified(0, "inside"), found.identified(0, "another")) == (child, 0)
        with spoken(inside, OTEL_SERVICE_NAME="second") as (parent, _):
            second = int(Path(f"/proc/{parent}/task/{parent}/children").read_text())
            service(found, table, second)
            assert [found.identified(1, name) for name in ("", "inside", "second")] == [0, child, second]


@contextmanager
def spoken(command: list[str], **env: str) -> Iterator[tuple[int, str]]:
    """A process, and the first line that it, or its child, says."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**CLEAN, **env}) as child:
        assert child.stdout is not None
        yield child.pid, child.stdout.readline().decode().strip()
        child.communicate(b"\n")


def test_rows_of_a_process_that_has_ended_are_still_its_own() -> None:
    found, table = fresh()
    with started(["sleep", "60"]) as process:
        at = time.monotonic_ns()
        assert service(found, table, process.pid) == "sleep"
    found.update(events((time.monotonic_ns(), process.pid, "EXIT", b"sleep")))
    assert service(found, table, process.pid, at) == "sleep"


def test_a_process_that_was_gone_before_anybody_looked_is_called_by_its_comm() -> None:
    found, table = fresh()
    with started(["sleep", "60"]) as process:
        at = time.monotonic_ns()
    announced = np.zeros(1, Btf.of_object(object_path("requests")).dtype("connection"))
    announced["tgid"], announced["comm"] = process.pid, b"curl"
    found.meet(announced)
    assert service(found, table, process.pid, at) == "curl"
    assert service(found, table, process.pid, at) == "curl"
    assert "process.pid" not in attributes(table[0])


def test_one_that_was_looked_at_when_it_executed_keeps_its_name() -> None:
    found, table = fresh()
    with started([sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"]) as process:
        found.update(events((time.monotonic_ns(), process.pid, "EXEC", b"python3")))
        at = time.monotonic_ns()
    found.update(events((time.monotonic_ns(), process.pid, "EXIT", b"python3")))
    assert service(found, table, process.pid, at) == "http.server"


def test_a_connection_is_reason_enough_to_look() -> None:
    found, table = fresh()
    announced = np.zeros(2, Btf.of_object(object_path("requests")).dtype("connection"))
    with started(["sleep", "60"]) as process:
        announced["tgid"] = process.pid
        found.meet(announced)
        found.meet(announced)
        at = time.monotonic_ns()
    assert service(found, table, process.pid, at) == "sleep"


def test_a_process_is_shown_to_others_when_it_executes_and_again_for_its_first_row() -> None:
    """So that where it will export to is known before it does, and that it is likely to, from its first request on."""
    looked: list[int] = []
    met: list[int] = []
    table = Intern[Resource](64)
    found = Resources(table, Describer(host=()), lambda p: looked.append(p.pid), lambda p: met.append(p.pid))
    with started(["sleep", "60"]) as process:
        found.update(events((time.monotonic_ns(), process.pid, "EXEC", b"sleep")))
        assert (looked, met) == ([process.pid], [])
        service(found, table, process.pid)
    assert (looked, met) == ([process.pid], [process.pid])


def test_executing_another_program_makes_another_service_from_then_on() -> None:
    found, table = fresh()
    command = ["sh", "-c", "read x; exec tail -f /dev/null"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, env=CLEAN, cwd="/")
    try:
        assert child.stdin is not None
        before = time.monotonic_ns()
        shell = process_of(child.pid)
        assert service(found, table, child.pid) in ("sh", "dash")
        child.stdin.write(b"\n")
        child.stdin.flush()
        while process_of(child.pid).executable == shell.executable:
            time.sleep(0.001)
        executed = time.monotonic_ns()
        found.update(events((executed, child.pid, "EXEC", b"tail")))
        rows = np.array([before, executed + 1, before, executed + 2], np.uint64)
        ids = found.ids(np.full(4, child.pid, np.uint32), rows).tolist()
        assert [table[i].service for i in ids] == [s := table[ids[0]].service, "tail", s, "tail"]
        assert s in ("sh", "dash")
    finally:
        child.kill()
        child.communicate()


def reused(one: Process, other: Process, monkeypatch: pytest.MonkeyPatch) -> Callable[[Process | None], None]:
    """Makes /proc tell of processes under one pid, as when it is used again."""

    def now(process: Process | None) -> None:
        renamed = replace(process, pid=one.pid) if process else None
        monkeypatch.setattr(procfs, "read", lambda pid: renamed)
        monkeypatch.setattr(procfs, "start_of", lambda pid: renamed.start if renamed else None)

    return now


def ticks(at: int) -> int:
    return (at + time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()) // resources._TICK_NS


def test_a_pid_that_is_used_again_is_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    second = 10**9
    start = time.monotonic_ns() - 100 * second
    one = Process(4711, start=ticks(start), argv=("one",), executable="/bin/one")
    other = Process(4711, start=ticks(start + 50 * second), argv=("other",), executable="/bin/other")
    proc = reused(one, other, monkeypatch)
    found, table = fresh()
    proc(one)
    assert service(found, table, 4711, start + second) == "one"
    proc(other)
    found.update(events((start + 40 * second, 4711, "EXIT", b"one")))
    assert service(found, table, 4711, start + 39 * second) == "one"
    assert service(found, table, 4711, start + 51 * second) == "other"
    assert service(found, table, 4711, start + 39 * second) == "one"


def test_rows_from_before_the_process_that_has_the_pid_now_are_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    second = 10**9
    start = time.monotonic_ns() - 100 * second
    now = Process(4711, start=ticks(start + 50 * second), argv=("now",), executable="/bin/now")
    reused(now, now, monkeypatch)(now)
    found, table = fresh()
    tgids = np.full(2, 4711, np.uint32)
    ids = found.ids(tgids, np.array([start, start + 60 * second], np.uint64)).tolist()
    assert [table[i].service for i in ids] == ["unknown_service", "now"]
    found, table = fresh()
    assert service(found, table, 4711, start) == "unknown_service"
    assert service(found, table, 4711, start + 60 * second) == "now"


def test_a_lost_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    second = 10**9
    start = time.monotonic_ns() - 100 * second
    one = Process(4711, start=ticks(start), argv=("one",), executable="/bin/one")
    other = replace(one, start=ticks(start + 50 * second), argv=("other",), executable="/bin/other")
    proc = reused(one, other, monkeypatch)
    monkeypatch.setattr(resources, "VERIFY_NS", 0)
    found, table = fresh()
    proc(one)
    assert service(found, table, 4711, start + second) == "one"
    proc(other)
    assert service(found, table, 4711, start + 60 * second) == "other"
    proc(None)
    assert service(found, table, 4711, start + 61 * second) == "other"


def test_what_has_ended_is_forgotten_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "GRACE_NS", 0)
    monkeypatch.setattr(resources, "UNUSED_GRACE_NS", 0)
    found, table = fresh()
    with started(["sleep", "60"]) as process:
        service(found, table, process.pid)
        found.update(events((time.monotonic_ns(), os.getpid(), "EXEC", b"x")))
        assert len(found) == 2
    now = time.monotonic_ns()
    found.update(events((now, process.pid, "EXIT", b""), (now, os.getpid(), "EXIT", b"")))
    found.ids(np.array([], np.uint32), np.array([], np.uint64))
    assert len(found) == 0
    assert not found._to_verify and not any(found._pids.values()) and not found._ids.any()


def test_of_programs_that_ran_for_a_moment_the_last_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "MOST_ENDED", 1000)
    found, _ = fresh()
    for first in range(100_000, 200_000, 1000):
        pids, at = np.arange(first, first + 1000, dtype=np.uint32), np.full(1000, time.monotonic_ns(), np.uint64)
        found.ids(pids, at)  # calls of theirs, of which none is there any more
    found.ids(pids[:0], at[:0])
    assert len(found) == len(found._to_verify) == len(found._ended) + len(found._ended_unused) == 2000
    assert found.hurried == 98_000


def test_a_storm_of_programs_that_say_nothing_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(procfs, "read", read.append)
    found, _ = fresh()
    found.update(events(*((n, 100_000 + n, "EXEC", b"cc") for n in range(1, 500))))
    assert len(read) == len(found) == resources.READ_AHEAD


def test_a_program_that_executes_itself_for_ever_is_bounded() -> None:
    found, _ = fresh()
    pid = os.getpid()
    found.update(events(*((n, pid, "EXEC", b"x") for n in range(1, 1000))))
    assert len(found._lives[pid]) == resources.MOST_LIVES


def test_an_id_that_the_table_gave_away_is_not_used_again() -> None:
    found, table = fresh(limit=2)
    names = ["sleep", "tail", "cat"]
    with (
        started(["sleep", "60"]) as one,
        started(["tail", "-f", "/dev/null"]) as two,
        started(["cat"]) as three,
    ):
        for _ in range(3):
            assert [service(found, table, p.pid) for p in (one, two, three)] == names
    assert len(table) == 2


def test_hostile_process_ids_do_not_raise() -> None:
    found, table = fresh()
    at = np.full(3, time.monotonic_ns(), np.uint64)
    ids = found.ids(np.array([0, 2**22 - 1, 2**32 - 1], np.uint32), at)
    assert {table[i].service for i in ids.tolist()} == {"unknown_service"}


# ---- filters ----

NGINX = Resource(
    "web",
    (
        ("service.name", "web"),
        ("process.executable.path", "/usr/sbin/nginx"),
        ("container.name", "front"),
        ("container.id", "ab" * 32),
    ),
)


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        (Match(executable="nginx"), True),
        (Match(executable="/usr/*"), True),
        (Match(executable="apache*"), False),
        (Match(container="fr*"), True),
        (Match(container="abab*"), True),
        (Match(container="back"), False),
        (Match(service="w?b"), True),
        (Match(port=((80, 80), (8000, 8100))), True),
        (Match(port=((81, 90),)), False),
        (Match(service="web", port=((81, 90),)), False),
    ],
)
def test_what_a_filter_fits(match: Match, fits: bool) -> None:
    assert Filter(include=[match]).allows(NGINX, 80) is fits
    assert Filter(exclude=[match]).allows(NGINX, 80) is not fits


def test_no_container_fits_a_container_pattern() -> None:
    assert not Filter(include=[Match(container="*")]).allows(Resource("x", ()), 80)


def test_the_mask_says_what_allows_says_and_never_keeps_the_agent() -> None:
    table = Intern[Resource](10)
    ids = [table.id(NGINX), table.id(Resource("db", (("service.name", "db"),)))]
    rng = np.random.default_rng(1)
    n = 500
    tgids = rng.integers(1, 5, n).astype(np.uint32)
    rows = rng.choice(ids, n).astype(np.int32)
    ports = rng.choice([0, 80, 5432, 65535], n).astype(np.uint16)
    for chosen in (Filter(own=3), Filter([Match(service="web")], [Match(port=((80, 80),))], own=3)):
        expected = [t != 3 and chosen.allows(table[r], p) for t, r, p in zip(tgids, rows, ports.tolist(), strict=True)]
        assert chosen.mask(tgids, rows, ports, table).tolist() == expected
    assert not Filter().mask(np.array([os.getpid()], np.uint32), rows[:1], ports[:1], table)[0]
