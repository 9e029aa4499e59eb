"""The dashboards in collector-config/ as a test reads them: panels, and their queries as Prometheus gets them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).resolve().parents[1] / "collector-config"
FOLDER = CONFIG / "grafana" / "dashboards"
NAMES = tuple(sorted(path.name for path in FOLDER.glob("*.json")))

_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)\}?")
_INTERVALS = {"__rate_interval": "1m", "__interval": "15s", "__range": "5m"}


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel."""

    panel: str
    ref: str
    text: str
    legend: str

    @property
    def expr(self) -> str:
        return expand(self.text)


@cache
def dashboard(name: str) -> Any:  # noqa: ANN401  (JSON)
    """The file "red.json"."""
    return json.loads((FOLDER / name).read_text())


def panels(name: str) -> list[Any]:
    """All panels but the headings of rows."""
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def queries(name: str) -> Iterator[Query]:
    for panel in panels(name):
        for target in panel["targets"]:
            yield Query(panel["title"], target["refId"], target["expr"], target.get("legendFormat", ""))


def variables(name: str) -> dict[str, tuple[str, str]]:
    """Variable → (selector, label) of its `label_values`."""
    found = {}
    for variable in dashboard(name)["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert match is not None, variable
            found[variable["name"]] = (expand(match[1]), match[2])
    return found


def mentioned(text: str) -> set[str]:
    """Names of the variables in a text."""
    return set(_VARIABLE.findall(text))


def expand(text: str) -> str:
    """The text with every variable set: a window of a minute, a range of five, "All" for each choice."""
    return _VARIABLE.sub(lambda match: _INTERVALS.get(match[1], ".*"), text)
