"""The parameters of endpoints: how each is read, what it may be, how the OpenAPI document describes it.

A wrong one is a `BadParameter`: "start: 'x' is not a time like -15m, now or Unix milliseconds".
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from otel_ebpf.config.keys import abbreviate
from otel_ebpf.errors import OtelEbpfError

TEXT = 1024
"""Characters of the longest text that a parameter may have."""
REPEATED = 20
"""How often one parameter may be given."""


class BadParameter(OtelEbpfError):
    """400: names the parameter, what was given and what was expected."""


class Kind(ABC):
    """A kind of value. expected: completes "'x' is not …". schema: in JSON Schema."""

    expected: str
    schema: dict[str, object]

    @abstractmethod
    def read(self, text: str) -> object:
        """The value; ValueError if it is none."""


class Time(Kind):
    """Read as Unix nanoseconds."""

    expected = "a time like -15m (s, m, h, d), now or Unix milliseconds"
    schema = {"type": "string", "examples": ["-15m", "now", "1763750000000"]}
    _SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

    def read(self, text: str) -> int:
        if text == "now":
            return time.time_ns()
        relative = re.fullmatch(r"-([0-9]{1,9})([smhd])", text)
        if relative:
            return max(time.time_ns() - int(relative[1]) * self._SECONDS[relative[2]] * 10**9, 0)
        if not re.fullmatch(r"[0-9]{1,13}(\.[0-9]{1,6})?", text):
            raise ValueError
        whole, _, part = text.partition(".")
        found = int(whole) * 10**6 + int(part.ljust(6, "0"))
        if found >= 2**63:
            raise ValueError
        return found


class Text(Kind):
    """Any text that is not too long."""

    expected = f"a text of 1 to {TEXT} characters"
    schema = {"type": "string", "maxLength": TEXT}

    def read(self, text: str) -> str:
        if not 0 < len(text) <= TEXT:
            raise ValueError
        return text


class Choice(Kind):
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self.expected = f"one of {', '.join(words)}"
        self.schema = {"type": "string", "enum": list(words)}

    def read(self, text: str) -> str:
        if text not in self._words:
            raise ValueError
        return text


class Whole(Kind):
    """A whole number within bounds, both included."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high
        self.expected = f"a whole number from {low} to {high}"
        self.schema = {"type": "integer", "minimum": low, "maximum": high}

    def read(self, text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or not self._low <= int(text) <= self._high:
            raise ValueError
        return int(text)


class Milliseconds(Kind):
    """A duration, read as nanoseconds."""

    expected = "a number of milliseconds like 250 or 0.5"
    schema = {"type": "number", "minimum": 0}

    def read(self, text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
            raise ValueError
        return round(float(text) * 1e6)


class Pair(Kind):
    """KEY=VALUE, read as the two."""

    expected = "KEY=VALUE like http.route=/users"
    schema = {"type": "string", "pattern": "^[^=]+=.*$"}

    def read(self, text: str) -> tuple[str, str]:
        key, equals, value = text.partition("=")
        if not key or not equals or len(text) > 2 * TEXT:
            raise ValueError
        return key, value


class Hex(Kind):
    """An id of so many hexadecimal digits, leading zeros may be missing; read as a number."""

    def __init__(self, digits: int, what: str) -> None:
        self._digits = digits
        self.expected = f"a {what} id: 1 to {digits} hexadecimal digits"
        self.schema = {"type": "string", "pattern": f"^[0-9a-fA-F]{{1,{digits}}}$"}

    def read(self, text: str) -> int:
        if not re.fullmatch(rf"[0-9a-fA-F]{{1,{self._digits}}}", text):
            raise ValueError
        return int(text, 16)


TRACE_ID, SPAN_ID = Hex(32, "trace"), Hex(16, "span")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. default: the text that stands for one that is not given; None: it may be missing."""

    name: str
    kind: Kind
    summary: str
    default: str | None = None
    repeated: bool = False
    in_path: bool = False


@dataclass(slots=True)
class Given:
    """The values that a request gave."""

    values: dict[str, list[object]] = field(default_factory=dict)

    def one(self, name: str) -> object | None:
        """The value of a parameter; None: not given."""
        found = self.values.get(name)
        return found[0] if found else None

    def text(self, name: str) -> str | None:
        """The value of a text."""
        found = self.one(name)
        return None if found is None else str(found)

    def number(self, name: str) -> int | None:
        """The value of a whole number, a time (ns), a duration (ns) or an id."""
        found = self.one(name)
        return found if isinstance(found, int) else None

    def sure(self, name: str) -> int:
        """The number of a parameter that has a default, or is in the path."""
        found = self.number(name)
        assert found is not None, name
        return found

    def pairs(self, name: str) -> list[tuple[str, str]]:
        """All KEY=VALUE of this name."""
        return [pair for pair in self.values.get(name, []) if isinstance(pair, tuple)]


def read(parameters: Iterable[Parameter], path: Mapping[str, str], query: Iterable[tuple[str, str]]) -> Given:
    """The values of a request; BadParameter if one is wrong, unknown or given twice. An empty one counts as missing."""
    known = {parameter.name: parameter for parameter in parameters}
    given = Given()
    for in_path, name, text in (*((True, *pair) for pair in path.items()), *((False, *pair) for pair in query)):
        parameter = known.get(name)
        if parameter is None or parameter.in_path != in_path:
            raise BadParameter(f"{abbreviate(name)}: unknown parameter; there are {', '.join(_names(known)) or 'none'}")
        if text == "" and not in_path:
            continue
        values = given.values.setdefault(name, [])
        if len(values) >= (REPEATED if parameter.repeated else 1):
            raise BadParameter(f"{name}: given more than {'once' if not parameter.repeated else f'{REPEATED} times'}")
        values.append(_read(parameter, text))
    for name, parameter in known.items():
        if name not in given.values and parameter.default is not None:
            given.values[name] = [parameter.kind.read(parameter.default)]
    return given


def _names(known: Mapping[str, Parameter]) -> list[str]:
    return [name for name, parameter in known.items() if not parameter.in_path]


def _read(parameter: Parameter, text: str) -> object:
    try:
        return parameter.kind.read(text)
    except ValueError:
        raise BadParameter(f"{parameter.name}: {abbreviate(text)} is not {parameter.kind.expected}") from None
