"""The agents that report to this store, by their own telemetry (the instruments of `control.statistics`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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

_AGENTS = 500
_COUNTERS = [name for name, instrument in INSTRUMENTS.items() if instrument.kind == "counter"]
_LEVELS = [name for name, instrument in INSTRUMENTS.items() if instrument.kind != "counter"]
_LOSSES = {
    "otel_ebpf.losses": ("otel_ebpf.where", "otel_ebpf.reason"),
    "otel_ebpf.parse.failures": (None, "otel_ebpf.protocol"),
    "otel_ebpf.export.errors": ("otel_ebpf.signal", "error.type"),
}
"""Counters of what was lost, with the attributes that say where (None: the metric's name does), and why."""
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


def _agent(who: Row, grown: list[Growth], levels: list[Row]) -> Agent:
    about = attributes(who["attributes"])
    cpu = list(_of(grown, "process.cpu.time"))
    memory = list(_levels(levels, "process.memory.usage"))
    return Agent(
        host=str(about.get("host.name", "")),
        instance=str(about.get("service.instance.id", "")),
        version=str(about.get("service.version", "")),
        seen=ms(who["seen"]),
        spans_per_second=_rate(_of(grown, "otel_ebpf.spans")),
        exchanges=round(sum(growth.value for growth in _of(grown, "otel_ebpf.exchanges"))),
        cpu=_rate(cpu) if cpu else None,
        rss_bytes=memory[0][1] if memory else None,
        ring_fill=[
            RingFill(ring=str(labels.get("otel_ebpf.ring", "")), ratio=ratio)
            for labels, ratio in _levels(levels, "otel_ebpf.ring.fill")
        ],
        losses=sorted(_losses(grown), key=lambda loss: -loss["count"]),
        failures=[
            AgentFailure(what=str(labels.get("otel_ebpf.program", "")), reason="not attached", count=round(count))
            for labels, count in _levels(levels, "otel_ebpf.attach.failures")
            if count > 0
        ],
        stages=[
            StageCost(stage=str(growth.attributes.get("otel_ebpf.stage", "")), cpu=_rate([growth]))
            for growth in _of(grown, "otel_ebpf.stage.time")
        ],
        programs=list(_programs(grown)),
    )


def _of(grown: Iterable[Growth], name: str) -> Iterator[Growth]:
    return (growth for growth in grown if growth.name == name)


def _levels(levels: Iterable[Row], name: str) -> Iterator[tuple[dict[str, object], float]]:
    for row in levels:
        if text(row["name"]) == name and row["value"] is not None:
            yield attributes(row["attributes"]), real(row["value"])


def _rate(grown: Iterable[Growth]) -> float:
    return round(sum(growth.value / growth.seconds for growth in grown), 6)


def _losses(grown: Iterable[Growth]) -> Iterator[AgentLoss]:
    for growth in grown:
        if growth.name not in _LOSSES or growth.value <= 0:
            continue
        where, why = _LOSSES[growth.name]
        place = growth.attributes.get(where, "") if where else ""
        yield AgentLoss(
            metric=f"{growth.name} {place}".strip(),
            reason=str(growth.attributes.get(why, "")),
            count=round(growth.value),
            per_second=_rate([growth]),
        )


def _programs(grown: list[Growth]) -> Iterator[ProgramCost]:
    runs = {growth.attributes.get("otel_ebpf.program"): growth for growth in _of(grown, "otel_ebpf.bpf.runs")}
    for spent in _of(grown, "otel_ebpf.bpf.time"):
        program = spent.attributes.get("otel_ebpf.program", "")
        ran = runs.get(program)
        count = ran.value if ran else 0.0
        yield ProgramCost(
            program=str(program),
            cpu=_rate([spent]),
            runs_per_second=_rate([ran] if ran else []),
            ns_per_run=round(spent.value * 1e9 / count, 1) if count else 0.0,
        )
