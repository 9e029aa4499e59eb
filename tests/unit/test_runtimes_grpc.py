"""grpc-go in Go programs: the table of its versions, and what is no grpc-go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.runtimes import go_grpc
from otel_ebpf.runtimes.grpc_offsets import known, offsets_of
from scripts import grpc_offsets
from scripts.grpc_offsets import RELEASES

ROW = {"stream_id": 0, "stream_pointer": 0, "stream_transport": 8}
CODE = 0x400


class Table:
    """A table of functions, each of 64 bytes."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def named(self, names: tuple[str, ...]) -> dict[str, int]:
        return {name: CODE + 64 * at for at, name in enumerate(self.names) if name in names}

    def like(self, pattern: bytes) -> list[int]:
        return [CODE + 64 * at for at in range(len(self.names))]


def test_every_release_since_1_40_has_its_row() -> None:
    minors = {int(release.split(".")[1]) for release in RELEASES}
    assert minors == set(range(40, max(minors) + 1))
    assert known() == ("1.40", f"1.{max(minors)}")
    assert all(offsets_of(f"v{release}") for release in RELEASES)


def test_what_is_no_release_or_another_minor_version_has_none() -> None:
    assert offsets_of("v1.67.3") == offsets_of("v1.67.99") == ROW
    said = [
        offsets_of(v) for v in ("v1.39.9", "v1.999.0", "v9.67.3", "v1.67.0-dev", "v1.67.1-0.2024-abc", "(devel)", "")
    ]
    assert said == [None] * 7


def test_a_row_begins_where_a_release_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_offsets, "TABLE", tmp_path / "table.json")
    other = {**ROW, "stream_id": 8}
    grpc_offsets.write({"1.67.0": ROW, "1.67.3": ROW, "1.68.0": other, "1.68.1": other, "1.69.0": other})
    rows = json.loads((tmp_path / "table.json").read_text())
    assert rows == {"1.67.0": ROW, "1.68.0": other, "1.69.0": other}


def test_a_program_without_grpc_has_none_of_it() -> None:
    assert go_grpc.look(Table("main.main"), lambda at: b"", "") is None  # type: ignore[arg-type]


@given(st.binary(max_size=64), st.sampled_from(["v1.67.3", "v9.67.3", ""]))
def test_code_that_is_not_what_is_expected_is_refused(code: bytes, version: str) -> None:
    said = go_grpc.look(Table(*go_grpc.NAMES), lambda at: code, version)  # type: ignore[arg-type]
    assert said is not None and len(said.refusals) == 2
    assert said.sites == [] and said.loops == () and said.reader == 0
