#!/usr/bin/env python3
"""Compile bpf/*.bpf.c into BPF objects with clang: used by setup.py (`pip install .`) and by `make bpf`.

    scripts/build_bpf.py                                    for this machine, into otel_ebpf/_bpf
    scripts/build_bpf.py --arch aarch64 --output DIR        for another one

Standard library only: it runs in pip's isolated build environment. Source: kernel Documentation/bpf/llvm_reloc.rst and
libbpf's README for the flags.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "bpf"
IN_PLACE = ROOT / "otel_ebpf" / "_bpf"

TARGET_ARCH = {"x86_64": "x86", "aarch64": "arm64"}
"""Machine → what libbpf's bpf_tracing.h calls it; `struct pt_regs` is what differs between the objects."""


class BuildError(Exception):
    """The objects cannot be built: names what is missing and the remedy, or carries clang's own words."""


def machine() -> str:
    """This machine by the name that `TARGET_ARCH` uses."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def find_clang() -> str:
    """Path of clang, plain or with Debian's version suffix."""
    for name in ("clang", *(f"clang-{version}" for version in range(24, 11, -1))):
        path = shutil.which(name)
        if path:
            return path
    raise BuildError(
        "clang not found: it compiles the BPF programs. Install it with\n"
        "  apt-get install clang libbpf-dev     (Debian, Ubuntu)\n"
        "  dnf install clang libbpf-devel       (Fedora)"
    )


def include_flags() -> Iterator[str]:
    """Our headers first, then libbpf's; the host's asm/ headers last, which Debian keeps apart by triplet."""
    yield f"-I{SOURCES / 'include'}"
    places = [Path("/usr/include"), Path("/usr/local/include")]
    if not any((place / "bpf" / "bpf_helpers.h").exists() for place in places):
        raise BuildError(
            "bpf/bpf_helpers.h not found: the BPF programs are compiled against libbpf's headers. Install them with\n"
            "  apt-get install libbpf-dev     (Debian, Ubuntu)\n"
            "  dnf install libbpf-devel       (Fedora)"
        )
    for place in (*places, Path(f"/usr/include/{machine()}-linux-gnu")):
        if place.exists():
            yield "-idirafter"
            yield str(place)


def sources() -> list[Path]:
    """Every bpf/NAME.bpf.c, one object each."""
    return sorted(SOURCES.glob("*.bpf.c"))


def object_name(source: Path) -> str:
    """`requests.bpf.c` → `requests.bpf.o`: what `otel_ebpf.kernel.btf.object_path` looks for."""
    return source.with_suffix(".o").name


def compile_one(source: Path, output: Path, arch: str, defines: Sequence[str] = ()) -> None:
    """Compile one source to the file `output`, which appears whole or not at all."""
    if arch not in TARGET_ARCH:
        raise BuildError(f"no BPF objects for {arch!r}: supported are {', '.join(TARGET_ARCH)}")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_suffix(".partial")
    command = [
        *(find_clang(), "-O2", "-g", "-target", "bpf", "-Wall", "-Werror"),
        *(f"-D__TARGET_ARCH_{TARGET_ARCH[arch]}", *(f"-D{define}" for define in defines)),
        *include_flags(),
        # No path of the building machine in the object, so that equal sources give equal objects.
        f"-fdebug-prefix-map={ROOT}=.",
        *("-c", str(source), "-o", str(partial)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        partial.unlink(missing_ok=True)
        raise BuildError(f"{source.name} does not compile for {arch}:\n{done.stderr}")
    partial.replace(output)


def build(output: Path, arch: str) -> list[Path]:
    """Compile every source into the folder `output`; the objects, in order of name."""
    objects = []
    for source in sources():
        target = output / object_name(source)
        compile_one(source, target, arch)
        objects.append(target)
    if not objects:
        raise BuildError(f"no *.bpf.c in {SOURCES}")
    return objects


def main() -> int:
    parser = argparse.ArgumentParser(description="Compile bpf/*.bpf.c with clang.")
    parser.add_argument("--arch", default=machine(), choices=sorted(TARGET_ARCH), help="default: this machine's")
    parser.add_argument("--output", type=Path, default=IN_PLACE, help="folder for the objects")
    arguments = parser.parse_args()
    try:
        objects = build(arguments.output, arguments.arch)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in objects:
        print(f"  {arguments.arch}: {path.name} ({path.stat().st_size // 1024} KB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
