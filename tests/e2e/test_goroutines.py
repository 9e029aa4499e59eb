"""Go programs, however they were built: each call is below the request that caused it, none below another one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fidelity.harness import AGENT_FIRST, APP_FIRST, Mode, run
from tests.fidelity.row import APPS, CERTAIN, EXACT, GOOD, SEQUENTIAL, Row, program
from tests.fidelity.table import cells, notes
from tests.toolbox import go_environment

SECONDS = 3.0
WAYS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "stripped": ("go", "0", ("-ldflags=-s -w",)),
    "position-independent": ("go", "0", ("-buildmode=pie", "-ldflags=-s -w")),
    "cgo": ("go", "1", ("-ldflags=-s -w -linkmode=external",)),
    "static": ("go", "1", ("-tags=netgo,osusergo", "-ldflags=-s -w -linkmode=external -extldflags=-static")),
}
"""(app, CGO_ENABLED, flags of the build)"""
HARD = {"lazy": GOOD, "nested": EXACT, "collect": EXACT, "after": EXACT, "borrow": CERTAIN, "two": CERTAIN}


def build(app: str, folder: Path, cgo: str = "0", flags: tuple[str, ...] = ()) -> Path:
    environment = {**go_environment(), "CGO_ENABLED": cgo, "GOFLAGS": ""}
    service = folder / "service"
    command = ["go", "build", *flags, "-o", str(service), "."]
    subprocess.run(command, cwd=APPS / app, env=environment, check=True)
    return service


def assert_exact(row: Row, order: str) -> None:
    outcome = run(row, Mode(order, SEQUENTIAL), SECONDS)
    told = "\n".join(["  ".join(cells(outcome)), *notes(outcome)])
    assert not outcome.error and outcome.done, told
    assert outcome.wrong == 0 and outcome.duplicates == 0, told
    assert outcome.right >= row.target, told


@pytest.mark.parametrize("way", WAYS)
def test_handlers_of_a_program_own_its_calls(way: str, tmp_path: Path) -> None:
    app, cgo, flags = WAYS[way]
    service = build(app, tmp_path, cgo, flags)
    assert_exact(Row(way, runtime="Go", what=way, start=program(str(service), "--style", "handler")), APP_FIRST)


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("gohard", tmp_path_factory.mktemp("hard"))


@pytest.mark.parametrize("style", HARD)
def test_work_that_changes_goroutines_is_followed_or_left_undecided(style: str, hard: Path) -> None:
    start = program(str(hard), "--style", style)
    assert_exact(Row(style, runtime="Go", what=style, start=start, target=HARD[style]), AGENT_FIRST)
