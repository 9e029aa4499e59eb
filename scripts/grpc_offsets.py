"""Where a stream of grpc-go keeps its number, by version of grpc-go: asked of the compiler, written as a table.

    python -m scripts.grpc_offsets             all of `RELEASES` → the table
    python -m scripts.grpc_offsets --check V   release V says what the table says

Each release is built into a program, of which scripts/go_offsets/main.go reads the DWARF. Needs Go on PATH.
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

from otel_ebpf.runtimes.grpc_offsets import offsets_of

HERE = Path(__file__).parent
READER = HERE / "go_offsets" / "main.go"
TABLE = HERE.parent / "otel_ebpf" / "runtimes" / "grpc_offsets.json"
RELEASES = (
    *("1.40.0", "1.41.0", "1.42.0", "1.43.0", "1.44.0", "1.45.0", "1.46.0", "1.46.2", "1.47.0", "1.48.0", "1.49.0"),
    *("1.50.0", "1.50.1", "1.51.0", "1.52.0", "1.52.3", "1.53.0", "1.54.0", "1.54.1", "1.55.0", "1.55.1", "1.56.0"),
    *("1.56.3", "1.57.0", "1.57.2", "1.58.0", "1.58.3", "1.59.0", "1.60.0", "1.60.1", "1.61.0", "1.61.1", "1.62.0"),
    *("1.62.1", "1.63.0", "1.63.2", "1.64.0", "1.64.1", "1.65.0", "1.65.1", "1.66.0", "1.66.2", "1.67.0", "1.67.3"),
    *("1.68.0", "1.68.1", "1.69.0", "1.69.4", "1.70.0", "1.71.0", "1.71.1", "1.72.0", "1.72.2", "1.73.0", "1.74.2"),
    *("1.74.3", "1.75.0", "1.75.1", "1.76.0", "1.77.0", "1.78.0", "1.79.0", "1.79.3", "1.80.0", "1.81.0", "1.81.1"),
    *("1.82.0", "1.82.1", "1.83.0", "1.83.1", "1.83.2", "1.84.0", "1.85.0"),
)
"""The first and the last of each minor version, and those between where they differ."""
BESIDE = ("golang.org/x/net@v0.60.0", "golang.org/x/sys@v0.48.0")
"""Old releases ask for versions of these which newer Go does not link."""
PROGRAM = """package main

import (
	"os"

	"google.golang.org/grpc"
)

func main() {
	if len(os.Args) > 9 {
		grpc.NewServer().Serve(nil)
		channel, _ := grpc.Dial("")
		channel.Invoke(nil, "", nil, nil)
	}
}
"""
FIXED = {"header_stream": 0, "header_fields": 8, "request_stream": 0, "request_fields": 8}
"""What bpf/golang.bpf.c takes for granted, since no version has it otherwise."""


def _go(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    done = subprocess.run(["go", *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: go {' '.join(arguments)}: {done.stderr[-2000:]}")
    return done.stdout


def measure(release: str) -> dict[str, int]:
    """What a release says: stream_id, stream_transport, and stream_pointer, 1 where a server's stream has a pointer to
    what has the id."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "main.go").write_text(PROGRAM)
        _go(folder, "mod", "init", "offsets")
        _go(folder, "get", f"google.golang.org/grpc@v{release}", *BESIDE)
        _go(folder, "build", "-o", "program", ".")
        said = json.loads(_go(folder, "run", str(READER), str(folder / "program")))
    fixed = {key.removeprefix("fixed_"): number for key, number in said.items() if key.startswith("fixed_")}
    wrong = {name: number for name, number in fixed.items() if name in FIXED and number != FIXED[name]}
    if wrong or not {"header_fields", "request_fields"} & fixed.keys():
        raise SystemExit(f"error: grpc-go {release}: not what bpf/golang.bpf.c takes for granted: {fixed}")
    inside, pointer = said.get("stream_inside", 0), said.get("stream_pointer", 0)
    if pointer and inside:
        raise SystemExit(f"error: grpc-go {release}: a server's stream does not begin with the pointer to its inside")
    return {
        "stream_id": said["stream_id"] + (0 if pointer else inside),
        "stream_transport": said["server_transport"] if "server_transport" in said else said["stream_transport"],
        "stream_pointer": pointer,
    }


def write(measured: Mapping[str, Mapping[str, int]]) -> None:
    """A row for each release that differs from the one before it, and for the last one."""
    rows: dict[str, Mapping[str, int]] = {}
    for release, said in measured.items():
        if not rows or list(rows.values())[-1] != said or release == list(measured)[-1]:
            rows[release] = said
    table = ",\n".join(f'  "{release}": {json.dumps(said, sort_keys=True)}' for release, said in rows.items())
    TABLE.write_text("{\n" + table + "\n}\n")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", metavar="V", help='compare the table with one release, "1.67.3"')
    release = parser.parse_args().check
    if release:
        said, known = measure(release), offsets_of(f"v{release}")
        if known is None or dict(known) != said:
            print(f"error: grpc-go {release} says {said}, the table {known}", file=sys.stderr)
            return 1
        return 0
    measured = {}
    for release in RELEASES:
        measured[release] = measure(release)
        print(release, measured[release], flush=True)
    write(measured)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
