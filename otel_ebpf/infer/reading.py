"""Documents from a file: one OTLP-JSON document, or one in each line as the Collector's file exporter writes them.

Memory is bounded: a document, or as many lines as have SPANS spans, at a time. A Python object of a span takes some
3 kB, so that is some 300 MB.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

from otel_ebpf.errors import UnsupportedError

SPANS = 100_000
"""Spans that are looked at together, where a file has several documents."""
BYTES = 256 << 20
"""Most bytes of one document, unpacked."""

Document = dict[str, object]


def documents(file: BinaryIO, name: str) -> Iterator[tuple[int, Document | str]]:
    """(line, document), or what is wrong with that line. A document may span lines if it is the only one.

    UnsupportedError: the file cannot be read at all.
    """
    line = _line(file, name)
    first, whole = line, _parse(line)
    if isinstance(whole, str):
        rest = _read(file, name, BYTES - len(first))
        if rest:
            only = _parse(first + rest)
            if not isinstance(only, str):
                yield 1, only
                return
            lines = rest.splitlines()
            parsed = [_parse(one) for one in lines if one.strip()]
            if all(isinstance(one, str) for one in parsed):
                raise UnsupportedError(f"{name}: {only}")
            yield 1, whole
            numbered = [i for i, one in enumerate(lines, 2) if one.strip()]
            yield from zip(numbered, parsed, strict=True)
            return
        raise UnsupportedError(f"{name}: {whole}")
    yield 1, whole
    number = 1
    while line := _line(file, name):
        number += 1
        if line.strip():
            yield number, _parse(line)


@contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """The file; - is stdin. What is compressed with gzip is told by its first bytes, not by its name."""
    try:
        file = sys.stdin.buffer if name == "-" else Path(name).open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UnsupportedError(f"{name}: cannot be read: {error.strerror}") from None
    buffered = cast(BufferedReader, file)
    with buffered:
        try:
            packed = buffered.peek(2)[:2] == b"\x1f\x8b"
        except OSError as error:
            raise UnsupportedError(f"{name}: cannot be read: {error.strerror}") from None
        yield cast(BinaryIO, gzip.GzipFile(fileobj=buffered) if packed else buffered)


def _line(file: BinaryIO, name: str) -> bytes:
    return _bounded(file.readline, name, BYTES)


def _read(file: BinaryIO, name: str, most: int) -> bytes:
    return _bounded(file.read, name, most)


def _bounded(read: Callable[[int], bytes], name: str, most: int) -> bytes:
    try:
        data = read(most + 1)
    except (OSError, EOFError, zlib.error) as error:  # also gzip.BadGzipFile
        raise UnsupportedError(f"{name}: cannot be read: {error}") from None
    if len(data) > most:
        raise UnsupportedError(
            f"{name}: a document of more than {BYTES >> 20} MiB: give one document in each line, as the Collector's "
            "file exporter writes them"
        )
    return data


def _parse(data: bytes) -> Document | str:
    """The document, or in a few words why it is none."""
    try:
        parsed = json.loads(data)
    except RecursionError:
        return "not JSON: nested too deeply"
    except ValueError as error:  # also UnicodeDecodeError, and integers of thousands of digits
        return f"not JSON: {str(error)[:200]}"
    if not isinstance(parsed, dict) or not isinstance(parsed.get("resourceSpans"), list):
        return "not OTLP-JSON: an object with a list `resourceSpans` was expected"
    return parsed
