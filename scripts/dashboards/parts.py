"""Panels in Grafana's JSON.

What is asked for is what Grafana does not do by itself: all else keeps its defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Json = dict[str, object]

SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
"""Width of Grafana's grid."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; the dashboard gives it its place."""

    type: str
    title: str
    targets: list[Json]
    description: str = ""
    width: int = 12
    height: int = 8
    options: Json = field(default_factory=dict)
    defaults: Json = field(default_factory=dict)
    """`fieldConfig.defaults`: unit, thresholds and the like of all fields."""
    overrides: list[Json] = field(default_factory=list)
    transformations: list[Json] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Column:
    """One value of a table's rows: its heading, what asks for it, its unit. bar: drawn as one, too."""

    title: str
    expr: str
    unit: str
    bar: bool = False


def line(expr: str, legend: str, *, exemplars: bool = False) -> Json:
    """A query over the time range."""
    return {"expr": expr, "legendFormat": legend, "range": True, "exemplar": exemplars}


def now(expr: str, ref: str = "A") -> Json:
    """A query for one value of each series, as a table."""
    return {"expr": expr, "refId": ref, "instant": True, "range": False, "format": "table"}


def series(title: str, unit: str, *lines: Json, description: str = "", width: int = 12, stacked: bool = False) -> Panel:
    """Lines over time, from 0."""
    custom: Json = {"fillOpacity": 20 if stacked else 8, "showPoints": "never", "lineWidth": 1}
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    return Panel(
        "timeseries",
        title,
        list(lines),
        description,
        width,
        options={
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        defaults={"unit": unit, "min": 0, "custom": custom},
    )


def stat(
    title: str, unit: str, expr: str, *, description: str = "", limits: tuple[float, float] | None = None
) -> Panel:
    """One number with its course. limits: from which it is orange and red; without them it has no colour."""
    steps: list[Json] = [{"color": "green" if limits else "text", "value": None}]
    if limits:
        steps += [{"color": "orange", "value": limits[0]}, {"color": "red", "value": limits[1]}]
    return Panel(
        "stat",
        title,
        [line(expr, "")],
        description,
        6,
        4,
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "graphMode": "area",
            "colorMode": "value",
        },
        defaults={
            "unit": unit,
            "min": 0,
            "noValue": "–",
            "color": {"mode": "thresholds"},
            "thresholds": {"mode": "absolute", "steps": steps},
        },
    )


def heatmap(title: str, expr: str, *, description: str = "") -> Panel:
    """How many events fell into each bucket of a histogram; exemplars lead to their traces."""
    target = {**line(expr, "{{le}}", exemplars=True), "format": "heatmap"}
    return Panel(
        "heatmap",
        title,
        [target],
        description,
        options={
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "fill": "orange", "exponent": 0.5, "steps": 64},
            "exemplars": {"color": "blue"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never",
            "tooltip": {"mode": "single", "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "unit": "s"},
        },
    )


def table(title: str, labels: Json, *columns: Column, description: str = "", links: Sequence[Json] = ()) -> Panel:
    """A row for each combination of labels ({"service_name": "Service"}), the first column's greatest value on top.

    links: what a click on the first label offers.
    """
    refs = [chr(ord("A") + i) for i in range(len(columns))]
    value = [f"Value #{ref}" for ref in refs] if len(refs) > 1 else ["Value"]
    titles = {v: c.title for v, c in zip(value, columns, strict=True)}
    first = next(iter(labels.values()))
    overrides: list[Json] = []
    for column in columns:
        properties: list[Json] = [{"id": "unit", "value": column.unit}]
        if column.bar:
            properties.append({"id": "custom.cellOptions", "value": {"type": "gauge", "mode": "basic"}})
            properties.append({"id": "min", "value": 0})
        overrides.append(_override(column.title, properties))
    if links:
        overrides.append(_override(str(first), [{"id": "links", "value": list(links)}]))
    order = [*labels, *value]
    return Panel(
        "table",
        title,
        [now(column.expr, ref) for column, ref in zip(columns, refs, strict=True)],
        description,
        COLUMNS,
        9,
        options={"cellHeight": "sm", "showHeader": True, "sortBy": [{"displayName": columns[0].title, "desc": True}]},
        overrides=overrides,
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "indexByName": {name: i for i, name in enumerate(order)},
                    "renameByName": {**labels, **titles},
                },
            },
        ],
    )


def node_graph(title: str, nodes: Json, edges: Json, *, description: str = "") -> Panel:
    """Grafana's node graph of two frames.

    nodes, edges: field of the frame → query. Each query of nodes has the labels `id` and `title`, each of edges `id`,
    `source` and `target`; every source and target must be a node, or Grafana draws nothing.
    """
    targets: list[Json] = []
    named: list[Json] = []
    for frame, fields in (("nodes", nodes), ("edges", edges)):
        for name, expr in fields.items():
            ref = f"{frame}_{name}"
            targets.append(now(str(expr), ref))
            named.append(_named(ref, name))
    merged: list[Json] = [
        {"id": "merge", "options": {}, "filter": {"id": "byRefId", "options": f"/^{frame}_/"}}
        for frame in ("nodes", "edges")
    ]
    return Panel(
        "nodeGraph",
        title,
        targets,
        description,
        COLUMNS,
        18,
        options={
            "nodes": {
                "mainStatUnit": "reqps",
                "secondaryStatUnit": "s",
                "arcs": [{"field": "arc__ok", "color": "green"}, {"field": "arc__failed", "color": "red"}],
            },
            "edges": {"mainStatUnit": "reqps", "secondaryStatUnit": "s"},
        },
        transformations=[*named, *merged],
    )


def _named(ref: str, name: str) -> Json:
    """Gives the value of a query the name of a field, which the node graph goes by: a field that is only renamed has
    another title, and its old name. (The sum of one column is that column, under a name of its own.)"""
    reduce = {"include": [f"Value #{ref}"], "reducer": "sum"}
    options = {"mode": "reduceRow", "reduce": reduce, "alias": name, "replaceFields": False}
    return {"id": "calculateField", "options": options, "filter": {"id": "byRefId", "options": ref}}


def _override(title: str, properties: Sequence[Json]) -> Json:
    return {"matcher": {"id": "byName", "options": title}, "properties": list(properties)}
