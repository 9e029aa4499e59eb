"""What the spans of a row say, against what was done. Nothing but exported spans is looked at.

A span's token stands in its URL, its SQL text or its key (see `row.py`): a call's parent is right if it is the server
span of the same process whose token is the call's own (a proxy) or that without its last part.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.fidelity.site import LOAD, Hop
from tests.spans import SeenSpan

_TOKEN = re.compile(r"id[0-9a-f]{4}([wm])\d+z(?:[/_]\d+)*")
_LATELY = "wrong, measured"
_CARRIERS = ("url.full", "url.path", "db.query.text", "db.operation.parameter.0", "db.query.parameter.0")


@dataclass(slots=True)
class Score:
    """One program's account in one run, of the measured requests; `wrong`, `joins_wrong`, `duplicates` count always.

    servers, clients: spans found, of the `_expected`. right, linked (a span link to the right one), missing: parents of
    calls; they and the wrong ones of measured requests add up to `clients_expected`. joins_*: server spans whose parent
    is the call that they answer, of `servers_expected`.
    """

    hop: str
    servers_expected: int = 0
    servers: int = 0
    clients_expected: int = 0
    clients: int = 0
    right: int = 0
    wrong: int = 0
    linked: int = 0
    missing: int = 0
    joins_right: int = 0
    joins_wrong: int = 0
    duplicates: int = 0
    methods: Counter[str] = field(default_factory=Counter)
    """Of parents: "method right", "method wrong"."""
    examples: list[str] = field(default_factory=list)
    """A few of what is wrong, told for people."""

    @property
    def percent(self) -> float:
        """Right parents of the calls that were made."""
        return 100.0 * self.right / self.clients_expected if self.clients_expected else 100.0


@dataclass(frozen=True, slots=True)
class _Seen:
    span: SeenSpan
    hop: str
    token: str

    @property
    def measured(self) -> bool:
        return "m" in self.token[:7]

    def tell(self) -> str:
        method = str(self.span.get("otel_ebpf.link.method"))
        return f"{self.hop} {self.span.kind} {self.token} ({method}, parent {self.span.parent or '-'})"


def token_of(span: SeenSpan) -> str:
    """The token that a span carries, "" if none.

    >>> token_of(span)  # url.full: http://127.0.0.1:80/b/id3f9am17z/0
    'id3f9am17z/0'
    """
    for name in _CARRIERS:
        if found := _TOKEN.search(str(span.get(name) or "")):
            return str(found[0]).replace("_", "/")
    found = _TOKEN.search(" ".join(str(value) for value in span.attributes.values()))
    return str(found[0]).replace("_", "/") if found else ""


def score(
    spans: Sequence[SeenSpan], hops: Mapping[str, Hop], done: Iterable[tuple[str, int]], mark: str
) -> dict[str, Score]:
    """The account of every hop, callees first, and of the load, of the requests `done` (id, k) and of those before."""
    hop_of = {pid: hop.name for hop in hops.values() for pid in hop.pids}
    seen = [
        _Seen(span, hop, token)
        for span in spans
        if (hop := hop_of.get(_pid(span))) and (token := token_of(span)).startswith(f"id{mark}")
    ]
    by_id = {one.span.id: one for one in seen}
    asked = dict(done)
    scores = {name: Score(name) for name in hops}
    _count_expected(scores, hops, asked)
    _count_found(scores, seen, asked)
    for one in seen:
        account = scores[one.hop]
        if one.span.kind == "server":
            _judge_join(account, one, by_id, hops, asked)
        elif one.span.kind == "client":
            if one.hop == LOAD or not hops[one.hop].judged:
                _judge_root(account, one)
            else:
                _judge_parent(account, one, by_id, asked)
    for account in scores.values():
        account.servers_expected = account.servers_expected or account.servers
        account.missing = account.clients_expected - account.right - account.linked - account.methods.pop(_LATELY, 0)
    return scores


def _pid(span: SeenSpan) -> int:
    pid = span.resource.get("process.pid", 0)
    return pid if isinstance(pid, int) else 0


def _count_expected(scores: dict[str, Score], hops: Mapping[str, Hop], asked: Mapping[str, int]) -> None:
    """Requests multiply along the chain: what a hop gets is what its caller sends.

    Where a hop calls several others, how many go to which is not known here.
    """
    callees = Counter(hop.caller for hop in hops.values())
    sent: dict[str, int] = {LOAD: len(asked)}
    for hop in reversed(list(hops.values())):
        if hop.name == LOAD:
            continue
        got = sent.get(hop.caller, 0)
        if hop.calls is None and hop.judged:
            sent[hop.name] = sum(asked.values()) * (got // len(asked) if asked else 0)
        else:
            sent[hop.name] = got * (hop.calls or 0)
        account = scores[hop.name]
        account.servers_expected = got if callees[hop.caller] == 1 else 0
        account.clients_expected = sent[hop.name] if hop.judged else 0


def _count_found(scores: dict[str, Score], seen: Sequence[_Seen], asked: Mapping[str, int]) -> None:
    times: dict[tuple[str, str, str], int] = defaultdict(int)
    for one in seen:
        times[one.hop, one.span.kind, one.token] += 1
    for (hop, kind, token), count in times.items():
        account = scores[hop]
        account.duplicates += count - 1
        if _identity(token) in asked:
            account.servers += kind == "server"
            account.clients += kind == "client" and hop != LOAD


def _identity(token: str) -> str:
    return token.split("/", 1)[0]


def _judge_parent(account: Score, one: _Seen, by_id: Mapping[str, _Seen], asked: Mapping[str, int]) -> None:
    """A call of a program under test."""
    counts = _identity(one.token) in asked
    if not one.span.parent:
        if counts and any(_fits(by_id.get(link), one) for link in one.span.links):
            account.linked += 1
        return
    parent = by_id.get(one.span.parent)
    method = str(one.span.get("otel_ebpf.link.method"))
    if _fits(parent, one):
        account.right += counts
        account.methods[f"{method} right"] += 1
        return
    account.wrong += 1
    account.methods[f"{method} wrong"] += 1
    account.methods[_LATELY] += counts
    _example(account, f"{one.tell()} is below {parent.tell() if parent else 'a span that was not exported'}")


def _fits(parent: _Seen | None, one: _Seen) -> bool:
    return (
        parent is not None
        and parent.hop == one.hop
        and parent.span.kind == "server"
        and parent.token in (one.token, one.token.rpartition("/")[0])
        and parent.span.trace == one.span.trace
    )


def _judge_join(
    account: Score, one: _Seen, by_id: Mapping[str, _Seen], hops: Mapping[str, Hop], asked: Mapping[str, int]
) -> None:
    """The other end of a call."""
    if not one.span.parent:
        return
    parent = by_id.get(one.span.parent)
    if (
        parent is not None
        and parent.hop == hops[one.hop].caller
        and parent.span.kind == "client"
        and parent.token == one.token
        and parent.span.trace == one.span.trace
    ):
        account.joins_right += _identity(one.token) in asked
        return
    account.joins_wrong += 1
    _example(account, f"{one.tell()} is below {parent.tell() if parent else 'a span that was not exported'}")


def _judge_root(account: Score, one: _Seen) -> None:
    """What the load or a backend sends has no parent."""
    if one.span.parent:
        account.wrong += 1
        _example(account, f"{one.tell()} has a parent")


def _example(account: Score, text: str) -> None:
    if len(account.examples) < 5:
        account.examples.append(text)
