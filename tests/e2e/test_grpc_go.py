"""grpc-go's server and client, of several versions: each call is below what caused it, none below anything else.

The first program is asked by HTTP/1 and calls the second by gRPC, which calls the third by gRPC, which calls the
backend by HTTP/1.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from otel_ebpf.runtimes import go_grpc
from otel_ebpf.runtimes.base import Layout
from otel_ebpf.runtimes.go import Go
from tests.e2e.test_goroutines import SECONDS
from tests.fidelity.harness import AGENT_FIRST, APP_FIRST, Mode, Outcome, run
from tests.fidelity.row import APPS, EXACT, PARALLEL, SEQUENTIAL, Row
from tests.fidelity.rows_chains import App, chain
from tests.fidelity.table import cells, notes
from tests.processes import answers, free_port, running
from tests.toolbox import go_environment

OLDEST, POINTER, NEWEST = "1.40.0", "1.72.2", "1.85.0"
"""What a stream is differs: its number first; a pointer to that; its number inside."""
OURS = "1.67.3"
"""What apps/gogrpc asks for."""
BESIDE = ("golang.org/x/net@v0.60.0", "golang.org/x/sys@v0.48.0")
"""Old versions ask for some which newer Go does not link."""
MOST = 90.0
"""Percent, where a handler may not have begun when its stream is given up, or be at work when the load ends."""
STRIPPED = "-ldflags=-s -w"


def build(version: str, folder: Path) -> Path:
    source = shutil.copytree(APPS / "gogrpc", folder / "source")
    environment = {**go_environment(), "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
    get = ["go", "get", f"google.golang.org/grpc@v{version}", *BESIDE]
    for command in ([] if version == OURS else [get]) + [["go", "build", STRIPPED, "-o", str(folder / "service"), "."]]:
        subprocess.run(command, cwd=source, env=environment, check=True)
    return folder / "service"


def recognised(service: Path) -> Layout:
    port = free_port()
    command = [str(service), "--port", str(port), "--backend", "127.0.0.1:1"]
    with running(command, answers(port), log=service.with_name("log")) as process:
        said = Go().recognise(process.pid)
    assert isinstance(said, Layout)
    return said


def measured(service: Path, mode: Mode, *options: str) -> tuple[Outcome, str]:
    ends = {"client": ("h1", "grpc"), "between": ("grpc", "grpc"), "server": ("grpc", "h1")}
    parts = [App(name, (str(service), "--serves", s, "--calls", c, *options)) for name, (s, c) in ends.items()]
    outcome = run(Row("grpc-go", runtime="Go", what="a chain", start=chain(*parts), rate=25), mode, SECONDS)
    told = "\n".join(["  ".join(cells(outcome)), *notes(outcome)])
    assert not outcome.error and outcome.done, told
    assert outcome.wrong == 0 and outcome.duplicates == 0, told
    return outcome, told


@pytest.mark.parametrize("version", [OLDEST, POINTER, NEWEST])
def test_calls_are_below_what_caused_them_whatever_the_version(version: str, tmp_path: Path) -> None:
    service = build(version, tmp_path)
    assert not recognised(service).without
    outcome, told = measured(service, Mode(AGENT_FIRST, PARALLEL))
    assert outcome.right >= EXACT, told


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(OURS, tmp_path_factory.mktemp("grpc"))


@pytest.mark.parametrize("workers", [0, 2])
def test_calls_on_streams_belong_to_these_while_they_are_answered(service: Path, workers: int) -> None:
    outcome, told = measured(service, Mode(AGENT_FIRST, PARALLEL), "--stream", "--workers", str(workers))
    assert outcome.right >= EXACT, told


def test_calls_of_a_handler_whose_caller_has_lost_patience_belong_to_what_it_handles(service: Path) -> None:
    outcome, told = measured(service, Mode(AGENT_FIRST, SEQUENTIAL), "--patient", "30ms")
    assert outcome.right >= MOST, told


def test_connections_that_were_there_before_are_known_as_well(service: Path) -> None:
    outcome, told = measured(service, Mode(APP_FIRST, SEQUENTIAL))
    assert outcome.right >= EXACT, told


def test_of_a_version_that_is_not_known_the_server_is_refused_and_nothing_guessed(
    service: Path, tmp_path: Path
) -> None:
    needs = Counter(probe.need for probe in recognised(service).on_need)
    assert needs[go_grpc.SERVER] >= 2 and needs[go_grpc.CLIENT] >= 2
    newer = tmp_path / "newer"
    module = b"google.golang.org/grpc\tv%b\t"
    newer.write_bytes(service.read_bytes().replace(module % OURS.encode(), module % b"9.67.3"))
    newer.chmod(0o755)
    said = recognised(newer)
    (refusal,) = said.without
    assert refusal.what == "grpc-go v9.67.3 (server)" and "1.40 to" in refusal.why
    assert not [probe for probe in said.on_need if probe.need == go_grpc.SERVER]
    outcome, told = measured(newer, Mode(AGENT_FIRST, PARALLEL))
    assert 0 < outcome.right < EXACT, told
