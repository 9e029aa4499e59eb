"""Where fields lie in Go programs, by version of Go: asked of the toolchains themselves, written as a table.

    python -m scripts.go_offsets             the first and the last release of each minor version → the table
    python -m scripts.go_offsets --check     the toolchain at hand says what the table says

Each toolchain (module golang.org/toolchain, fetched by the go command) builds scripts/go_offsets/main.go, which reads
its own DWARF. Needs Go 1.21 or newer on PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from otel_ebpf.runtimes.go_offsets import offsets_of, release

HERE = Path(__file__).parent
SOURCE = HERE / "go_offsets" / "main.go"
TABLE = HERE.parent / "otel_ebpf" / "runtimes" / "go_offsets.json"
RELEASES = (
    *("1.18", "1.18.10", "1.19.2", "1.19.13", "1.20", "1.20.14", "1.21.0", "1.21.13", "1.22.0", "1.22.12"),
    *("1.23.0", "1.23.12", "1.24.0", "1.24.13", "1.25.0", "1.25.14", "1.26.0", "1.26.11", "1.27.0", "1.27.4"),
)
FIXED = {
    "fixed_stack": 0,
    "fixed_stack_hi": 8,
    "fixed_chan_size": 8,
    "fixed_chan_buffer": 16,
    "fixed_chan_item": 24,
    "fixed_sudog_g": 0,
    "fixed_first": 0,
}
"""What bpf/include/unit_go.h takes for granted, since no version has it otherwise."""


def measure(version: str | None = None) -> dict[str, int]:
    """What a toolchain says: of a release ("1.22.1"), or the one on PATH. Without the fields that are fixed."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    if version:
        environment["GOTOOLCHAIN"] = f"go{version}"
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/offsets"
        build = ["go", "build", "-o", program, str(SOURCE)]
        subprocess.run(build, env=environment, cwd=folder, check=True)
        said = json.loads(subprocess.run([program], check=True, capture_output=True, text=True).stdout)
    wrong = {name: said.get(name) for name, fixed in FIXED.items() if said.get(name) != fixed}
    if wrong:
        raise SystemExit(f"error: Go {version}: not what bpf/include/unit_go.h takes for granted: {wrong}")
    return {name: number for name, number in said.items() if name not in FIXED}


def toolchain() -> str:
    """Version of the Go on PATH, "1.26.8"."""
    said = subprocess.run(["go", "env", "GOVERSION"], check=True, capture_output=True, text=True, cwd="/").stdout
    return said.split()[0].removeprefix("go")


def write(measured: Mapping[str, Mapping[str, int]]) -> None:
    """One row for each minor version. Its releases must agree."""
    rows: dict[str, Mapping[str, int]] = {}
    for version, said in measured.items():
        minor = ".".join(version.split(".")[:2])
        if rows.setdefault(minor, said) != said:
            raise SystemExit(f"error: releases of Go {minor} differ: a row for each minor version is not enough")
    table = ",\n".join(f'  "{minor}": {json.dumps(said, sort_keys=True)}' for minor, said in rows.items())
    TABLE.write_text("{\n" + table + "\n}\n")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare the table with the toolchain on PATH")
    if parser.parse_args().check:
        version = toolchain()
        said, known = measure(), offsets_of(release(f"go{version}"))
        if known is None or known != said:
            print(f"error: Go {version} says {said}, the table {known}", file=sys.stderr)
            return 1
        return 0
    measured = {}
    for version in RELEASES:
        measured[version] = measure(version)
        print(version, measured[version], flush=True)
    write(measured)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
