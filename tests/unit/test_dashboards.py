"""The dashboards in collector-config/ are ones that Grafana reads, and ask only for what the agent emits.

Where no Grafana is to be had, its own schema as Python classes (grafana-foundation-sdk) says which keys it knows.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from scripts.dashboards.files import files
from tests.dashboards import CONFIG, FOLDER, NAMES, dashboard, expand, mentioned, panels, queries, variables
from tests.unit.prometheus_names import metrics, own
from tests.unit.promql import read, unknown

BUILT_IN = {"__all", "__rate_interval", "__range", "__value", "__from", "__to", "__url_time_range"}
TOO_NEW = {"definition"}
"""Keys of Grafana that the classes lack: what the editor of a variable shows."""

every_dashboard = pytest.mark.parametrize("name", NAMES)


def test_they_are_what_their_definitions_write() -> None:
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == files(), "run: python -m scripts.dashboards"


def test_each_has_its_own_uid_and_the_readme_names_it() -> None:
    uids = {dashboard(name)["uid"] for name in NAMES}
    assert len(uids) == len(NAMES) == 6
    readme = (CONFIG / "README.md").read_text()
    assert [name for name in NAMES if f"| {dashboard(name)['title']} |" not in readme] == []


@every_dashboard
def test_grafana_knows_every_key(name: str) -> None:
    register_default_plugins()
    read_back = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard(name))))
    assert list(lost(dashboard(name), read_back)) == []
    assert dashboard(name)["schemaVersion"] >= 39


def lost(before: Any, after: Any, path: str = "") -> Any:  # noqa: ANN401  (JSON)
    """Paths of what is not the same after Grafana's classes have read and written it."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in TOO_NEW:
                yield from lost(value, after[key], f"{path}.{key}") if key in after else [f"{path}.{key}"]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from lost(one, other, f"{path}[{i}]")
    elif before != after:
        yield f"{path}: {before} is {after}"


@every_dashboard
def test_panels_have_their_own_ids_and_places(name: str) -> None:
    all_panels = dashboard(name)["panels"]
    assert len({panel["id"] for panel in all_panels}) == len(all_panels)
    for one, other in itertools.combinations([panel["gridPos"] for panel in all_panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in (panel["gridPos"] for panel in all_panels))


@every_dashboard
def test_every_query_asks_the_data_source_that_the_user_chose(name: str) -> None:
    first = dashboard(name)["templating"]["list"][0]
    assert (first["type"], first["name"], first["query"]) == ("datasource", "datasource", "prometheus")
    for panel in panels(name):
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) > 0, panel["title"]
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert source == {"type": "prometheus", "uid": "${datasource}"}


@every_dashboard
def test_variables_that_are_used_are_there_and_the_other_way_round(name: str) -> None:
    defined = {variable["name"] for variable in dashboard(name)["templating"]["list"]}
    used = mentioned(json.dumps(dashboard(name))) - BUILT_IN
    assert used == defined


@every_dashboard
def test_queries_name_only_metrics_and_labels_that_the_agent_emits(name: str) -> None:
    for query in queries(name):
        assert list(unknown(read(query.expr, metrics()), metrics())) == [], query
    for selector, label in variables(name).values():
        reading = read(f"sum by ({label}) ({selector})", metrics())
        assert list(unknown(reading, metrics())) == [], selector


@every_dashboard
def test_legends_and_columns_are_labels_of_what_was_asked(name: str) -> None:
    for query in queries(name):
        wanted = set(re.findall(r"{{(\w+)}}", query.legend)) - {"le"}
        assert wanted <= read(query.expr, metrics()).result, query
    for panel in panels(name):
        if panel["type"] != "table":
            continue
        results = [read(expand(target["expr"]), metrics()).result for target in panel["targets"]]
        organize = next(step for step in panel["transformations"] if step["id"] == "organize")["options"]
        columns = set(organize["renameByName"])
        refs = [f"Value #{target['refId']}" for target in panel["targets"]]
        values = set(refs if len(refs) > 1 else ["Value"])
        # rows of several queries are put together where all labels agree
        assert all(columns - values == set(result) for result in results), panel["title"]
        assert values <= columns
        assert set(organize["indexByName"]) == columns


def test_the_node_graph_has_the_fields_that_the_panel_reads() -> None:
    """It goes by the names of fields, which only a calculation gives them: a renamed field has another title only."""
    (panel,) = [panel for panel in panels("service-graph.json") if panel["type"] == "nodeGraph"]
    steps = panel["transformations"]
    named = {step["filter"]["options"]: step["options"] for step in steps if step["id"] == "calculateField"}
    merged = [step["filter"]["options"].strip("/") for step in steps if step["id"] == "merge"]
    labels = [frozenset({"id", "title"}), frozenset({"id", "source", "target", "detail__type"})]
    fields = [
        {"mainstat", "secondarystat", "arc__ok", "arc__failed"},
        {"mainstat", "secondarystat", "detail__failed"},
    ]
    for frame, expected, names in zip(merged, labels, fields, strict=True):
        of = [target for target in panel["targets"] if re.match(frame, target["refId"])]
        assert {read(expand(target["expr"]), metrics()).result for target in of} == {expected}
        for target in of:
            assert named[target["refId"]]["reduce"]["include"] == [f"Value #{target['refId']}"]
        assert {named[target["refId"]]["alias"] for target in of} == names
    assert {arc["field"] for arc in panel["options"]["nodes"]["arcs"]} == {"arc__ok", "arc__failed"}


def test_the_agents_own_dashboard_shows_every_metric_that_it_has_of_itself() -> None:
    shown = {metric for query in queries("agent.json") for metric, _ in read(query.expr, metrics()).selected}
    assert set(own()) - shown == set()


def test_all_metrics_of_exchanges_are_shown_somewhere() -> None:
    shown = {metric for name in NAMES for query in queries(name) for metric, _ in read(query.expr, metrics()).selected}
    ends = ("_bucket", "_total", "_count")
    others = {metric for metric in metrics() if metric.endswith(ends)} - set(own())
    assert others - shown - {metric for metric in others if metric.replace("_count", "_bucket") in shown} == set()
