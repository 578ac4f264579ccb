"""The figures of all engines, a table a group: medians with their spread, ratios, guarantees, and what kills led to."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from typing import Any

from rich.table import Table

from benchmarks.machine import machine
from benchmarks.peers.effects import Outcome
from benchmarks.peers.engines import BARE, ENGINES, FLOOR, GROUPS, Group
from benchmarks.peers.measure import Result

Found = Mapping[str, Sequence[Result]]
Outcomes = Mapping[str, Outcome]
Cells = list[list[str]]
"""The headings, then one row an engine."""


def groups_in(found: Found) -> dict[str, Group]:
    """Return the groups that something of ours and something of others was measured of."""
    return {
        key: group
        for key, group in GROUPS.items()
        if any(map(found.get, group.ours)) and any(map(found.get, (*group.peers, *group.others)))
    }


def ratios(found: Found, group: Group) -> dict[str, float]:
    """Return our events a second and CPU an event over the group's best peer's, bare aiokafka's and the floor's.

    Each round's engines run one after the other, so a ratio is taken within its round; the median over rounds counts.
    """
    result = {}
    for what, of, best_of in (("events/s", _rate, max), ("CPU", _cpu, min)):
        best = best_of(
            (name for name in group.peers if found.get(name)), key=lambda name: _median(found[name], of), default=""
        )
        references = {name: name for name in (BARE, FLOOR) if name in group.names}
        for ours in group.ours:
            for title, name in ((f"best peer ({best})", best), *references.items()):
                if found.get(ours) and found.get(name):
                    result[f"{what}, {ours} / {title}"] = _ratio(found[ours], found[name], of)
    return result


def figures(found: Found, outcomes: Outcomes) -> dict[str, Any]:
    """Return everything as JSON data."""
    return {
        "machine": machine(),
        "load_average": os.getloadavg(),
        "guarantees": {
            name: {"state": e.state, "delivery": e.delivery, "after a crash": e.after_a_crash, "pairs": e.pairs}
            for name, e in ENGINES.items()
            if name in found or name in outcomes
        },
        "rounds": {name: [_as_json(result) for result in results] for name, results in found.items()},
        "ratios": {
            key: {name: round(value, 3) for name, value in ratios(found, group).items()}
            for key, group in groups_in(found).items()
        },
        "kills": {name: asdict(outcome) for name, outcome in outcomes.items()},
    }


def measured(found: Found, rates: Sequence[float]) -> Cells:
    """Return what was measured."""
    headings = ["engine", "feedbacks/s", "CPU s / 1,000", "machine's CPU s / 1,000", "in use", "RSS MiB"]
    rows = [[*headings, *(f"p50 / p99 ms at {rate:,g}/s" for rate in rates)]]
    for name, results in found.items():
        cells = [
            name,
            _spread(results, _rate, ",.0f"),
            _spread(results, _cpu, ".3f"),
            _spread(results, lambda result: result.machine_per_1000, ".3f"),
            _spread(results, lambda result: result.in_use, ".0%"),
            _spread(results, lambda result: result.rss_bytes / 2**20, ",.0f"),
        ]
        rows.append(cells + [_latency([r.latencies[rate] for r in results if rate in r.latencies]) for rate in rates])
    return rows


def killed(outcomes: Outcomes) -> Cells:
    """Return what became of each engine's feedbacks."""
    headings = ["engine", "SIGKILLs", "feedbacks", "lost", "twice", "learned and forgotten", "joined after a kill"]
    rows = [[*headings, "ended by itself"]]
    for name, one in outcomes.items():
        counts = (one.kills, one.feedbacks, one.lost, one.twice, one.forgotten)
        joined = f"{one.joined:,} of {one.to_join:,}"
        rows.append([name, *(f"{count:,}" for count in counts), joined, f"{one.deaths:,}"])
    return rows


def given(names: Sequence[str]) -> Cells:
    """Return what each engine gives."""
    engines = [(name, ENGINES[name]) for name in names]
    return [
        ["engine", "join state", "an input is done", "learning after a crash", "pairs"],
        *([name, e.state, e.delivery, e.after_a_crash, "yes" if e.pairs else "no"] for name, e in engines),
    ]


def sections(found: Found, outcomes: Outcomes, rates: Sequence[float]) -> Iterator[tuple[str, Cells]]:
    """Yield every table with its title, group by group."""
    for group in GROUPS.values():
        ran = {name: found[name] for name in group.names if found.get(name)}
        ended = {name: outcomes[name] for name in group.names if name in outcomes} if group.killed else {}
        if ran:
            yield f"{group.title}: median (least to most) over the rounds", measured(ran, rates)
        if of := ratios(ran, group):
            yield f"{group.title}: ratios", [["median of the rounds", ""], *([k, f"{v:.2f}"] for k, v in of.items())]
        if ended:
            yield f"{group.title}: after SIGKILLs", killed(ended)
        if names := [name for name in group.names if name in ran or name in ended]:
            yield f"{group.title}: what each gives", given(names)


def terminal(title: str, cells: Cells) -> Table:
    """Return a table for a terminal; figures stand right."""
    head, *rows = cells
    table = Table(title=title)
    for heading, figures_in in zip(head, _are_figures(rows), strict=True):
        table.add_column(heading, justify="right" if figures_in else "left")
    for row in rows:
        table.add_row(*row)
    return table


def markdown(title: str, cells: Cells) -> str:
    """Return a table for a document; figures stand right."""
    head, *rows = cells
    lines = [head, ["---:" if figures_in else "---" for figures_in in _are_figures(rows)], *rows]
    return f"## {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _are_figures(rows: Sequence[Sequence[str]]) -> list[bool]:
    return [any(cell[:1].isdigit() for cell in column) for column in zip(*rows, strict=True)]


def _rate(result: Result) -> float:
    return result.per_second


def _cpu(result: Result) -> float:
    return result.cpu_per_1000


def _ratio(ours: Sequence[Result], theirs: Sequence[Result], of: Callable[[Result], float]) -> float:
    return statistics.median(of(a) / of(b) for a, b in zip(ours, theirs, strict=False))


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "per_second": round(result.per_second, 1),
        "cpu_seconds_per_1000": round(result.cpu_per_1000, 4),
        "rss_bytes": result.rss_bytes,
        "machine_cpu_seconds_per_1000": round(result.machine_per_1000, 4),
        "machine_in_use": round(result.in_use, 3),
        "latency_ms": {f"{rate:g}": values for rate, values in result.latencies.items()},
    }


def _median(results: Sequence[Result], of: Callable[[Result], float]) -> float:
    return statistics.median(of(result) for result in results)


def _spread(results: Sequence[Any], of: Callable[[Any], float], form: str) -> str:
    values = [of(result) for result in results]
    middle = format(statistics.median(values), form)
    return middle if len(values) == 1 else f"{middle} ({min(values):{form}} to {max(values):{form}})"


def _latency(those: Sequence[Mapping[str, float]]) -> str:
    if not those:
        return ""
    parts = [_spread(those, itemgetter(name), ",.0f") for name in ("p50", "p99")]
    missing = sum(one["missing"] for one in those)
    return " / ".join(parts) + (f", {missing:g} missing" if missing else "")
