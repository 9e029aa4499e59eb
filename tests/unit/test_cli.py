"""The command as a user meets it: run as a process, judged by what it prints and how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_ebpf import __version__, cli
from otel_ebpf.errors import UnsupportedError

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}


def otel_ebpf(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "otel_ebpf.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**CLEAN, **env})


def test_help_lists_the_commands_without_loading_what_only_they_need() -> None:
    code = (
        "import sys\nfrom otel_ebpf.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as done:\n    assert not done.code\n"
        "heavy = {'numpy', 'grpc', 'yaml', 'rich', 'google', 'opentelemetry', 'otel_ebpf.config'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(f"    {name}" in done.stdout for name in ("run", "tap", "doctor", "config"))


def test_version() -> None:
    assert otel_ebpf("--version").stdout == f"otel-ebpf {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "--otlp-protocol", "http"],
            "otlp.protocol: 'http' is not one of grpc, http/protobuf (flag --otlp-protocol)",
        ),
        (
            ["run", "--signals", "traces,spans"],
            "signals: 'traces,spans' is not a list, each one of traces, metrics, logs (flag --signals)",
        ),
        (["run", "--config", "/no/such"], "/no/such: cannot be read: No such file or directory"),
        (
            ["config", "--set", "redcat.enabled=no"],
            "redcat.enabled: unknown key, given 'no'; did you mean 'redact.enabled'? (flag --set)",
        ),
        (["config", "--set", "redact"], "--set: 'redact' is not KEY=VALUE"),
        (["run", "--no-such-flag"], "unrecognized arguments: --no-such-flag (see `otel-ebpf --help`)"),
        (["run", "--otlp-endp", "x"], "unrecognized arguments: --otlp-endp x (see `otel-ebpf --help`)"),
        ([], "the following arguments are required: COMMAND (see `otel-ebpf --help`)"),
        (["config", "check"], "config check: which file? usage: otel-ebpf config check F"),
        (["config", "reference", "x"], "config reference: takes no file, got 'x'"),
        (
            ["tap", "--admin-address", "8894"],
            "admin.address: '8894' is not host:port like '127.0.0.1:8894' or '[::1]:8894', or none "
            "(flag --admin-address)",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    done = otel_ebpf(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"otel-ebpf: error: {message}\n")


def test_config_shows_each_value_with_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("metrics:\n  series: 7\n")
    done = otel_ebpf("config", "--no-redact", "--config", str(file), OTEL_LOG_LEVEL="DEBUG")
    lines = {" ".join(line.split()) for line in done.stdout.splitlines()}
    assert {f"series: 7 # file {file}:2", "enabled: false # flag --no-redact"} <= lines
    assert {"level: debug # environment OTEL_LOG_LEVEL", "output: auto # default"} <= lines
    as_json = json.loads(otel_ebpf("config", "--json", OTEL_EBPF_CONFIG=str(file)).stdout)
    assert as_json["metrics.series"] == {"value": "7", "origin": f"file {file}:2"}


def test_config_check_judges_the_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("metrics:\n  series: 7\n")
    done = otel_ebpf("config", "check", str(file), OTEL_LOG_LEVEL="nonsense")
    assert (done.returncode, done.stdout) == (0, f"{file}: right, 1 key\n")
    file.write_text("metrics:\n  serie: 7\n")
    done = otel_ebpf("config", "check", str(file))
    assert done.returncode == 2
    assert done.stderr.endswith(
        f"metrics.serie: unknown key, given '7'; did you mean 'metrics.series'? (file {file}:2)\n"
    )


def test_config_reference_is_what_docs_hold() -> None:
    assert otel_ebpf("config", "reference").stdout == (Path(__file__).parents[2] / "docs/configuration.md").read_text()


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "otel_ebpf.cli", "config", "reference"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, env=CLEAN)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def handled_by(monkeypatch: pytest.MonkeyPatch, handler: Callable[..., int]) -> None:
    monkeypatch.setattr(cli, "_run", handler)


def test_an_error_of_ours_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def handler(options: object) -> int:
        raise UnsupportedError("libbpf.so.1 not found:\ninstall libbpf1")

    handled_by(monkeypatch, handler)
    assert cli.main(["run"]) == 1
    assert capsys.readouterr().err == "otel-ebpf: error: libbpf.so.1 not found: install libbpf1\n"


def test_a_defect_is_one_line_and_its_traceback_is_there_for_the_asking(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def handler(options: object) -> int:
        raise ZeroDivisionError("a\nb")

    handled_by(monkeypatch, handler)
    assert cli.main(["run"]) == 1
    assert capsys.readouterr().err == "otel-ebpf: error: ZeroDivisionError: a b (a defect: `--debug` shows where)\n"
    assert cli.main(["run", "--debug"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback") and shown.endswith("\notel-ebpf: error: ZeroDivisionError: a b\n")
    assert cli.main(["--debug", "run"]) == 1
    assert capsys.readouterr().err.startswith("Traceback")


def test_an_interrupt_is_a_fine_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def handler(options: object) -> int:
        raise KeyboardInterrupt

    handled_by(monkeypatch, handler)
    assert cli.main(["run"]) == 0
    assert capsys.readouterr().err == ""
