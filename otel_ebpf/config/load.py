"""Defaults < YAML file < environment < flags → one checked `Config`. Pure: the same arguments give the same result, so
that it can be called again when the file has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from otel_ebpf.config.keys import Key, abbreviate, assemble, nearest, read, walk
from otel_ebpf.config.kinds import Duration, Tree
from otel_ebpf.config.otlp import SIGNALS
from otel_ebpf.config.schema import Config, TailKeys
from otel_ebpf.errors import ConfigError

PREFIX = "OTEL_EBPF_"
NOT_KEYS = frozenset({"OTEL_EBPF_CONFIG", "OTEL_EBPF_VIEW_TOKEN"})
"""Variables with our prefix that are no keys."""


@dataclass(frozen=True, slots=True)
class _Given:
    """A value from one source, not yet read. rank: the strength of the source, 1 = file … 3 = flag."""

    raw: Tree
    origin: str
    rank: int


def keys() -> dict[str, Key]:
    """All keys by dotted path."""
    return {k.path: k for k in walk(Config)}


def load(
    path: Path | None = None, env: Mapping[str, str] | None = None, flags: Mapping[str, tuple[str, str]] | None = None
) -> Config:
    """The configuration from a file, an environment and flags.

    flags: dotted key → (text, name of the flag). ConfigError, one line: key, value, what was expected, and where.

    >>> load(env={"OTEL_TRACES_SAMPLER": "always_off"}).origins["sampling.sampler"]
    'environment OTEL_TRACES_SAMPLER'
    """
    known = keys()
    env = env or {}
    sources = (
        _from_file(path, env, known) if path is not None else {},
        _from_environment(env, known),
        _from_flags(flags or {}, known),
    )
    given = {name: value for source in sources for name, value in source.items()}
    _general_over_weaker(given)
    return _typed(given, known)


def check(path: Path, env: Mapping[str, str]) -> int:
    """How many keys a file gives; ConfigError when it is not right by itself. env: for `${env:NAME}` in it alone."""
    known = keys()
    given = _from_file(path, env, known)
    _typed(given, known)
    return len(given)


def _typed(given: Mapping[str, _Given], known: Mapping[str, Key]) -> Config:
    values: dict[str, object] = {}
    for name, k in known.items():
        source = given.get(name)
        try:
            values[name] = k.default if source is None else read(k, source.raw, name)
        except ConfigError as error:
            raise ConfigError(f"{error} ({source.origin if source else ''})") from None
    origins = {name: given[name].origin if name in given else "default" for name in known}
    config = replace(assemble(Config, values), origins=origins)
    _check_together(config)
    return config


def _from_file(path: Path, env: Mapping[str, str], known: Mapping[str, Key]) -> dict[str, _Given]:
    from otel_ebpf.config.yamlfile import read_file

    document = read_file(path, env)
    if document.tree is None:
        return {}
    if not isinstance(document.tree, dict):
        raise ConfigError(f"{path}: the file must be a mapping of keys, see `otel-ebpf config reference`")
    given: dict[str, _Given] = {}
    groups = {name[:at] for name in known for at, sign in enumerate(name) if sign == "."}

    def visit(tree: Tree, name: str) -> None:
        origin = f"file {path}:{document.lines[name]}"
        if name in known:
            if tree is not None:
                given[name] = _Given(tree, origin, 1)
            return
        if name not in groups:
            raise _unknown(name, tree, [*known, *sorted(groups)], origin)
        if tree is None:
            return
        if not isinstance(tree, dict):
            inside = ", ".join(
                dict.fromkeys(k[len(name) + 1 :].split(".")[0] for k in known if k.startswith(f"{name}."))
            )
            raise ConfigError(f"{name}: {tree!r} is not a mapping of {inside} ({origin})")
        for child, value in tree.items():
            visit(value, f"{name}.{child}")

    for name, value in document.tree.items():
        visit(value, name)
    return given


def _from_environment(env: Mapping[str, str], known: Mapping[str, Key]) -> dict[str, _Given]:
    variables = {k.env: name for name, k in known.items()}
    for variable in env:
        if variable.startswith(PREFIX) and variable not in variables and variable not in NOT_KEYS:
            raise ConfigError(f"{variable}: unknown variable{nearest(variable, [*variables, *NOT_KEYS])} (environment)")
    # OpenTelemetry specification, configuration/sdk-environment-variables.md: an empty value is the same as none.
    return {
        name: _Given(_with_unit(env[variable], known[name]), f"environment {variable}", 2)
        for variable, name in variables.items()
        if env.get(variable)
    }


def _with_unit(text: str, k: Key) -> str:
    """The variables of the specification give times as plain milliseconds; ours need a unit."""
    plain = isinstance(k.kind, Duration) and not k.env.startswith(PREFIX) and text.strip().isdecimal()
    return f"{text.strip()}ms" if plain else text


def _from_flags(flags: Mapping[str, tuple[str, str]], known: Mapping[str, Key]) -> dict[str, _Given]:
    for name, (text, flag) in flags.items():
        if name not in known:
            raise _unknown(name, text, list(known), f"flag {flag}")
    return {name: _Given(text, f"flag {flag}", 3) for name, (text, flag) in flags.items()}


def _unknown(name: str, value: Tree, names: list[str], origin: str) -> ConfigError:
    return ConfigError(f"{name}: unknown key, given {abbreviate(value)}{nearest(name, names)} ({origin})")


def _general_over_weaker(given: dict[str, _Given]) -> None:
    """Drop what is given for one signal where a stronger source gave it for all."""
    for name in [n for n in given if n.startswith("otlp.")]:
        _otlp, signal, *rest = name.split(".")
        general = given.get(".".join(["otlp", *rest])) if signal in SIGNALS else None
        if general is not None and general.rank > given[name].rank:
            del given[name]


def _check_together(config: Config) -> None:
    """What no single key can know."""

    def refuse(name: str, value: object, expected: str) -> ConfigError:
        return ConfigError(f"{name}: {value!r} is not {expected} ({config.origins[name]})")

    sampling = config.sampling
    if sampling.sampler.endswith("traceidratio") and sampling.argument is not None:
        try:
            valid = 0 <= float(sampling.argument) <= 1
        except ValueError:
            valid = False
        if not valid:
            raise refuse("sampling.argument", sampling.argument, "a number from 0 to 1")
    tail = [name for name, of in config.origins.items() if name.startswith("sampling.tail.") and of != "default"]
    if sampling.tail != TailKeys() and config.origins["sampling.tail.enabled"] == "default":
        raise ConfigError(f"{tail[0]}: says nothing without sampling.tail.enabled ({config.origins[tail[0]]})")
    if config.viewer.enabled == "always" and config.exports:
        raise refuse("viewer.enabled", "always", "possible while something is exported; expected auto or never")
    if config.viewer.listen == "none":
        raise refuse("viewer.listen", "none", "an address; for no viewer: --no-viewer")
    if config.batch.size > config.batch.queue:
        raise refuse("batch.size", config.batch.size, f"at most batch.queue, which is {config.batch.queue}")
    for signal in SIGNALS:
        target = config.otlp.of(signal)
        if target is not None and (target.cert_file is None) != (target.key_file is None):
            missing = "key_file" if target.key_file is None else "cert_file"
            raise ConfigError(f"otlp.tls.{missing}: is missing: mutual TLS needs both cert_file and key_file")
        if target is not None and target.compression == "zstd":
            name = (
                "otlp.compression" if getattr(config.otlp, signal).compression is None else f"otlp.{signal}.compression"
            )
            if target.protocol == "grpc":
                raise refuse(name, "zstd", "possible with protocol grpc; expected gzip or none")
            if find_spec("zstandard") is None:
                raise refuse(name, "zstd", "available: pip install zstandard, or use gzip")
