"""The kinds of value that a configuration key can have: how each is read, what is expected of it, how it is shown.

Every source speaks text: environment and flags by nature, and the YAML file because its scalars are taken as they are
written, so that `on`, `08` and `1e3` mean the same everywhere. A kind says no by `ValueError`; its `expected` is what
the user is told.

>>> Duration().read("250ms")
0.25
>>> Size().show(8 << 20)
'8MiB'
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

Tree: TypeAlias = "str | list[Tree] | dict[str, Tree] | None"
"""A value before its kind has read it: text, or (from YAML) lists and mappings of text."""

T = TypeVar("T")
Pairs: TypeAlias = tuple[tuple[str, str], ...]


class Kind(ABC, Generic[T]):
    """One kind of value. `expected` completes the sentence "'x' is not …"."""

    expected: str

    @abstractmethod
    def read(self, value: Tree) -> T:
        """The value; ValueError when it is not one."""

    def show(self, value: T) -> str:
        """The text that `read` would take for the value."""
        return str(value)


class Scalar(Kind[T]):
    """A kind whose values are written as one text."""

    def read(self, value: Tree) -> T:
        if not isinstance(value, str):
            raise ValueError
        return self.parse(value.strip())

    @abstractmethod
    def parse(self, text: str) -> T:
        """The value of a text without space around it."""


class Text(Scalar[str]):
    """Any text."""

    expected = "a text"

    def parse(self, text: str) -> str:
        return text


class NetworkNamespace(Scalar[str]):
    """A network namespace, or none; whether it is there is seen at start."""

    expected = "own, a path such as /run/netns/NAME or /proc/PID/ns/net, or an inode number"

    def parse(self, text: str) -> str:
        if text != "own" and not text.startswith("/") and not (text.isdecimal() and int(text) < 1 << 32):
            raise ValueError
        return text


class Choice(Scalar[str]):
    """One of a few words, whatever their case."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.expected = "one of " + ", ".join(words)

    def parse(self, text: str) -> str:
        if text.lower() not in self.words:
            raise ValueError
        return text.lower()


class Flag(Scalar[bool]):
    """Yes or no."""

    expected = "true or false"

    def parse(self, text: str) -> bool:
        if text.lower() not in ("true", "false", "yes", "no", "on", "off"):
            raise ValueError
        return text.lower() in ("true", "yes", "on")

    def show(self, value: bool) -> str:
        return "true" if value else "false"


class Whole(Scalar[int]):
    """A whole number within bounds, both included."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.expected = f"a whole number from {low} to {high}"

    def parse(self, text: str) -> int:
        number = int(text)
        if not self.low <= number <= self.high:
            raise ValueError
        return number


class Number(Scalar[float]):
    """A number within bounds, both included, in plain decimal."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.expected = f"a number from {low:g} to {high:g}"

    def parse(self, text: str) -> float:
        if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text, re.ASCII) or not self.low <= float(text) <= self.high:
            raise ValueError
        return float(text)

    def show(self, value: float) -> str:
        return f"{value:.12f}".rstrip("0").rstrip(".")


class Duration(Scalar[float]):
    """A time, in seconds. A number needs its unit."""

    UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

    def __init__(self, *, least: float = 0.0, most: float = 86400.0) -> None:
        self.least, self.most = least, most
        self.expected = f"a time from {self.show(least)} to {self.show(most)} like '250ms', '10s' or '5m'"

    def parse(self, text: str) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zµ]*)", text)
        if match is None:
            raise ValueError
        number, unit = match.groups()
        if unit not in self.UNITS:
            raise ValueError
        seconds = float(number) * self.UNITS[unit]
        if not self.least <= seconds <= self.most:
            raise ValueError
        return seconds

    def show(self, value: float) -> str:
        microseconds = round(value * 1e6)
        for unit, size in (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000)):
            if microseconds and microseconds % size == 0:
                return f"{microseconds // size}{unit}"
        return f"{microseconds}us" if microseconds else "0s"


class Size(Scalar[int]):
    """A number of bytes. Ring buffers must be a power of two of at least a page: `power_of_two`."""

    UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

    def __init__(self, *, least: int = 0, most: int = 1 << 34, power_of_two: bool = False) -> None:
        self.least, self.most, self.power_of_two = least, most, power_of_two
        what = "a power of two in bytes" if power_of_two else "a number of bytes"
        self.expected = f"{what} from {self.show(least)} to {self.show(most)} like '64KiB' or '8MiB'"

    def parse(self, text: str) -> int:
        match = re.fullmatch(r"(\d+)\s*(B|KiB|MiB|GiB|)", text)
        if match is None:
            raise ValueError
        size = int(match[1]) * self.UNITS[match[2]]
        if not self.least <= size <= self.most or (self.power_of_two and size & (size - 1)):
            raise ValueError
        return size

    def show(self, value: int) -> str:
        for unit in ("GiB", "MiB", "KiB"):
            if value and value % self.UNITS[unit] == 0:
                return f"{value // self.UNITS[unit]}{unit}"
        return str(value)


class Address(Scalar[str]):
    """Where to listen, host:port; `none` for not at all."""

    expected = "host:port like '127.0.0.1:8894' or '[::1]:8894', or none"

    def parse(self, text: str) -> str:
        if text == "none":
            return text
        host, _, port = text.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise ValueError
        return text


class Url(Scalar[str]):
    """Where OTLP goes: a URL, or host:port as gRPC users write it."""

    expected = "a URL like 'http://collector:4317', or host:port"

    def parse(self, text: str) -> str:
        url = urlsplit(text if "://" in text else f"//{text}")
        if url.scheme not in ("", "http", "https") or not url.hostname or re.search(r"\s", text):
            raise ValueError
        if url.port is None and not url.scheme:  # .port itself raises ValueError when it is no port
            raise ValueError
        return text


class File(Scalar[str]):
    """The path of a file that can be read."""

    expected = "a file that can be read"

    def parse(self, text: str) -> str:
        try:
            with Path(text).open("rb"):
                return text
        except OSError as error:
            raise ValueError from error


class Listing(Kind[tuple[str, ...]]):
    """Several values of one kind: a YAML list, or text with commas. `none` in text is the empty list."""

    def __init__(self, item: Kind[str], *, what: str = "") -> None:
        self.item = item
        self.expected = what or f"a list, each {item.expected}"

    def read(self, value: Tree) -> tuple[str, ...]:
        if isinstance(value, str):
            value = [] if value.strip() == "none" else [part for part in value.split(",") if part.strip()]
        if not isinstance(value, list):
            raise ValueError
        return tuple(dict.fromkeys(self.item.read(part) for part in value))

    def show(self, value: tuple[str, ...]) -> str:
        return ",".join(value) or "none"


class KeyValues(Scalar[Pairs]):
    """Names and texts: a YAML mapping, or `name=value,…` with percent encoding as in W3C Baggage.

    That text form is what the OpenTelemetry specification gives to headers and resource attributes.
    """

    expected = "a mapping, or text like 'name=value,other=value'"

    def read(self, value: Tree) -> Pairs:
        if isinstance(value, dict):
            return tuple((name, Text().read(text)) for name, text in value.items())
        return super().read(value)

    def parse(self, text: str) -> Pairs:
        return () if text == "none" else parse_pairs(text)

    def show(self, value: Pairs) -> str:
        return ",".join(f"{name}={text}" for name, text in value) or "none"


class Headers(KeyValues):
    """Header fields of HTTP, or metadata of gRPC, which takes no other names than lower-case ones."""

    expected = "a mapping, or text like 'name=value,other=value', of header names and printable ASCII values"
    # RFC 9110 §5.6.2 (token), §5.5; what else bytes can be would end the header, and gRPC takes ASCII alone.
    _NAME, _VALUE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(r"[ -~\t]*")

    def read(self, value: Tree) -> Pairs:
        pairs = super().read(value)
        if not all(self._NAME.fullmatch(name) and self._VALUE.fullmatch(text) for name, text in pairs):
            raise ValueError
        return tuple((name.lower(), text) for name, text in pairs)


def parse_pairs(text: str) -> Pairs:
    """`name=value,…` with percent encoding; ValueError if any part has no name or no '='.

    OpenTelemetry specification, resource/sdk.md, "Specifying resource information via an environment variable": on any
    error the whole value is discarded.

    >>> parse_pairs("team=checkout,note=a%2Cb")
    (('team', 'checkout'), ('note', 'a,b'))
    """
    pairs: dict[str, str] = {}
    for part in text.split(","):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ValueError
        pairs[unquote(name.strip())] = unquote(value.strip())
    return tuple(pairs.items())
