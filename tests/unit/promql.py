"""What an expression of PromQL reads, and which labels its result has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import promql_parser as promql


@dataclass(slots=True)
class Reading:
    """selected: (metric, label) of every matcher, and (metric, "") of every selector. used: (labels that there are,
    label) of every label that a function or an aggregation names. result: the labels of what comes out."""

    selected: set[tuple[str, str]] = field(default_factory=set)
    used: list[tuple[frozenset[str], str]] = field(default_factory=list)
    result: frozenset[str] = frozenset()


def read(text: str, labels: Mapping[str, frozenset[str]]) -> Reading:
    """ValueError if it is no PromQL. labels: metric → its labels, for what an aggregation may name.

    >>> read("sum by (b) (rate(x{a='1'}[1m]))", {"x": frozenset("ab")}).selected
    {('x', ''), ('x', 'a')}
    """
    reading = Reading()
    reading.result = _labels(promql.parse(text), labels, reading)
    return reading


def _labels(expr: object, known: Mapping[str, frozenset[str]], reading: Reading) -> frozenset[str]:
    """The labels of the expression's result; what it reads is noted on the way."""
    if isinstance(expr, promql.VectorSelector):
        name = expr.name or ""
        reading.selected.add((name, ""))
        reading.selected |= {(name, matcher.name) for matcher in expr.matchers.matchers}
        return known.get(name, frozenset())
    if isinstance(expr, promql.MatrixSelector):
        return _labels(expr.vector_selector, known, reading)
    if isinstance(expr, promql.AggregateExpr):
        there = _labels(expr.expr, known, reading)
        if expr.modifier is None:
            # topk and its like keep the labels
            return there if str(expr.op) in ("topk", "bottomk") else frozenset()
        assert expr.modifier.type == promql.AggModifierType.By
        reading.used += [(there, label) for label in expr.modifier.labels]
        return frozenset(expr.modifier.labels)
    if isinstance(expr, promql.BinaryExpr):
        left, right = _labels(expr.lhs, known, reading), _labels(expr.rhs, known, reading)
        matching = expr.modifier.matching if expr.modifier else None
        for label in matching.labels if matching else ():
            reading.used += [(left, label), (right, label)]
        return left or right
    if isinstance(expr, promql.Call):
        return _of_call(expr, known, reading)
    if isinstance(expr, promql.ParenExpr):
        return _labels(expr.expr, known, reading)
    assert isinstance(expr, promql.NumberLiteral | promql.StringLiteral), expr
    return frozenset()


def _of_call(call: promql.Call, known: Mapping[str, frozenset[str]], reading: Reading) -> frozenset[str]:
    name, arguments = call.func.name, list(call.args)
    there = frozenset[str]().union(*(_labels(argument, known, reading) for argument in arguments))
    texts = [argument.val for argument in arguments if isinstance(argument, promql.StringLiteral)]
    if name == "label_join":
        reading.used += [(there, label) for label in texts[2:]]
        return there | {texts[0]}
    if name == "label_replace":
        reading.used.append((there, texts[2]))
        return there | {texts[0]}
    return there - {"le"} if name == "histogram_quantile" else there


def unknown(reading: Reading, labels: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """What it names that is not there."""
    for metric, label in sorted(reading.selected):
        if metric not in labels:
            yield f"there is no metric {metric}"
        elif label and label not in labels[metric]:
            yield f"{metric} has no label {label}"
    for there, label in reading.used:
        if label not in there:
            yield f"no label {label} among {sorted(there)}"
