"""YAML → text, lists and mappings, with the line of every key; scalars stay as they are written.

`${env:NAME}` and `${env:NAME:-default}` are replaced as the OpenTelemetry Collector does, `$$` is a dollar sign.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from otel_ebpf.config.kinds import Tree
from otel_ebpf.errors import ConfigError

_VARIABLE = re.compile(r"\$(?:(\$)|\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})")
_MOST_BYTES = 1 << 20
_MOST_NODES = 100_000
"""An alias may be repeated; a file that unfolds to more than this is refused."""


class Document:
    """A file as a tree of text. `lines`: dotted path of a key → the line (from 1) on which it stands."""

    def __init__(self, text: str, env: Mapping[str, str], name: str) -> None:
        self.lines: dict[str, int] = {}
        self._env = env
        self._name = name
        self._nodes = 0
        try:
            root = yaml.compose(text, yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise ConfigError(f"{name}{line}: this is not YAML: {error.problem or error.context}") from None
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"{name}: this is not YAML: {' '.join(str(error).split())}") from None
        try:
            self.tree: Tree = None if root is None else self._convert(root, "")
        except RecursionError:
            raise ConfigError(f"{name}: nested too deeply; does an alias contain itself?") from None

    def _convert(self, node: yaml.Node, path: str) -> Tree:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise ConfigError(f"{self._name}: more than {_MOST_NODES} values")
        if isinstance(node, yaml.ScalarNode):
            if node.tag == "tag:yaml.org,2002:null" and node.style is None:
                return None
            return self._substitute(str(node.value), node)
        if isinstance(node, yaml.SequenceNode):
            return [self._convert(item, f"{path}[{n}]") for n, item in enumerate(node.value)]
        tree: dict[str, Tree] = {}
        for name_node, value in node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                raise ConfigError(f"{self._at(name_node)}: a key must be a text")
            name = str(name_node.value)
            here = f"{path}.{name}" if path else name
            if name in tree:
                raise ConfigError(f"{self._at(name_node)}: {here}: given twice")
            self.lines[here] = name_node.start_mark.line + 1
            tree[name] = self._convert(value, here)
        return tree

    def _substitute(self, text: str, node: yaml.Node) -> str:
        def value(match: re.Match[str]) -> str:
            dollar, name, default = match.groups()
            if dollar:
                return "$"
            if name not in self._env and default is None:
                raise ConfigError(f"{self._at(node)}: ${{env:{name}}}: this variable is not set; give it or a default")
            return self._env.get(name) or default or ""

        return _VARIABLE.sub(value, text) if "$" in text else text

    def _at(self, node: yaml.Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}"


def read_file(path: Path, env: Mapping[str, str]) -> Document:
    """The file at `path`. ConfigError when it cannot be read or is not YAML."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path}: is larger than 1 MiB: is it the right file?")
    return Document(text, env, str(path))


def parse_text(text: str) -> Tree:
    """A value in YAML's flow style, from a variable or flag; ValueError when it is not YAML."""
    try:
        return Document(text, {}, "").tree
    except ConfigError:
        raise ValueError from None
