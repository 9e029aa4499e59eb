"""The back office: somebody looks at the reports every few seconds."""

from __future__ import annotations

import os
import random
import time

from otel_ebpf.demo.services.web import Failure, Peer

_PAUSE_S = 4.0


def main() -> None:
    """Ask for reports until the end."""
    reports = Peer(os.environ["REPORTS_URL"])
    while True:
        for path in ("/reports/orders", "/reports/sales"):
            try:
                reports.get(path)
            except Failure as failure:
                print(f"{path}: {failure}", flush=True)
            time.sleep(_PAUSE_S / 2 * random.uniform(0.5, 1.5))


if __name__ == "__main__":
    main()
