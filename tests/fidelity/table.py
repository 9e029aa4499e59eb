"""The matrix's output."""

from __future__ import annotations

from collections.abc import Sequence

from tests.fidelity.harness import Outcome
from tests.fidelity.row import PARALLEL
from tests.fidelity.score import Score

HEADER = ("row", "order", "calls", "done", "right %", "wrong", "links", "open", "joined", "servers", "clients", "twice")


def cells(outcome: Outcome) -> tuple[str, ...]:
    """One line of the table. joined, servers, clients: of those that there were."""
    start = (outcome.row.name, outcome.mode.order, f"{outcome.mode.calls}{' fast' if outcome.mode.fast else ''}")
    if outcome.error:
        return (*start, outcome.error.splitlines()[0][:100])
    judged, (joined, joins) = outcome.judged, outcome.joins
    return (
        *start,
        f"{outcome.done}/{outcome.asked}",
        f"{outcome.right:.2f}{'' if outcome.right >= outcome.row.target else '*'}",
        str(outcome.wrong),
        str(sum(one.linked for one in judged)),
        str(sum(one.missing for one in judged)),
        f"{joined}/{joins}",
        f"{sum(one.servers for one in judged)}/{sum(one.servers_expected for one in judged)}",
        f"{sum(one.clients for one in judged)}/{sum(one.clients_expected for one in judged)}",
        str(outcome.duplicates),
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """All of it; * marks a share of right parents below the row's target."""
    lines = [HEADER, *(cells(outcome) for outcome in outcomes)]
    whole = [line for line in lines if len(line) == len(HEADER)]
    widths = [max(len(line[column]) for line in whole) for column in range(len(HEADER))]
    widths[0] = max(len(line[0]) for line in lines)
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)) for line in lines)


BEGIN, END = "<!-- measured: make fidelity -->\n", "<!-- end -->\n"


def into(text: str, outcomes: Sequence[Outcome]) -> str:
    """The document with the outcomes' rows in the table between BEGIN and END; ValueError if it has no such place.

    Rows that were not run stay as they are.
    """
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN.strip()} … {END.strip()}")
    lines = {tuple(line.split(" | ")[:2]): line for line in (old + markdown(outcomes)).splitlines(keepends=True)}
    return f"{before}{BEGIN}{''.join(lines.values())}{END}{after}"


def markdown(outcomes: Sequence[Outcome]) -> str:
    """One line a row: percent of right parents with the agent first and with the program first."""
    lines = [
        "| runtime | what | calls | in sequence, right % | in parallel, right % | links | wrong | target |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in dict.fromkeys(outcome.row for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.row is row and not outcome.error]
        if not mine:
            continue
        judged = [one for outcome in mine for one in outcome.judged]
        shares = [
            " / ".join(f"{outcome.right:.4g}" for outcome in mine if outcome.mode.calls == calls) or "–"
            for calls in ("seq", PARALLEL)
        ]
        calls = sum(one.clients_expected for one in judged)
        linked, wrong = sum(one.linked for one in judged), sum(outcome.wrong for outcome in mine)
        target = f"{row.target:g}" if row.target else "as many as are certain"
        lines.append(
            f"| {row.runtime} | {row.what} | {calls:,} | {' | '.join(shares)} | {linked} | {wrong} | {target} |"
        )
    return "\n".join(lines) + "\n"


def notes(outcome: Outcome) -> list[str]:
    """What went wrong, for people: examples, methods of parents, errors of the load."""
    told = [f"  {example}" for one in outcome.scores for example in one.examples]
    told += [f"  load: {error}" for error in outcome.errors]
    told += [f"  {one.hop}: {dict(one.methods)}" for one in outcome.judged if one.methods]
    told += [f"  {line}" for line in outcome.error.splitlines()[1:]]
    return told


def plain(outcome: Outcome) -> dict[str, object]:
    """For --json."""
    return {
        "row": outcome.row.name,
        "runtime": outcome.row.runtime,
        "what": outcome.row.what,
        "target": outcome.row.target,
        "order": outcome.mode.order,
        "calls": outcome.mode.calls,
        "fast": outcome.mode.fast,
        "asked": outcome.asked,
        "done": outcome.done,
        "right_percent": round(outcome.right, 3),
        "wrong": outcome.wrong,
        "duplicates": outcome.duplicates,
        "error": outcome.error,
        "hops": [{name: value for name in Score.__slots__ if (value := getattr(one, name))} for one in outcome.scores],
    }
