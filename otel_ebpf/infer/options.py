"""The options of `otel-ebpf infer`. Every command's help reads this module, so it imports nothing."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """FILE and what becomes of it."""
    parser.add_argument("file", metavar="FILE", help="OTLP-JSON: a document or one in each line; .gz too; - is stdin")
    parser.add_argument("-o", "--output", metavar="OUT", help="where the spans go (stdout); .gz is compressed")
    parser.add_argument("--json", action="store_true", help="the report for machines")
