"""`otel-ebpf infer FILE`: reads, infers, writes, reports.

The spans go to OUT, or to stdout; then the report goes to stderr. Everything in the input is in the output, in its
order; only what was inferred is added, and a span that got a parent has that parent's trace id.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO, cast

from otel_ebpf.errors import UnsupportedError
from otel_ebpf.infer.linking import Linker, Tally
from otel_ebpf.infer.reading import SPANS, Document, documents, opened
from otel_ebpf.infer.spans import Problems, read


def main(options: argparse.Namespace) -> int:
    """0 if the input was read to its end, whatever was found."""
    gc.disable()  # documents are trees: the collector would look at each of their objects again and again, for nothing
    try:
        return _main(options)
    finally:
        gc.enable()


def _main(options: argparse.Namespace) -> int:
    began = time.monotonic()
    linker, problems = Linker(), Problems()
    name = "stdin" if options.file == "-" else options.file
    with ExitStack() as open_files:
        source = open_files.enter_context(opened(options.file))
        output: TextIO | None = None
        batch: list[tuple[int, Document]] = []
        spans = total = 0
        for line, document in documents(source, name):
            if isinstance(document, str):
                problems.add(f"{name}: line {line}", document)
                continue
            if output is None:
                output = open_files.enter_context(_output(options.output)) if options.output else sys.stdout
            batch.append((line, document))
            spans += _count(document)
            if spans >= SPANS:
                total += _infer(batch, name, linker, problems, output)
                batch, spans = [], 0
        if batch and output is not None:
            total += _infer(batch, name, linker, problems, output)
    for line_of_text in problems.lines:
        print(f"otel-ebpf: warning: {line_of_text}", file=sys.stderr)
    if problems.count > len(problems.lines):
        print(f"otel-ebpf: warning: {name}: and {problems.count - len(problems.lines)} more", file=sys.stderr)
    report = _json(linker, problems, total, began) if options.json else _text(linker, problems, total, began)
    print(report, file=sys.stdout if options.output else sys.stderr)
    return 0


def _infer(batch: list[tuple[int, Document]], name: str, linker: Linker, problems: Problems, output: TextIO) -> int:
    spans = read(batch, name, problems)
    linker.link(spans)
    for _, document in batch:
        output.write(json.dumps(document, separators=(",", ":"), allow_nan=True))
        output.write("\n")
    return len(spans)


def _output(name: str) -> TextIO:
    try:
        if name.endswith(".gz"):
            return cast(TextIO, gzip.open(name, "wt", compresslevel=1))
        return Path(name).open("w")
    except OSError as error:
        raise UnsupportedError(f"{name}: cannot be written: {error.strerror}") from None


def _count(document: Document) -> int:
    """Spans, roughly: enough to bound memory by."""
    count = 1
    resources = document.get("resourceSpans")
    for resource in resources if isinstance(resources, list) else ():
        scopes = resource.get("scopeSpans") if isinstance(resource, dict) else None
        for scope in scopes if isinstance(scopes, list) else ():
            spans = scope.get("spans") if isinstance(scope, dict) else None
            count += len(spans) if isinstance(spans, list) else 0
    return count


def _json(linker: Linker, problems: Problems, spans: int, began: float) -> str:
    def of(tally: Tally) -> dict[str, int]:
        return {name: getattr(tally, name) for name in Tally.__slots__}

    report = {
        "spans": spans,
        "unusable": problems.count,
        "seconds": round(time.monotonic() - began, 3),
        "total": of(_total(linker)),
        "services": {name.strip("/"): of(service.tally) for name, service in linker.services.items()},
    }
    return json.dumps(report)


def _text(linker: Linker, problems: Problems, spans: int, began: float) -> str:
    rows: list[tuple[str, ...]] = [("service", *Tally.__slots__)]
    tallies = [(name.strip("/") or "(no service.name)", service.tally) for name, service in linker.services.items()]
    tallies = [(name, tally) for name, tally in tallies if tally.calls]
    for name, tally in [*tallies, ("all", _total(linker))]:
        rows.append((name, *(f"{getattr(tally, key):,}" for key in rows[0][1:])))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(text.rjust(w) if i else text.ljust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    lines.append(f"{spans:,} spans, {problems.count:,} unusable, {time.monotonic() - began:.2f} s")
    return "\n".join(lines)


def _total(linker: Linker) -> Tally:
    total = Tally()
    for service in linker.services.values():
        total.add(service.tally)
    return total
