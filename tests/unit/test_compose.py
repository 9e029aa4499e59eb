"""The stack in collector-config/: what its files say of each other holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dashboards import CONFIG, FOLDER, dashboard, expand
from tests.unit.prometheus_names import metrics
from tests.unit.promql import read, unknown

COLLECTOR = Path(__file__).resolve().parents[1] / "tools" / "otelcol-small.yaml"
KEYS = {"image", "command", "environment", "volumes", "ports", "depends_on"}


def load(*path: str) -> Any:  # noqa: ANN401  (YAML)
    return yaml.safe_load(CONFIG.joinpath(*path).read_text())


SERVICES: dict[str, Any] = load("compose.yaml")["services"]
every_service = pytest.mark.parametrize("name", SERVICES)


def mounts(name: str) -> dict[str, Path]:
    """Path in the container → path here."""
    found = {}
    for volume in SERVICES[name].get("volumes", []):
        source, target, mode = volume.split(":")
        assert mode == "ro"
        found[target] = CONFIG / source
    return found


def test_the_parts_are_collector_jaeger_prometheus_and_grafana() -> None:
    assert set(SERVICES) == {"collector", "jaeger", "prometheus", "grafana"}
    assert [key for service in SERVICES.values() for key in service if key not in KEYS] == []


@every_service
def test_images_are_pinned(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@every_service
def test_ports_are_open_to_this_host_alone(name: str) -> None:
    for port in SERVICES[name]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)


@every_service
def test_what_is_mounted_is_here_and_what_is_told_is_mounted(name: str) -> None:
    there = mounts(name)
    assert all(path.exists() for path in there.values())
    told = " ".join([*SERVICES[name].get("command", []), *map(str, SERVICES[name].get("environment", {}).values())])
    for path in re.findall(r"/etc/\S+", told):
        assert any((source / Path(path).relative_to(target)).exists() for target, source in there.items()
                   if Path(path).is_relative_to(target)), path  # fmt: skip


@every_service
def test_services_that_are_waited_for_are_there(name: str) -> None:
    assert set(SERVICES[name].get("depends_on", [])) <= set(SERVICES)


def test_the_collector_is_the_version_that_the_tests_run() -> None:
    version = yaml.safe_load(COLLECTOR.read_text())["dist"]["version"]
    assert SERVICES["collector"]["image"] == f"otel/opentelemetry-collector-contrib:{version}"


def test_every_variable_of_the_collectors_configuration_is_set() -> None:
    text = (CONFIG / "collector.yaml").read_text()
    environment = SERVICES["collector"]["environment"]
    assert set(re.findall(r"\$\{env:(\w+)", text)) == set(environment)
    assert environment["JAEGER_ENDPOINT"] == "jaeger:4317"
    assert {port.split(":")[-1] for port in SERVICES["collector"]["ports"]} == set(re.findall(r"}:(\d+)", text))


def test_prometheus_scrapes_what_the_collector_serves() -> None:
    (job,) = load("prometheus.yaml")["scrape_configs"]
    assert job["honor_labels"] is True
    (target,) = job["static_configs"]
    port = SERVICES["collector"]["environment"]["PROMETHEUS_LISTEN"].rpartition(":")[2]
    assert target["targets"] == [f"collector:{port}"]
    assert "--enable-feature=exemplar-storage" in SERVICES["prometheus"]["command"]


def sources() -> dict[str, Any]:
    """Data sources by uid."""
    return {
        source["uid"]: source
        for source in load("grafana", "provisioning", "datasources", "otel-ebpf.yaml")["datasources"]
    }


def test_the_data_sources_are_the_services() -> None:
    assert {uid: source["url"] for uid, source in sources().items()} == {
        "prometheus": "http://prometheus:9090",
        "jaeger": "http://jaeger:16686",
    }
    published = {port.split(":")[-1] for service in SERVICES.values() for port in service["ports"]}
    assert {"9090", "16686", "3000"} <= published


def test_exemplars_lead_to_jaeger_and_spans_to_prometheus() -> None:
    (link,) = sources()["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert link == {"name": "trace_id", "datasourceUid": "jaeger"}
    to_metrics = sources()["jaeger"]["jsonData"]["tracesToMetrics"]
    assert to_metrics["datasourceUid"] == "prometheus"
    tags = ",".join(f'{tag["value"]}="x"' for tag in to_metrics["tags"])
    for query in to_metrics["queries"]:
        text = query["query"].replace("$$__tags", tags).replace("$$", "$")
        assert list(unknown(read(expand(text), metrics()), metrics())) == []


def test_grafana_finds_the_dashboards_and_opens_one_of_them() -> None:
    (provider,) = load("grafana", "provisioning", "dashboards", "otel-ebpf.yaml")["providers"]
    there = mounts("grafana")
    assert there[provider["options"]["path"]].resolve() == FOLDER
    assert there["/etc/grafana/provisioning"] == CONFIG / "./grafana/provisioning"
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert dashboard(home.name)["uid"] == "otel-ebpf-red"


def test_the_links_of_the_dashboards_lead_to_data_sources_and_dashboards_that_are_there() -> None:
    uids = {dashboard(path.name)["uid"] for path in FOLDER.iterdir()}
    texts = "".join(path.read_text() for path in FOLDER.iterdir())
    assert set(re.findall(r'"url": "/d/([\w-]+)', texts)) <= uids
    assert set(re.findall(r"datasource%22%3A%22(\w+)%22", texts)) == {"jaeger"} & set(sources())
