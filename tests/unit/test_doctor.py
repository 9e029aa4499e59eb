"""`otel-ebpf doctor` on the real kernel: with all rights, without them, with and without somebody to export to."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_ebpf import doctor
from otel_ebpf.config import load

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
COMMAND = [sys.executable, "-m", "otel_ebpf.cli", "doctor"]
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]


def run(*arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*prefix, *COMMAND, *arguments], capture_output=True, text=True, timeout=120, env=CLEAN)


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def found(*arguments: str, prefix: tuple[str, ...] = ()) -> tuple[int, dict[str, dict[str, object]]]:
    done = run("--json", *arguments, prefix=prefix)
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["ok"] is (done.returncode == 0)
    return done.returncode, {check["name"]: check for check in document["checks"]}


def test_this_host_can_be_observed() -> None:
    code, checks = found("--admin-address", "none")
    assert code == 0
    assert [name for name, check in checks.items() if check["needed"] and not check["ok"]] == []
    assert "loaded and attached in" in str(checks["capture"]["detail"])
    assert {"CAP_BPF", "BTF", "libbpf", "ring buffer maps", "uprobes", "lockdown", "JIT", "clock"} <= set(checks)


def test_without_rights_it_says_which_are_missing_and_what_to_do() -> None:
    code, checks = found(prefix=tuple(WITHOUT_RIGHTS))
    assert code == 1
    assert checks["CAP_BPF"]["ok"] is False
    assert "--cap-add BPF" in str(checks["CAP_BPF"]["remedy"])
    assert checks["ring buffer maps"]["ok"] is None
    assert checks["capture"]["ok"] is False
    assert all(check["remedy"] for check in checks.values() if not check["ok"])


def test_an_endpoint_that_answers_and_one_that_does_not() -> None:
    with listening() as port:
        config = load(env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_EBPF_SIGNALS": "traces"})
        (answered, _admin) = doctor._export(config)
    (silent, _admin) = doctor._export(config)
    assert (answered.name, answered.ok, silent.ok) == ("export of traces", True, False)
    assert "Connection refused" in silent.detail and silent.remedy
    assert not silent.needed  # the agent runs, retries and counts what it drops


def test_an_admin_address_that_is_taken() -> None:
    with listening() as port:
        *_, admin = doctor._export(load(env={"OTEL_EBPF_ADMIN_ADDRESS": f"127.0.0.1:{port}"}))
    assert (admin.ok, admin.needed) == (False, False)
    assert "in use" in admin.detail


@pytest.mark.parametrize(
    ("text", "mode"),
    [("none [integrity] confidentiality", "integrity"), ("[none] integrity confidentiality", "none"), ("", "")],
)
def test_lockdown(monkeypatch: pytest.MonkeyPatch, text: str, mode: str) -> None:
    monkeypatch.setattr(doctor, "_text", lambda path: text)
    assert doctor._lockdown() == mode


def test_confidential_lockdown_forbids_the_main_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_lockdown", lambda: "confidentiality")
    (check,) = [check for check in doctor._kernel(load()) if check.name == "lockdown"]
    assert check.needed and check.ok is False


def test_a_kernel_without_btf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "_VMLINUX", tmp_path / "vmlinux")
    checks = {check.name: check for check in doctor.examine(load(env={"OTEL_EBPF_ADMIN_ADDRESS": "none"}))}
    assert checks["BTF"].ok is False and "CONFIG_DEBUG_INFO_BTF" in checks["BTF"].remedy
    assert checks["capture"].ok is None


def test_lines_for_a_pipe_and_a_table_for_a_terminal() -> None:
    lines = run("--admin-address", "none").stdout
    assert lines.startswith("yes  root: uid 0") and "\x1b" not in lines
    assert lines.endswith("This host can be observed.\n")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "--admin-address", "none"], stdout=theirs, env={**CLEAN, "TERM": "xterm-256color"}
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # EIO: the other end of the terminal is closed
            os.close(ours)
        assert process.wait(60) == 0
    assert b"\x1b[32m" in shown and b"This host can be observed." in shown


def test_wrong_configuration_comes_first() -> None:
    done = run("--otlp-endpoint", "ftp://x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("otel-ebpf: error: otlp.endpoint: 'ftp://x' is not a URL")
