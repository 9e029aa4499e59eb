"""`make bench`: all benchmarks, one table, bench/results.json.

    python -m bench.run [--quick] [--only kernel,userspace,tail,loads,footprint,viewer,page,minutes,infer]

Needs root, and a machine that does little else: spreads are printed beside the medians.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.table import Row, markdown
from otel_ebpf.errors import OtelEbpfError

PARTS = ("kernel", "userspace", "tail", "loads", "footprint", "viewer", "page", "minutes", "infer")
RESULTS = Path(__file__).with_name("results.json")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="What observing costs.")
    parser.add_argument("--quick", action="store_true", help="minutes less, wider spreads")
    parser.add_argument("--only", metavar="PART,…", default=",".join(PARTS), help=f"of: {', '.join(PARTS)}")
    options = parser.parse_args(arguments)
    parts = options.only.split(",")
    unknown = set(parts) - set(PARTS)
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))} is not one of {', '.join(PARTS)}")
    if os.geteuid() != 0:
        print("error: BPF programs can be loaded by root only: sudo make bench", file=sys.stderr)
        return 1
    rows: list[Row] = []
    failed: list[str] = []
    for part in parts:
        began = time.monotonic()
        print(f"… {part}", end="", file=sys.stderr, flush=True)
        try:
            rows += importlib.import_module(f"bench.{part}").rows(options.quick)
        except (OtelEbpfError, AssertionError) as error:
            print(f"\nerror: {part}: {str(error)[:500]}", file=sys.stderr)
            failed.append(part)
            continue
        print(f": {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(f"\n{machine()}{', quick' if options.quick else ''}\n")
    print(markdown(rows))
    missed = [row for row in rows if row.met is False]
    print(f"\n{len([row for row in rows if row.met])} met, {len(missed)} missed")
    save(rows, parts, options.quick)
    if failed:
        print(f"error: not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def machine() -> str:
    """What the figures belong to."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    versions = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{platform.machine()}, {os.cpu_count()} CPUs, {versions}, load {load}"


def save(rows: Sequence[Row], parts: Sequence[str], quick: bool) -> None:
    """All figures, with the raw ones, for comparing runs."""
    entries = [{**asdict(row), "target": row.target, "met": row.met} for row in rows]
    written = {"machine": machine(), "time": int(time.time()), "quick": quick, "parts": list(parts), "rows": entries}
    RESULTS.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
