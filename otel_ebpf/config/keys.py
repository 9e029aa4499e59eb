"""How a key of the configuration is declared: a dataclass field that carries its kind, documentation and variable.

The tree of dataclasses in `schema` is the only place where a key is written; loader, command line, reference and error
messages all walk it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar, cast

from otel_ebpf.config.kinds import Kind, Tree
from otel_ebpf.errors import ConfigError

T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of one key. `path` is its dotted name; `default` as the typed value."""

    path: str
    kind: Kind[Any]
    doc: str
    default: object
    env: str
    secret: bool


def key(kind: Kind[T], default: D, doc: str, *, env: str = "", secret: bool = False) -> T | D:
    """Declare a key. env: its variable in the OpenTelemetry specification, `{}` standing for the signal; without one
    the variable is OTEL_EBPF_ and the path. secret: its values are not shown."""
    return cast("T | D", field(default=default, metadata={"kind": kind, "doc": doc, "env": env, "secret": secret}))


def group(cls: Callable[[], T]) -> T:
    """Declare a group of keys, itself such a dataclass."""
    return field(default_factory=cls, metadata={"group": cls})


def walk(cls: type, path: str = "") -> Iterator[Key]:
    """All keys of a dataclass tree, in the order in which they are declared."""
    for f in fields(cls):
        here = f"{path}.{f.name}" if path else f.name
        if "internal" in f.metadata:
            continue
        if "group" in f.metadata:
            yield from walk(f.metadata["group"], here)
            continue
        signal = path.split(".")[1].upper() if path.count(".") else ""
        env = f.metadata["env"].format(signal) or "OTEL_EBPF_" + here.upper().replace(".", "_")
        yield Key(here, f.metadata["kind"], f.metadata["doc"], f.default, env, f.metadata["secret"])


def assemble(cls: type[T], values: dict[str, object], path: str = "") -> T:
    """The dataclass tree from values by dotted path."""
    arguments = {}
    for f in fields(cast(Any, cls)):
        if "internal" in f.metadata:
            continue
        here = f"{path}.{f.name}" if path else f.name
        nested = f.metadata.get("group")
        arguments[f.name] = assemble(nested, values, here) if nested else values[here]
    return cls(**arguments)


def nearest(name: str, names: list[str]) -> str:
    """`; did you mean 'x'?`, or where the valid names are listed when nothing is near.

    The last word counts as well: of `otlp.sampler` the nearest is `sampling.sampler`.
    """
    import difflib  # for a mistake only

    close = difflib.get_close_matches(name, names, 1, 0.75)
    if not close:
        by_tail = {known.rpartition(".")[2]: known for known in reversed(names)}
        close = [by_tail[tail] for tail in difflib.get_close_matches(name.rpartition(".")[2], list(by_tail), 1, 0.75)]
    if not close:
        close = difflib.get_close_matches(name, names, 1, 0.5)
    return f"; did you mean '{close[0]}'?" if close else "; `otel-ebpf config reference` lists all keys"


class Records(Kind[tuple[T, ...]], Generic[T]):
    """A list of mappings, each a dataclass whose fields are declared by `key`. As text: the same list in YAML's flow
    style, `[{executable: /opt/shop/*, name: shop}]`."""

    def __init__(self, cls: type[T]) -> None:
        self.cls = cls
        self.expected = f"a list of mappings of {', '.join(f.name for f in fields(cast(Any, cls)))}"

    def read(self, value: Tree) -> tuple[T, ...]:
        if isinstance(value, str):
            from otel_ebpf.config.yamlfile import parse_text

            value = [] if value.strip() == "none" else parse_text(value)
        if not isinstance(value, list):
            raise ValueError
        return tuple(self._record(item, n) for n, item in enumerate(value))

    def _record(self, item: Tree, n: int) -> T:
        if not isinstance(item, dict):
            raise ValueError
        known = {k.path: k for k in walk(self.cls)}
        values = {name: k.default for name, k in known.items()}
        for name, raw in item.items():
            if name not in known:
                raise ConfigError(f"[{n}].{name}: unknown key{nearest(name, list(known))}")
            values[name] = read(known[name], raw, f"[{n}].{name}")
        try:
            return self.cls(**values)
        except ValueError as error:
            raise ConfigError(f"[{n}]: {error}") from None

    def show(self, value: tuple[T, ...]) -> str:
        if not value:
            return "none"
        kinds = {k.path: k.kind for k in walk(self.cls)}
        rows = (
            ", ".join(f'{n}: "{kinds[n].show(getattr(r, n))}"' for n in kinds if getattr(r, n) not in (None, (), ""))
            for r in value
        )
        return "[" + ", ".join(f"{{{row}}}" for row in rows) + "]"


def read(known: Key, raw: Tree, name: str) -> object:
    """The typed value of a raw one. ConfigError names the key, the value and what was expected."""
    if raw is None:
        return known.default
    try:
        return known.kind.read(raw)
    except ConfigError as error:
        raise ConfigError(f"{name}{error}") from None
    except ValueError:
        shown = "***" if known.secret else abbreviate(raw)
        raise ConfigError(f"{name}: {shown} is not {known.kind.expected}") from None


def abbreviate(raw: Tree) -> str:
    """The value as it was given, on one line and not longer than a message can bear."""
    shown = repr(raw)
    return shown if len(shown) <= 80 else f"{shown[:76]} …"
