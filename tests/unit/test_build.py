"""Specification of the build: what pip makes of the sources, and what it says where it cannot."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_ebpf.kernel.btf import Btf
from scripts import build_bpf

ROOT = Path(__file__).resolve().parents[2]
TREE = ("bpf", "scripts", "otel_ebpf", "setup.py", "pyproject.toml", "README.md")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The sources alone, as a clone has them: no compiled object, no build folder."""
    folder = tmp_path_factory.mktemp("sources")
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("_bpf", "__pycache__"))
        else:
            shutil.copy(source, folder / name)
    yield folder


def _pip(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    # The build's own requirement, setuptools, is among the tools for development: nothing is downloaded.
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": path} if path is not None else None)


def _objects(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {
            Path(name).name: archive.read(name)
            for name in archive.namelist()
            if name.startswith("otel_ebpf/_bpf/") and name.endswith(".bpf.o")
        }


def test_given_the_sources_when_a_wheel_is_built_then_it_contains_every_object(tree: Path, tmp_path: Path) -> None:
    done = _pip("-w", str(tmp_path), str(tree))
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    objects = _objects(wheel)
    assert sorted(objects) == sorted(build_bpf.object_name(source) for source in build_bpf.sources())
    # Objects differ by machine, not by Python.
    assert wheel.name.endswith(f"-py3-none-linux_{build_bpf.machine()}.whl")
    unpacked = tmp_path / "requests.bpf.o"
    unpacked.write_bytes(objects["requests.bpf.o"])
    assert Btf.of_object(unpacked).dtype("exchange").itemsize > 0


def test_given_the_sdist_alone_when_a_wheel_is_built_from_it_then_it_contains_the_same_objects(
    tree: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"from setuptools.build_meta import build_sdist; print(build_sdist({str(tmp_path)!r}))"],
        cwd=tree,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert not [name for name in archive.getnames() if name.endswith(".o")]
    done = _pip("-w", str(tmp_path), str(sdist))
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert len(_objects(wheel)) == len(build_bpf.sources())


def test_given_no_clang_when_a_wheel_is_built_then_the_error_names_clang_and_the_remedy(
    tree: Path, tmp_path: Path
) -> None:
    done = _pip("-w", str(tmp_path / "out"), str(tree), path=str(tmp_path))
    assert done.returncode != 0
    assert "clang not found" in done.stdout + done.stderr
    assert "apt-get install clang libbpf-dev" in done.stdout + done.stderr


@pytest.mark.parametrize("arch", sorted(build_bpf.TARGET_ARCH))
def test_given_any_supported_machine_then_the_same_records_come_out(arch: str, tmp_path: Path) -> None:
    build_bpf.build(tmp_path, arch)
    here = Btf.of_object(build_bpf.IN_PLACE / "requests.bpf.o")
    there = Btf.of_object(tmp_path / "requests.bpf.o")
    for record in ("record_head", "record_small", "record_large", "connection", "process_event", "server_name"):
        assert there.dtype(record) == here.dtype(record)


def test_given_an_unknown_machine_then_it_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(build_bpf.BuildError, match=r"riscv64.*supported"):
        build_bpf.build(tmp_path, "riscv64")


def test_given_a_program_that_does_not_compile_then_clangs_own_words_are_passed_on(tmp_path: Path) -> None:
    source = tmp_path / "broken.bpf.c"
    source.write_text("int f(void) { return nowhere; }\n")
    with pytest.raises(build_bpf.BuildError, match="use of undeclared identifier 'nowhere'"):
        build_bpf.compile_one(source, tmp_path / "broken.bpf.o", build_bpf.machine())
    assert not list(tmp_path.glob("*.o")) + list(tmp_path.glob("*.partial"))
