"""A real Prometheus that scrapes, and what a test asks of it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.processes import answers, free_port, program, running, scratch


class BadQuery(AssertionError):
    """Prometheus refuses a query; the message says the query and why."""


Labels = tuple[tuple[str, str], ...]
"""The labels of a series, in the order of their names."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus. url: "http://127.0.0.1:9090"."""

    url: str
    log: Path

    def query(self, expr: str, at: float | None = None) -> dict[Labels, float]:
        """An instant query of a vector, now or at a Unix time: series → value. BadQuery if it is refused."""
        found = self._ask("query", query=expr, **({} if at is None else {"time": str(at)}))["result"]
        return {tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in found}

    def wait(self, expr: str, limit_s: float = 30.0) -> dict[Labels, float]:
        """The first answer that is not empty."""
        end = time.monotonic() + limit_s
        while not (found := self.query(expr)):
            assert time.monotonic() < end, f"not within {limit_s:.0f} s: {expr}"
            time.sleep(0.2)
        return found

    def label_values(self, label: str, metric: str) -> list[str]:
        """What Grafana's `label_values(metric, label)` asks."""
        found: list[str] = self._ask(f"label/{label}/values", **{"match[]": metric})
        return found

    def exemplars(self, expr: str) -> list[dict[str, str]]:
        """Labels of the exemplars of all series in `expr`, of the last five minutes."""
        now = time.time()
        data = self._ask("query_exemplars", query=expr, start=str(now - 300), end=str(now))
        return [exemplar["labels"] for series in data for exemplar in series["exemplars"]]

    def _ask(self, path: str, **parameters: str) -> Any:  # noqa: ANN401  (JSON of several forms)
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise BadQuery(f"{parameters}: {error.read().decode()}") from error


@contextmanager
def prometheus(configuration: str = "", **jobs: int) -> Iterator[Prometheus]:
    """Debian's Prometheus, exemplars kept, data in a folder of its own.

    configuration: its YAML; without it, it scrapes twice a second. jobs: name → a port on 127.0.0.1 that is scraped.
    """
    with scratch() as folder:
        port, log, file = free_port(), folder / "log", folder / "prometheus.yaml"
        targets = [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{at}"]}]} for name, at in jobs.items()
        ]
        scrape = {"global": {"scrape_interval": "500ms"}, "scrape_configs": targets}
        file.write_text(configuration or yaml.safe_dump(scrape))
        command = [
            program("prometheus", "prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ]
        with running(command, answers(port), log=log):
            yield Prometheus(f"http://127.0.0.1:{port}", log)
