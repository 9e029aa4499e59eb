"""The filter of `otel-ebpf tap`, asked of live spans. The language, and its errors, are `control.filter`'s."""

from __future__ import annotations

import operator
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from otel_ebpf.config.kinds import Duration
from otel_ebpf.control.filter import Term, glob, parse
from otel_ebpf.viewer.api.answers import LiveSpan

Fits = Callable[[LiveSpan, str], bool]
"""Of a span and its name."""

_COMPARE = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
_TEXTS: dict[str, Callable[[LiveSpan, str], str]] = {
    "service": lambda span, _: span["service"],
    "protocol": lambda span, _: span["system"],
    "name": lambda _, name: name,
    "text": lambda span, _: span["what"],
    "status": lambda span, _: span["status"],
    "kind": lambda span, _: {"producer": "client", "consumer": "server"}.get(span["kind"], span["kind"]),
    "error": lambda span, _: "true" if span["failed"] else "false",
}


def compiled(q: str) -> Fits:
    """Whether all terms hold; raises ConfigError.

    >>> compiled("status>=500")(span, "GET /cart")
    True
    """
    terms = [_term(term) for term in parse(q)]
    return lambda span, name: all(fits(span, name) for fits in terms)


def _term(term: Term) -> Fits:
    if term.key == "duration":
        bound, compare = Duration().parse(term.values[0]) * 1e3, _COMPARE[term.operator]
        return lambda span, _: bool(compare(span["duration"], bound))
    if term.key == "peer":
        return _peer(term)
    said = _TEXTS[term.key]
    if term.operator in _COMPARE:
        number, ordered = float(term.values[0]), _COMPARE[term.operator]
        return lambda span, name: _is_number(said(span, name)) and bool(ordered(float(said(span, name)), number))
    globs = [glob(value, anywhere="~" in term.operator) for value in term.values]
    negated = term.negated
    return lambda span, name: any(fits(said(span, name)) for fits in globs) != negated


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _peer(term: Term) -> Fits:
    """By name, address, address:port, or network."""
    found = [_one_peer(value, anywhere="~" in term.operator) for value in term.values]
    negated = term.negated
    return lambda span, _: any(fits(span["peer"]) for fits in found) != negated


def _one_peer(value: str, *, anywhere: bool) -> Callable[[str], bool]:
    if not anywhere and "/" in value and not value.startswith("/"):
        network = ip_network(value, strict=False)

        def inside(peer: str) -> bool:
            try:
                return ip_address(_host(peer)) in network
            except ValueError:
                return False

        return inside
    fits = glob(value, anywhere=anywhere)
    return lambda peer: fits(peer) or fits(_host(peer))


def _host(peer: str) -> str:
    """Without its port.

    >>> _host("10.0.0.5:5432"), _host("[::1]:80"), _host("::1")
    ('10.0.0.5', '::1', '::1')
    """
    if peer.startswith("["):
        return peer[1:].partition("]")[0]
    return peer.partition(":")[0] if peer.count(":") == 1 else peer
