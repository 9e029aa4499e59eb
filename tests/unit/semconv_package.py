"""The registry of the semantic conventions as PyPI's `opentelemetry-semantic-conventions` tells it.

The package says what is deprecated, and of what kind an instrument is, in the texts behind its constants only: so its
sources are read.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path

from opentelemetry import semconv

ROOT = Path(next(iter(semconv.__path__)))


@dataclass(frozen=True, slots=True)
class Entry:
    """One attribute or instrument. text: what the package says of it. members: of an enumeration, those in use."""

    name: str
    text: str
    stable: bool
    members: frozenset[str] = frozenset()

    @property
    def deprecated(self) -> bool:
        return self.text.startswith("Deprecated")


@cache
def attributes() -> dict[str, Entry]:
    """All attributes by name; of one that became stable the stable entry, with the members of both."""
    found = {entry.name: entry for entry in _read("attributes", stable=False)}
    for entry in _read("attributes", stable=True):
        known = found.get(entry.name, entry)
        found[entry.name] = replace(entry, members=entry.members | known.members)
    return found


@cache
def instruments() -> dict[str, Entry]:
    """All metrics by name; `text` has the lines "Instrument: …" and "Unit: …"."""
    return {entry.name: entry for stable in (False, True) for entry in _read("metrics", stable)}


def _read(folder: str, stable: bool) -> Iterator[Entry]:
    for path in sorted((ROOT if stable else ROOT / "_incubating").joinpath(folder).glob("*_*.py")):
        body = ast.parse(path.read_text()).body
        enumerations = (node for node in body if isinstance(node, ast.ClassDef))
        members = {node.name.removesuffix("Values").lower(): _members(node) for node in enumerations}
        for node, following in pairwise(body):
            if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant):
                name = str(node.value.value)
                of = members.get(name.replace(".", "").replace("_", ""), frozenset())
                yield Entry(name, _text(following), stable, of)


def _members(node: ast.ClassDef) -> frozenset[str]:
    pairs = zip(node.body, [*node.body[1:], None], strict=True)
    return frozenset(
        str(member.value.value)
        for member, following in pairs
        if isinstance(member, ast.Assign)
        and isinstance(member.value, ast.Constant)
        and not (following and _text(following).startswith("Deprecated"))
    )


def _text(node: ast.stmt) -> str:
    """The string that stands as a statement behind a constant; "" if there is none."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return str(node.value.value).strip()
    return ""
