"""A dashboard in Grafana's JSON: variables, links, and panels in their places."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from scripts.dashboards.parts import COLUMNS, SOURCE, Json, Panel

SCHEMA = 39
"""Of Grafana 11; newer ones read it."""
JAEGER = "jaeger"
"""Uid of the data source, as collector-config/grafana/provisioning has it."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading, from left to right, on as many lines as they need."""

    title: str
    panels: Sequence[Panel]


def traces_link() -> Json:
    """From a table's service to its traces, in Explore."""
    pane = {
        "datasource": JAEGER,
        "queries": [{"refId": "A", "queryType": "search", "service": "SERVICE"}],
        "range": {"from": "FROM", "to": "TO"},
    }
    text = quote(json.dumps({"traces": pane}, separators=(",", ":")))
    for name, variable in (("SERVICE", "${__value.raw:percentencode}"), ("FROM", "${__from}"), ("TO", "${__to}")):
        text = text.replace(name, variable)
    return {"title": "Traces", "url": f"/explore?schemaVersion=1&panes={text}", "targetBlank": False}


def dashboard_link(title: str, uid: str, variable: str) -> Json:
    """From a table's value to another dashboard that shows it alone."""
    url = f"/d/{uid}?var-{variable}=${{__value.raw:percentencode}}&${{__url_time_range}}"
    return {"title": title, "url": url, "targetBlank": False}


def variable(name: str, label: str, metric: str, of: str) -> Json:
    """A choice of values of the label `of`, several or all; all is also what has no such label."""
    values = f"label_values({metric}, {of})"
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "definition": values,
        "query": {"qryType": 1, "query": values, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def dashboard(uid: str, title: str, description: str, variables: Sequence[Json], rows: Sequence[Row]) -> Json:
    """The whole file."""
    source: Json = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"}
    source |= {"refresh": 1, "current": {"selected": True, "text": "Prometheus", "value": "prometheus"}}
    link: Json = {"type": "dashboards", "title": "otel-ebpf", "tags": ["otel-ebpf"], "asDropdown": True}
    link |= {"icon": "external link", "tooltip": "", "url": "", "targetBlank": False}
    link |= {"includeVars": False, "keepTime": True}
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["otel-ebpf"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "links": [link],
        "templating": {"list": [source, *variables]},
        "annotations": {"list": []},
        "panels": list(_placed(rows)),
    }


def _placed(rows: Sequence[Row]) -> list[Json]:
    """All panels with their ids and places."""
    placed: list[Json] = []
    y = 0
    for row in rows:
        place: Json = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        heading: Json = {"type": "row", "id": len(placed) + 1, "title": row.title, "gridPos": place}
        placed.append({**heading, "collapsed": False, "panels": []})
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            placed.append(_panel(panel, len(placed) + 1, place))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return placed


def _panel(panel: Panel, number: int, place: Json) -> Json:
    targets = [{"refId": chr(ord("A") + i), **target, "datasource": SOURCE} for i, target in enumerate(panel.targets)]
    found: Json = {
        "id": number,
        "type": panel.type,
        "title": panel.title,
        "gridPos": place,
        "datasource": SOURCE,
        "targets": targets,
        "options": panel.options,
        "fieldConfig": {"defaults": panel.defaults, "overrides": panel.overrides},
    }
    if panel.description:
        found["description"] = panel.description
    if panel.transformations:
        found["transformations"] = panel.transformations
    return found
