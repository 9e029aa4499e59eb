"""The configuration in collector-config/ does what its page says, in a real Collector."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path

from tests.agent import running_agent
from tests.collector import build, collector
from tests.e2e.pairs import assert_joined, both_ends, ends, run
from tests.processes import answers, free_port, running, wait_until
from tests.servers import nginx

CONFIG = Path(__file__).resolve().parents[2] / "collector-config" / "collector.yaml"
HOST = "127.0.0.77"
"""A loopback address of its own: the ports of the configuration are the well-known ones."""


def test_the_configuration_is_valid() -> None:
    done = subprocess.run([str(build()), "validate", f"--config={CONFIG}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_traces_reach_jaegers_endpoint_and_metrics_are_there_to_scrape(tmp_path: Path) -> None:
    scrape = f"127.0.0.1:{free_port()}"
    with collector() as jaeger:
        environment = {
            "OTLP_HOST": HOST,
            "JAEGER_ENDPOINT": jaeger.grpc.removeprefix("http://"),
            "PROMETHEUS_LISTEN": scrape,
        }
        command = [str(build()), "--config", str(CONFIG)]
        ready = answers(int(scrape.partition(":")[2]))
        with (
            running(command, ready, log=tmp_path / "log", environment=environment),
            running_agent(
                f"http://{HOST}:4317",
                protocol="grpc",
                signals="traces,metrics",
                environment={"OTEL_METRIC_EXPORT_INTERVAL": "500"},
            ),
            nginx() as web,
        ):
            run("curl", "-s", f"{web.url}/hello.txt")
            client, server = ends(jaeger.wait(both_ends(web)), web)

            def scraped() -> bool:
                with urllib.request.urlopen(f"http://{scrape}/metrics", timeout=10) as response:
                    page = response.read().decode()
                lines = [line for line in page.splitlines() if line.startswith("http_server_request_duration_seconds")]
                return any('service_name="nginx"' in line for line in lines)

            wait_until(scraped, "http.server.request.duration of nginx at the Prometheus exporter", 20)
    assert_joined(client, server)
