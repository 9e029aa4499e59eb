"""The agents that report to this store, by their own telemetry (the instruments of `control.statistics`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from otel_ebpf.control.statistics import INSTRUMENTS
from otel_ebpf.viewer.api.answers import (
    Agent,
    AgentFailure,
    AgentLoss,
    Agents,
    ProgramCost,
    RingFill,
    StageCost,
)
from otel_ebpf.viewer.api.ask import Ask
from otel_ebpf.viewer.api.counters import Growth, growths
from otel_ebpf.viewer.api.values import Row, attributes, ms, real, text, whole
from otel_ebpf.viewer.api.window import SECOND

_AGENTS = 500
_ONE_REPORT = SECOND
"""Points that are nearer to one another are of one report: agents report every 5 s or less often."""
_COUNTERS = [name for name, instrument in INSTRUMENTS.items() if instrument.kind == "counter"]
_LEVELS = [name for name, instrument in INSTRUMENTS.items() if instrument.kind != "counter"]
_LOST, _UNREAD, _RETRIED = "otel_ebpf.losses", "otel_ebpf.parse.failures", "otel_ebpf.export.errors"
_WHY: dict[str, tuple[str | None, str]] = {
    _LOST: ("otel_ebpf.where", "otel_ebpf.reason"),
    _UNREAD: (None, "otel_ebpf.protocol"),
    _RETRIED: ("otel_ebpf.signal", "error.type"),
}
"""The attributes that say where (None: the metric's name does), and why."""
_WHO = f"""
SELECT p.resource, p.seen, r.attributes FROM (
    SELECT resource, max(time) AS seen FROM points
    WHERE starts_with(name, 'otel_ebpf.') AND time >= ? AND time < ? GROUP BY resource
) p LEFT JOIN resources r ON r.id = p.resource ORDER BY p.seen DESC LIMIT {_AGENTS}
"""
_LAST = """
SELECT resource, name, attributes, arg_max(value, time) AS value FROM points
WHERE list_contains(?, name) AND list_contains(?::UBIGINT[], resource) AND time >= ? AND time < ?
GROUP BY resource, name, attributes
"""


def agents(ask: Ask) -> Agents:
    """GET /agents"""
    window = ask.window
    who = ask.reader.rows(_WHO, [window.start, window.end])
    found: dict[int, list[Growth]] = {whole(row["resource"]): [] for row in who}
    for growth in growths(ask.reader, _COUNTERS, window):
        if growth.resource in found:
            found[growth.resource].append(growth)
    levels: dict[int, list[Row]] = {number: [] for number in found}
    for row in ask.reader.rows(_LAST, [_LEVELS, list(found), window.start, window.end]):
        levels[whole(row["resource"])].append(row)
    return Agents(
        start=ms(window.start),
        end=ms(window.end),
        agents=[_agent(row, found[whole(row["resource"])], levels[whole(row["resource"])]) for row in who],
    )


@dataclass(frozen=True, slots=True)
class _Counted:
    """What one agent's counters grew by between its first report and its last.

    All figures are over this one time, so that they can be compared. The first report is where it begins: what an agent
    did until then, while it started, took an unknown time. A counter that came later counts from zero.
    """

    grown: list[Growth]
    begin: int
    end: int

    @staticmethod
    def of(grown: list[Growth]) -> _Counted:
        return _Counted(
            grown, min((one.began for one in grown), default=0), max((one.seen for one in grown), default=0)
        )

    @property
    def seconds(self) -> float:
        """0.0: there is one report."""
        return (self.end - self.begin) / SECOND if self.end - self.begin >= _ONE_REPORT else 0.0

    def named(self, name: str) -> Iterator[Growth]:
        return (growth for growth in self.grown if growth.name == name)

    def amount(self, grown: Iterable[Growth]) -> float:
        if not self.seconds:
            return 0.0
        return sum(one.whole if one.began - self.begin >= _ONE_REPORT else one.later for one in grown)

    def rate(self, grown: Iterable[Growth]) -> float:
        return round(self.amount(grown) / self.seconds, 6) if self.seconds else 0.0


def _agent(who: Row, grown: list[Growth], levels: list[Row]) -> Agent:
    about, counted = attributes(who["attributes"]), _Counted.of(grown)
    cpu = list(counted.named("process.cpu.time"))
    memory = list(_levels(levels, "process.memory.usage"))
    return Agent(
        host=str(about.get("host.name", "")),
        instance=str(about.get("service.instance.id", "")),
        version=str(about.get("service.version", "")),
        seen=ms(who["seen"]),
        seconds=round(counted.seconds, 3),
        spans_per_second=counted.rate(counted.named("otel_ebpf.spans")),
        exchanges=round(counted.amount(counted.named("otel_ebpf.exchanges"))),
        cpu=counted.rate(cpu) if cpu and counted.seconds else None,
        rss_bytes=memory[0][1] if memory else None,
        ring_fill=[
            RingFill(ring=str(labels.get("otel_ebpf.ring", "")), ratio=ratio)
            for labels, ratio in _levels(levels, "otel_ebpf.ring.fill")
        ],
        losses=_losses(counted, _LOST),
        unread=_losses(counted, _UNREAD),
        retried=_losses(counted, _RETRIED),
        failures=[
            AgentFailure(what=str(labels.get("otel_ebpf.program", "")), reason="not attached", count=round(count))
            for labels, count in _levels(levels, "otel_ebpf.attach.failures")
            if count > 0
        ],
        stages=[
            StageCost(stage=str(growth.attributes.get("otel_ebpf.stage", "")), cpu=counted.rate([growth]))
            for growth in counted.named("otel_ebpf.stage.time")
        ],
        programs=list(_programs(counted)),
    )


def _levels(levels: Iterable[Row], name: str) -> Iterator[tuple[dict[str, object], float]]:
    for row in levels:
        if text(row["name"]) == name and row["value"] is not None:
            yield attributes(row["attributes"]), real(row["value"])


def _losses(counted: _Counted, name: str) -> list[AgentLoss]:
    """All of the window, the most first: also what was lost until the first report is lost."""
    where, why = _WHY[name]
    found = [
        AgentLoss(
            metric=f"{name} {growth.attributes.get(where, '') if where else ''}".strip(),
            reason=str(growth.attributes.get(why, "")),
            count=round(growth.value),
            per_second=counted.rate([growth]),
        )
        for growth in counted.named(name)
        if growth.value > 0
    ]
    return sorted(found, key=lambda loss: -loss["count"])


def _programs(counted: _Counted) -> Iterator[ProgramCost]:
    runs = {growth.attributes.get("otel_ebpf.program"): growth for growth in counted.named("otel_ebpf.bpf.runs")}
    for spent in counted.named("otel_ebpf.bpf.time"):
        program = spent.attributes.get("otel_ebpf.program", "")
        ran = [runs[program]] if program in runs else []
        count = counted.amount(ran)
        yield ProgramCost(
            program=str(program),
            cpu=counted.rate([spent]),
            runs_per_second=counted.rate(ran),
            ns_per_run=round(counted.amount([spent]) * 1e9 / count, 1) if count else 0.0,
        )
