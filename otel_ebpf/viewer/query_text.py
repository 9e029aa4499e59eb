"""Answers of the query API as tables for a terminal. All texts are from strangers: they are cleaned, never markup."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from otel_ebpf.control.text import clean, duration, rate, size

Item = Mapping[str, object]
_BARS = "▁▂▃▄▅▆▇█"
_SEVERITIES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_LONGEST = 200
_WIDTH = 4000
_DEEPEST = 40
"""Levels of the tree of a trace that are indented."""


def show(what: str, answer: dict[str, object]) -> bool:
    """Print an answer; False: there is nothing in it. what: as on the command line, NAME for a name that was given."""
    # Wider than any line: ids are copied and lines are grepped whole, so nothing is cut to the terminal's width.
    console = Console(highlight=False, markup=False, emoji=False, width=_WIDTH)
    tables = _SHOW[what](answer)
    for table in tables:
        console.print(table)
    for gap in _items(answer, "gaps"):
        console.print(Text(_gap(gap), "yellow"))
    return any(table.row_count for table in tables)


def _gap(gap: Item) -> str:
    """ "! agent: kernel: no_state: 7 (14:02:10.000 to 14:02:20.000): what this means"."""
    when = f"{_clock(gap.get('since'))} to {_clock(gap.get('until'))}"
    line = f"! {_text(gap, 'what')}: {_text(gap, 'reason')}: {_number(gap, 'count'):.0f} ({when})"
    return f"{line}: {_text(gap, 'says')}" if gap.get("says") else line


def _items(answer: Item, name: str) -> list[dict[str, object]]:
    found = answer.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _text(item: Item, name: str) -> str:
    value = item.get(name)
    return clean(value, _LONGEST) if isinstance(value, str) else "" if value is None else clean(json.dumps(value))


def _number(item: Item, name: str) -> float:
    value = item.get(name)
    return float(value) if isinstance(value, (int, float)) else 0.0


def _numbers(item: Item, name: str) -> list[float | None]:
    found = item.get(name)
    return [float(one) if isinstance(one, (int, float)) else None for one in found] if isinstance(found, list) else []


def _took(ms: object) -> str:
    return duration(ms * 1e6) if isinstance(ms, (int, float)) else "-"


def _clock(ms: object) -> str:
    if not isinstance(ms, (int, float)) or not 0 <= ms < 1e14:
        return "-"
    return f"{time.strftime('%H:%M:%S', time.localtime(ms / 1e3))}.{int(ms % 1000):03d}"


def _table(columns: str, rows: Iterable[Sequence[str | Text]]) -> Table:
    """columns: the heads; a ">" before one puts it to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for head in columns.split():
        right = head.startswith(">")
        table.add_column(head.lstrip(">").replace("_", " "), justify="right" if right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return table


def _row(*cells: str | Text) -> Sequence[str | Text]:
    return cells


def _red(item: Item) -> list[str | Text]:
    """calls, rate, errors, p50, p99"""
    calls, failed = _number(item, "calls"), _number(item, "failed")
    errors = Text(f"{100 * failed / calls:.1f}%" if calls else "-", "red" if failed else "")
    return [f"{calls:.0f}", rate(_number(item, "rate")), errors, _took(item.get("p50")), _took(item.get("p99"))]


_RED = ">CALLS >PER_S >ERRORS >P50 >P99"


def _red_if(count: float) -> Text:
    return Text(f"{count:.0f}", "red" if count else "")


def _spark(values: list[float | None]) -> str:
    most = max((value or 0.0 for value in values), default=0.0)
    return "".join(_BARS[min(int((value or 0.0) / most * 7.99), 7)] if most else _BARS[0] for value in values)


def _services(answer: Item) -> list[Table]:
    rows = (
        [_text(one, "name"), _text(one, "kind"), _text(one, "system"), *_red(one), _spark(_numbers(one, "spark"))]
        for one in _items(answer, "services")
    )
    return [_table(f"SERVICE KIND SYSTEM {_RED} REQUESTS", rows)]


def _edge_rows(edges: list[dict[str, object]]) -> list[list[str | Text]]:
    return [
        [_text(one, "client"), "→ " + _text(one, "server"), _text(one, "system") or _text(one, "connection_type"),
         *_red(one)]
        for one in edges
    ]  # fmt: skip


def _map(answer: Item) -> list[Table]:
    nodes = (
        [_text(one, "name"), _text(one, "kind"), _text(one, "system"), _text(one, "group"), *_red(one)]
        for one in _items(answer, "nodes")
    )
    edges = _edge_rows(_items(answer, "edges"))
    return [_table(f"NODE KIND SYSTEM GROUP {_RED}", nodes), _table(f"CLIENT SERVER BY {_RED}", edges)]


def _service(answer: Item) -> list[Table]:
    service = answer.get("service")
    found = _services({"services": [service]})
    for name, head in (("serves", "SERVES"), ("calls", "CALLS_OTHERS")):
        rows = (
            [_text(one, "name"), _text(one, "kind"), _text(one, "system"), *_red(one)] for one in _items(answer, name)
        )
        found.append(_table(f"{head} KIND SYSTEM {_RED}", rows))
    edges = [*_items(answer, "callers"), *_items(answer, "callees")]
    return [*found, _table(f"CLIENT SERVER BY {_RED}", _edge_rows(edges))]


def _series(answer: Item) -> list[Table]:
    columns = [_numbers(answer, name) for name in ("times", "calls", "failed", "p50", "p99")]
    rows = (
        [_clock(at), f"{calls or 0:.0f}", f"{failed or 0:.0f}", _took(p50), _took(p99)]
        for at, calls, failed, p50, p99 in zip(*columns, strict=False)
    )
    return [_table("FROM >CALLS >FAILED >P50 >P99", rows)]


def _traces(answer: Item) -> list[Table]:
    rows = (
        _row(
            *(_text(one, "trace_id"), _clock(one.get("start")), _text(one, "service"), _text(one, "name"), _entry(one)),
            *(_took(one.get("duration")), f"{_number(one, 'spans'):.0f}"),
            _red_if(_number(one, "errors")),
        )
        for one in _items(answer, "traces")
    )
    return [_table("TRACE START SERVICE NAME SERVED_BY >TOOK >SPANS >ERRORS", rows)]


def _entry(trace: Item) -> str:
    entry = trace.get("entry")
    return f"{_text(entry, 'service')} {_text(entry, 'name')}" if isinstance(entry, dict) else ""


def _trace(answer: Item) -> list[Table]:
    spans = _items(answer, "spans")
    begin = min((_number(one, "start") for one in spans), default=0.0)
    rows = (
        _row(
            Text(f"{'  ' * min(depth, _DEEPEST)}{_text(one, 'name')}", "red" if one.get("status") == "error" else ""),
            *(_text(one, "service"), _text(one, "kind"), f"+{_took(_number(one, 'start') - begin)}"),
            *(_took(one.get("duration")), _status_of(one), _link(one), _text(one, "span_id")),
        )
        for depth, one in _tree(spans)
    )
    return [
        _table("SPAN SERVICE KIND >START >TOOK STATUS LINK ID", rows),
        *(_logs(answer) if answer.get("logs") else []),
    ]


def _status_of(span: Item) -> Text:
    status = _text(span, "status")
    return Text("" if status == "unset" else status, "red" if status == "error" else "")


def _link(span: Item) -> str:
    attributes = span.get("attributes")
    return _text(attributes, "otel_ebpf.link.method") if isinstance(attributes, dict) else ""


def _tree(spans: list[dict[str, object]]) -> Iterator[tuple[int, dict[str, object]]]:
    """Every span once, with its depth, children behind their parent. A parent that is not there makes a root."""
    there = {_text(one, "span_id") for one in spans}
    children: dict[str, list[dict[str, object]]] = {}
    for one in sorted(spans, key=lambda span: _number(span, "start")):
        parent = _text(one, "parent_id")
        children.setdefault(parent if parent in there else "", []).append(one)
    seen: set[int] = set()
    # All spans after the roots: those that parents in a circle keep from being reached.
    for root in [*children.get("", []), *spans]:
        waiting = [(0, root)]
        while waiting:
            depth, one = waiting.pop()
            if id(one) not in seen:
                seen.add(id(one))
                yield depth, one
                waiting += [(depth + 1, child) for child in reversed(children.get(_text(one, "span_id"), []))]


def _span(answer: Item) -> list[Table]:
    names = ("name", "service", "kind", "status", "message", "scope", "trace_id", "span_id", "parent_id")
    rows: list[list[str | Text]] = [[name, _text(answer, name)] for name in names]
    rows += [["start", _clock(answer.get("start"))], ["duration", _took(answer.get("duration"))]]
    for group in ("attributes", "resource"):
        found = answer.get(group)
        if isinstance(found, dict):
            rows += [[Text(clean(key, _LONGEST), "cyan"), _text(found, key)] for key in sorted(found)]
    rows += [[_clock(one.get("time")), _text(one, "name")] for one in _items(answer, "events")]
    return [_table("WHAT VALUE", rows)]


def _keys(answer: Item) -> list[Table]:
    return [_table("KEY >SPANS", ([_text(one, "key"), _text(one, "spans")] for one in _items(answer, "keys")))]


def _values(answer: Item) -> list[Table]:
    return [_table("VALUE >SPANS", ([_text(one, "value"), _text(one, "spans")] for one in _items(answer, "values")))]


def _logs(answer: Item) -> list[Table]:
    rows = (
        _row(
            _clock(one.get("time")),
            _text(one, "service"),
            _severity(_number(one, "severity")),
            _text(one, "body") or _text(one, "event"),
        )
        for one in _items(answer, "logs")
    )
    return [_table("TIME SERVICE SEVERITY BODY", rows)]


def _severity(number: float) -> str:
    """OTLP's short name of a SeverityNumber.

    >>> _severity(9), _severity(18), _severity(0)
    ('INFO', 'ERROR2', '-')
    """
    name, finer = divmod(int(number) - 1, 4)
    return f"{_SEVERITIES[name]}{finer + 1 if finer else ''}" if 1 <= number <= 24 else "-"


def _metrics(answer: Item) -> list[Table]:
    rows = (
        [_text(one, "name"), _text(one, "type"), _text(one, "unit"), _text(one, "series")]
        for one in _items(answer, "metrics")
    )
    return [_table("METRIC TYPE UNIT >SERIES", rows)]


def _metric(answer: Item) -> list[Table]:
    rows = []
    for one in _items(answer, "series"):
        values = _numbers(one, "values")
        last = next((value for value in reversed(values) if value is not None), None)
        rows.append(
            [_text(one, "service"), _text(one, "attributes"), "-" if last is None else f"{last:g}", _spark(values)]
        )
    return [_table("SERVICE ATTRIBUTES >LAST VALUES", rows)]


def _agents(answer: Item) -> list[Table]:
    rows = (
        _row(
            *(_text(one, "host"), _text(one, "version"), _clock(one.get("seen"))),
            *(rate(_number(one, "spans_per_second")), f"{100 * _number(one, 'cpu'):.1f}%"),
            *(size(int(_number(one, "rss_bytes"))), str(len(_items(one, "failures")))),
            Text(f"{sum(_number(loss, 'count') for loss in _items(one, 'losses')):.0f}", "yellow"),
        )
        for one in _items(answer, "agents")
    )
    return [_table("HOST VERSION SEEN >SPANS/S >CPU >MEMORY >UNATTACHED >LOSSES", rows)]


def _state(group: Item, key: str) -> str:
    value = group.get(key)
    if not isinstance(value, (int, float)):
        return _text(group, key) or "-"
    if key == "oldest":
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value / 1e3)) if 0 <= value < 1e14 else "-"
    return size(int(value)) if key.endswith("bytes") else f"{value:.2f}" if key.endswith("per_second") else str(value)


def _status(answer: Item) -> list[Table]:
    rows: list[list[str | Text]] = [["version", _text(answer, "version")]]
    for group in ("listen", "store", "ingest"):
        found = answer.get(group)
        if isinstance(found, dict):
            rows += [[f"{group} {key}", _state(found, key)] for key in found]
    problems = answer.get("problems")
    rows += [["problem", Text(clean(str(one)), "red")] for one in (problems if isinstance(problems, list) else [])]
    return [_table("WHAT VALUE", rows)]


_SHOW: dict[str, Callable[[Item], list[Table]]] = {
    "services": _services,
    "services NAME": _service,
    "map": _map,
    "red": _series,
    "traces": _traces,
    "trace NAME": _trace,
    "span NAME": _span,
    "attributes": _keys,
    "attributes NAME": _values,
    "logs": _logs,
    "metrics": _metrics,
    "metrics NAME": _metric,
    "agents": _agents,
    "status": _status,
}
