"""The matrix from the command line.

python -m tests.fidelity.run --only python-threading,nginx --seconds 10 --order app-first --json out.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fidelity.harness import AGENT_FIRST, APP_FIRST, Mode, Outcome, run
from tests.fidelity.row import Row
from tests.fidelity.rows import named
from tests.fidelity.table import cells, into, notes, plain, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fidelity", description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name contains one of these, comma-separated")
    parser.add_argument("--seconds", type=float, default=8.0, help="of measured load a run (default 8)")
    parser.add_argument("--order", choices=(AGENT_FIRST, APP_FIRST), help="default: both")
    parser.add_argument("--calls", choices=("seq", "par"), help="default: both, where they differ")
    parser.add_argument("--rate", type=float, help="requests a second (default: the row's)")
    parser.add_argument("--fast", action="store_true", help="a backend that answers in 0.2 to 3 ms")
    parser.add_argument("--json", type=Path, help="a file for all that was counted")
    parser.add_argument(
        "--into", type=Path, help="a document in whose table these rows are to be replaced, as docs/causality.md"
    )
    parser.add_argument("--jobs", type=int, default=1, help="rows that run at the same time (default 1)")
    parser.add_argument("--keep", type=Path, help="a folder for spans, truth and logs of each run")
    parser.add_argument("--list", action="store_true", help="name the rows, and what they lack here")
    options = parser.parse_args()
    rows = named(options.only)
    if options.list:
        for row in rows:
            print(f"{row.name:32} {row.runtime:12} {row.what}  {'; '.join(row.lacking())}")
        return 0
    if os.geteuid() != 0:
        parser.error("the agent loads BPF programs: run it as root")

    def of_row(row: Row) -> list[Outcome]:
        found = []
        for order in (AGENT_FIRST, APP_FIRST):
            for calls in row.modes:
                if options.order in (None, order) and options.calls in (None, calls):
                    mode = Mode(order, calls, options.fast)
                    found.append(run(row, mode, options.seconds, rate=options.rate, keep=options.keep))
                    told = ["  ".join(cells(found[-1])), *notes(found[-1])]
                    print("\n".join(told), file=sys.stderr, flush=True)
        return found

    with ThreadPoolExecutor(options.jobs) as several:
        outcomes = [outcome for found in several.map(of_row, rows) for outcome in found]
    print(table(outcomes))
    if options.into:
        options.into.write_text(into(options.into.read_text(), outcomes))
    if options.json:
        options.json.write_text(json.dumps([plain(outcome) for outcome in outcomes], indent=1) + "\n")
    return int(any(outcome.wrong or outcome.duplicates for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
