"""The dashboards as files."""

from __future__ import annotations

import json
from pathlib import Path

from scripts.dashboards import agent, databases, dns, graph, red, rpc

FOLDER = Path(__file__).resolve().parents[2] / "collector-config" / "grafana" / "dashboards"


def files() -> dict[str, str]:
    """Name → content, of all."""
    made = {
        "red.json": red.DASHBOARD,
        "rpc.json": rpc.DASHBOARD,
        "service-graph.json": graph.DASHBOARD,
        "databases.json": databases.DASHBOARD,
        "dns.json": dns.DASHBOARD,
        "agent.json": agent.DASHBOARD,
    }
    return {name: json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n" for name, dashboard in made.items()}
