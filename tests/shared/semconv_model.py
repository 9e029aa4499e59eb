"""The model of the semantic conventions (../shared/semconv/model): attributes, and groups with what they inherit.

Both formats of its files are read: `groups` (a registry's attributes have an `id`), and definition/2 (`attributes` with
a `key`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

MODEL = Path(__file__).parents[3] / "shared" / "semconv" / "model"


@dataclass(frozen=True, slots=True)
class Attribute:
    """type: "string", "int", "string[]", "template[string]" …; members: the values of an enumeration, none retired."""

    name: str
    type: str
    stable: bool
    deprecated: bool
    members: frozenset[str] = frozenset()

    def holds(self, value: object) -> bool:
        """Whether a value has the attribute's type; enumerations may take other texts than their members."""
        if self.type.endswith("[]"):
            return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        expected = {"string": str, "int": int, "double": float, "boolean": bool}[self.type]
        return type(value) is expected


@cache
def _documents() -> tuple[dict[str, Any], ...]:
    return tuple(yaml.load(path.read_text(), yaml.CSafeLoader) for path in sorted(MODEL.rglob("*.yaml")))


@cache
def attributes() -> dict[str, Attribute]:
    """All attributes that the registries define, by name."""
    return {said.name: said for said in map(_attribute, _definitions())}


def _definitions() -> Iterator[dict[str, Any]]:
    for document in _documents():
        yield from (said for said in document.get("attributes", ()) if "key" in said)
        for group in document.get("groups", ()):
            yield from (said for said in group.get("attributes", ()) if "id" in said)


def _attribute(said: dict[str, Any]) -> Attribute:
    kind, members = said["type"], frozenset[str]()
    if isinstance(kind, dict):
        members = frozenset(str(member["value"]) for member in kind["members"] if "deprecated" not in member)
        kind = "int" if all(isinstance(member["value"], int) for member in kind["members"]) else "string"
    return Attribute(
        said.get("id") or said["key"], kind, said.get("stability") == "stable", "deprecated" in said, members
    )


@cache
def groups() -> dict[str, dict[str, Any]]:
    """All groups (spans, metrics, sets of attributes) by id."""
    return {group["id"]: group for document in _documents() for group in document.get("groups", ())}


def levels(group: str) -> dict[str, str]:
    """Attribute → "required", "conditionally_required", "recommended" or "opt_in", inherited ones included.

    >>> levels("span.http.server")["url.path"]
    'required'
    """
    said = groups()[group]
    found = levels(said["extends"]) if "extends" in said else {}
    for attribute in said.get("attributes", ()):
        name = attribute.get("ref") or attribute["id"]
        level = attribute.get("requirement_level", found.get(name, "recommended"))
        found[name] = level if isinstance(level, str) else next(iter(level))
    return found
