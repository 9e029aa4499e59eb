"""The configuration: sources and their order, what is refused and how, what follows for each signal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from otel_ebpf.config import Config, Match, ServiceRule, fits, load
from otel_ebpf.config.keys import Records, walk
from otel_ebpf.config.kinds import Duration, KeyValues, Kind, Listing, Number, Size, Url, Whole
from otel_ebpf.config.load import keys
from otel_ebpf.config.reference import as_json, as_yaml, markdown
from otel_ebpf.errors import ConfigError

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def refused(path: Path | None = None, env: dict[str, str] | None = None, **flags: str) -> str:
    with pytest.raises(ConfigError) as error:
        load(path, env, {name.replace("__", "."): (value, "--set") for name, value in flags.items()})
    message = str(error.value)
    assert "\n" not in message
    return message


def test_the_tail_is_configured_like_everything_else(tmp_path: Path) -> None:
    path = written(tmp_path, "sampling:\n  tail: {enabled: true, slowest: 0.5, wait: 3s}\n")
    env = {"OTEL_EBPF_SAMPLING_TAIL_RATIO": ".05"}
    tail = load(path, env, {"sampling.tail.budget": ("500", "--set")}).sampling.tail
    assert (tail.enabled, tail.slowest, tail.ratio, tail.budget, tail.wait) == (True, 0.5, 0.05, 500, 3.0)
    assert not load().sampling.tail.enabled


def test_nothing_given_means_the_defaults() -> None:
    config = load()
    assert config == Config()
    assert set(config.origins.values()) == {"default"}
    assert config.admin.address == "127.0.0.1:8894"
    assert config.redact.enabled
    assert config.kernel.request_timeout == 60
    assert config.console and not config.exports


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "otlp:\n  endpoint: http://file:1\n  timeout: 1s\n  compression: gzip\n")
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://env:2", "OTEL_EXPORTER_OTLP_TIMEOUT": "2000"}
    config = load(path, env, {"otlp.endpoint": ("http://flag:3", "--otlp-endpoint")})
    assert (config.otlp.endpoint, config.otlp.timeout, config.otlp.compression) == ("http://flag:3", 2.0, "gzip")
    assert config.origins["otlp.endpoint"] == "flag --otlp-endpoint"
    assert config.origins["otlp.timeout"] == "environment OTEL_EXPORTER_OTLP_TIMEOUT"
    assert config.origins["otlp.compression"] == f"file {path}:4"


def test_loading_is_pure(tmp_path: Path) -> None:
    path = written(tmp_path, "signals: [logs]\n")
    assert load(path) == load(path)
    path.write_text("signals: [traces]\n")
    assert load(path).signals == ("traces",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("otlp:\n  protcol: grpc\n", "otlp.protcol: unknown key, given 'grpc'; did you mean 'otlp.protocol'?"),
        ("otpl: {}\n", "otpl: unknown key, given {}; did you mean 'otlp'? (file F:1)"),
        ("sampler: always_on\n", "sampler: unknown key, given 'always_on'; did you mean 'sampling.sampler'?"),
        ("otlp:\n  protocol: http\n", "otlp.protocol: 'http' is not one of grpc, http/protobuf (file F:2)"),
        ("batch:\n\n  size: many\n", "batch.size: 'many' is not a whole number from 1 to 1048576 (file F:3)"),
        ("batch: 5\n", "batch: '5' is not a mapping of delay, size, queue, timeout (file F:1)"),
        ("metrics: {interval: 5}\n", "metrics.interval: '5' is not a time from 100ms to 1h like '250ms'"),
        ("otlp: {headers: [a]}\n", "otlp.headers: *** is not a mapping, or text like 'name=value,"),
        ('otlp: {headers: {a: "x\\r\\nHost: y"}}\n', "otlp.headers: *** is not a mapping, or text like 'name=value,"),
        ("otlp: {headers: {a b: x}}\n", "otlp.headers: *** is not a mapping, or text like 'name=value,"),
        ("kernel: {rings: {small: 3MiB}}\n", "kernel.rings.small: '3MiB' is not a power of two in bytes from 4KiB"),
        (
            "sampling: {tail: {ratio: 0.5}}\n",
            "sampling.tail.ratio: says nothing without sampling.tail.enabled (file F:1)",
        ),
        ("sampling: {tail: {ratio: 1.5}}\n", "sampling.tail.ratio: '1.5' is not a number from 0 to 1 (file F:1)"),
        ("sampling: {tail: {slowest: 1e1}}\n", "sampling.tail.slowest: '1e1' is not a number from 0 to 50 (file F:1)"),
        (
            "sampling: {tail: on}\n",
            "sampling.tail: 'on' is not a mapping of enabled, slowest, ratio, budget,",
        ),
        ("sampling: {tail: {errors: 1}}\n", "sampling.tail.errors: unknown key, given '1'; did you mean"),
        ("filter: {exclude: [{prot: 80}]}\n", "filter.exclude[0].prot: unknown key; did you mean 'port'? (file F:1)"),
        ("filter: {exclude: [{port: http}]}\n", "filter.exclude[0].port: 'http' is not ports from 0 to 65535"),
        ("filter: {exclude: [{}]}\n", "filter.exclude[0]: one of executable, container, service, port is needed"),
        ("resource: {services: [{executable: x}]}\n", "resource.services[0]: name: is missing (file F:1)"),
        ("signals: traces\nsignals: logs\n", "F:2: signals: given twice"),
        ("a: [\n", "F:2: this is not YAML: "),
        ("otlp: &a {traces: *a}\n", "F: nested too deeply; does an alias contain itself?"),
        ("output: none\n" + "#" * (1 << 20), "F: is larger than 1 MiB: is it the right file?"),
        ("- a\n", "F: the file must be a mapping of keys"),
        ("otlp: {endpoint: '${env:NOT_SET}'}\n", "F:1: ${env:NOT_SET}: this variable is not set"),
        ("otlp: {endpoint: http://c:1, tls: {cert_file: /etc/passwd}}\n", "otlp.tls.key_file: is missing: "),
        ("otlp: {tls: {ca_file: /no/ca}}\n", "otlp.tls.ca_file: '/no/ca' is not a file that can be read (file F:1)"),
        (
            "otlp: {endpoint: http://c:4317, compression: zstd}\n",
            "otlp.compression: 'zstd' is not possible with protocol",
        ),
        ("batch: {size: 10, queue: 5}\n", "batch.size: 10 is not at most batch.queue, which is 5 (file F:1)"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_with_key_value_and_expectation(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = written(tmp_path, text)
    message = refused(path).replace(str(path), "F")
    assert message.startswith(expected)


def test_a_wrong_variable_is_refused_with_its_name() -> None:
    assert refused(env={"OTEL_TRACES_SAMPLER": "jaeger_remote"}).endswith("(environment OTEL_TRACES_SAMPLER)")
    ratio = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.5"}
    assert refused(env=ratio) == (
        "sampling.argument: '1.5' is not a number from 0 to 1 (environment OTEL_TRACES_SAMPLER_ARG)"
    )
    assert "did you mean 'OTEL_EBPF_OUTPUT'?" in refused(env={"OTEL_EBPF_OUTPT": "none"})


def test_names_of_headers_are_lower_case_since_grpc_takes_no_others() -> None:
    config = load(env={"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20x"})
    assert config.otlp.headers == (("authorization", "Bearer x"),)


def test_a_secret_is_never_shown() -> None:
    config = load(env={"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20s3cret"})
    assert config.otlp.headers == (("authorization", "Bearer s3cret"),)
    assert "s3cret" not in as_yaml(config) + as_json(config)
    assert "s3cret" not in refused(env={"OTEL_EXPORTER_OTLP_HEADERS": "s3cret"})


def test_times_need_a_unit_but_in_the_variables_of_the_specification() -> None:
    assert load(env={"OTEL_METRIC_EXPORT_INTERVAL": "5000"}).metrics.interval == 5
    assert load(env={"OTEL_METRIC_EXPORT_INTERVAL": "5s"}).metrics.interval == 5
    assert "(environment OTEL_EBPF_HOLD_TIME)" in refused(env={"OTEL_EBPF_HOLD_TIME": "5000"})
    assert refused(otlp__timeout="5000").endswith("(flag --set)")


def test_an_empty_variable_is_the_same_as_none() -> None:
    assert load(env={"OTEL_TRACES_SAMPLER": ""}) == load()


def test_every_key_has_its_own_variable_and_works_through_it() -> None:
    known = keys()
    assert len({k.env for k in known.values()}) == len(known)
    for name, k in known.items():
        if k.default in (None, ()):
            continue
        config = load(env={k.env: k.kind.show(k.default)})
        assert config == Config(), name
        assert config.origins[name] == f"environment {k.env}"


def test_the_standard_variables_are_honoured() -> None:
    config = load(
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://traces.example/own/path",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "x=1",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": __file__,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
            "OTEL_BSP_SCHEDULE_DELAY": "1000",
            "OTEL_BSP_MAX_QUEUE_SIZE": "9000",
            "OTEL_SERVICE_NAME": "my-agent",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod,team=a%2Cb",
        }
    )
    traces, metrics, logs = (config.otlp.of(s) for s in ("traces", "metrics", "logs"))
    assert traces is not None and metrics is not None and logs is not None
    assert (traces.url, traces.protocol) == ("https://traces.example/own/path", "http/protobuf")
    assert (metrics.url, metrics.protocol) == ("http://collector:4318", "grpc")
    assert (logs.url, logs.protocol) == ("http://collector:4318/v1/logs", "http/protobuf")
    assert (traces.headers, logs.headers) == ((), (("x", "1"),))
    assert {traces.ca_file, metrics.ca_file, logs.ca_file} == {__file__}
    assert config.sampling.ratio == 0.25
    assert (config.batch.delay, config.batch.queue) == (1.0, 9000)
    assert config.service.name == "my-agent"
    assert config.resource.attributes == (("deployment.environment.name", "prod"), ("team", "a,b"))
    assert config.exports and not config.console


def test_a_general_flag_wins_over_the_variable_of_one_signal() -> None:
    env = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://env:4317/x", "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "5"}
    config = load(env=env, flags={"otlp.endpoint": ("http://flag:4317", "--otlp-endpoint")})
    target = config.otlp.of("traces")
    assert target is not None and target.url == "http://flag:4317"
    assert config.origins["otlp.traces.endpoint"] == "default"
    assert config.otlp.logs.timeout == 0.005


@pytest.mark.parametrize(
    ("endpoint", "insecure", "url", "protocol"),
    [
        ("http://c:4317", "false", "http://c:4317", "grpc"),
        ("http://c:4318", "false", "http://c:4318/v1/traces", "http/protobuf"),
        ("https://otlp.example.com", "false", "https://otlp.example.com/v1/traces", "http/protobuf"),
        ("http://c:4318/base/", "false", "http://c:4318/base/v1/traces", "http/protobuf"),
        ("c:4317", "false", "https://c:4317", "grpc"),
        ("c:4317", "true", "http://c:4317", "grpc"),
        ("[::1]:4318", "true", "http://[::1]:4318/v1/traces", "http/protobuf"),
    ],
)
def test_where_traces_go(endpoint: str, insecure: str, url: str, protocol: str) -> None:
    config = load(env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_INSECURE": insecure})
    target = config.otlp.of("traces")
    assert target is not None and (target.url, target.protocol) == (url, protocol)


def test_only_a_signal_with_somewhere_to_go_counts_as_exported() -> None:
    env = {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c:4317"}
    assert not load(env=env).exports
    assert load(env={**env, "OTEL_EBPF_SIGNALS": "logs"}).exports
    assert load(env={**env, "OTEL_EBPF_SIGNALS": "none"}).signals == ()


def test_rules_from_the_file_and_as_text_are_the_same(tmp_path: Path) -> None:
    file = "filter:\n  exclude:\n    - {service: 'a*'}\n    - port: 22,9000-9100\n      executable: /opt/*\n"
    text = "[{service: a*}, {port: '22,9000-9100', executable: /opt/*}]"
    from_file = load(written(tmp_path, file)).filter.exclude
    assert from_file == load(env={"OTEL_EBPF_FILTER_EXCLUDE": text}).filter.exclude
    assert from_file == (Match(service="a*"), Match(executable="/opt/*", port=((22, 22), (9000, 9100))))
    rules = "[{name: shop, executable: gunicorn}]"
    assert load(env={"OTEL_EBPF_RESOURCE_SERVICES": rules}).resource.services == (
        ServiceRule(name="shop", executable="gunicorn"),
    )


def test_variables_in_the_file_are_replaced(tmp_path: Path) -> None:
    path = written(tmp_path, "otlp:\n  endpoint: http://${env:HOST}:${PORT:-4317}\nservice: {name: 'a$$b'}\n")
    config = load(path, {"HOST": "h"})
    assert (config.otlp.endpoint, config.service.name) == ("http://h:4317", "a$b")


def test_yaml_means_what_is_written(tmp_path: Path) -> None:
    path = written(
        tmp_path, "service: {name: 0123}\nredact: {enabled: off}\notlp:\n  endpoint:\n  headers: {on: 1e3}\n"
    )
    config = load(path)
    assert (config.service.name, config.redact.enabled, config.otlp.endpoint) == ("0123", False, None)
    assert config.otlp.headers == (("on", "1e3"),)


def test_an_empty_file_is_right_and_one_that_is_missing_is_not(tmp_path: Path) -> None:
    assert load(written(tmp_path, "# nothing\n")) == load()
    assert refused(tmp_path / "no.yaml").endswith("no.yaml: cannot be read: No such file or directory")


def test_a_yaml_bomb_is_refused(tmp_path: Path) -> None:
    levels = "\n".join(f"  - &a{n} [{', '.join([f'*a{n - 1}'] * 20)}]" for n in range(1, 9))
    assert "more than 100000 values" in refused(written(tmp_path, f"signals:\n  - &a0 [x]\n{levels}\n"))


def test_what_is_printed_can_be_loaded_again(tmp_path: Path) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
        "OTEL_RESOURCE_ATTRIBUTES": "a=b",
        "OTEL_EBPF_FILTER_EXCLUDE": "[{service: 'x: [y]'}, {port: 80}]",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "1500",
        "OTEL_SERVICE_NAME": "a # b: 'c'",
    }
    config = load(env=env)
    assert load(written(tmp_path, as_yaml(config))) == config
    assert json.loads(as_json(config))["otlp.traces.timeout"] == {
        "value": "1500ms",
        "origin": "environment OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    }
    assert yaml.safe_load(as_yaml(config))["otlp"]["endpoint"] == "http://c:4317"


def test_the_reference_in_docs_is_up_to_date() -> None:
    assert DOCS.read_text() == markdown(), "run `otel-ebpf config reference > docs/configuration.md`"


def test_every_key_is_documented() -> None:
    assert all(k.doc for k in walk(Config))
    assert all(part.doc for k in walk(Config) if isinstance(k.kind, Records) for part in walk(k.kind.cls))


@given(st.integers(0, 86_400_000))
def test_durations_survive_being_shown(milliseconds: int) -> None:
    assert Duration().parse(Duration().show(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(st.integers(0, 50 * 10**6))
def test_numbers_survive_being_shown(millionths: int) -> None:
    assert Number(0, 50).parse(Number(0, 50).show(millionths / 1e6)) == pytest.approx(millionths / 1e6)


@given(st.integers(0, 1 << 34))
def test_sizes_survive_being_shown(size: int) -> None:
    assert Size().parse(Size().show(size)) == size


@given(st.text(max_size=40))
def test_no_text_gets_past_a_kind_but_by_being_read_or_refused(text: str) -> None:
    kinds: list[Kind[Any]] = [Duration(), Size(), Whole(0, 9), Number(0, 9), Url(), KeyValues(), Listing(Url())]
    for kind in (*kinds, *(k.kind for k in walk(Config))):
        try:
            kind.read(text)
        except (ValueError, ConfigError):
            continue


def test_globs_without_a_slash_fit_the_name_alone() -> None:
    assert fits("nginx*", "/usr/sbin/nginx")
    assert not fits("sbin*", "/usr/sbin/nginx")
    assert fits("/usr/*", "/usr/sbin/nginx")
    assert fits("", "anything")
