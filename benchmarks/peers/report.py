"""The figures of all engines: medians with their spread, ratios, and what each engine guarantees."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from rich.table import Table

from benchmarks.machine import machine
from benchmarks.peers.engines import BARE, ENGINES, FLOOR, OURS, PEERS, UNPAIRED
from benchmarks.peers.measure import Result

Found = Mapping[str, Sequence[Result]]


def ratios(found: Found) -> dict[str, float]:
    """Return Tierstream's events a second and CPU an event over the best peer's, bare aiokafka's and the floor's.

    Each round's engines run one after the other, so a ratio is taken within its round; the median over rounds counts.
    """
    result = {}
    for what, of, best_of in (("events/s", _rate, max), ("CPU", _cpu, min)):
        best = best_of(
            (name for name in PEERS if found.get(name)), key=lambda name: _median(found[name], of), default=""
        )
        for ours in (OURS, UNPAIRED):
            for title, name in ((f"best peer ({best})", best), (BARE, BARE), (FLOOR, FLOOR)):
                if found.get(ours) and found.get(name):
                    result[f"{what}, {ours} / {title}"] = _ratio(found[ours], found[name], of)
    return result


def figures(found: Found) -> dict[str, Any]:
    """Return everything as JSON data."""
    return {
        "machine": machine(),
        "load_average": os.getloadavg(),
        "guarantees": {
            name: {"state": e.state, "delivery": e.delivery, "after a crash": e.after_a_crash, "pairs": e.pairs}
            for name, e in ENGINES.items()
            if name in found
        },
        "rounds": {name: [_as_json(result) for result in results] for name, results in found.items()},
        "ratios": {name: round(value, 3) for name, value in ratios(found).items()},
    }


def table_rows(found: Found, rates: Sequence[float]) -> list[list[str]]:
    """Return the headings, then one row an engine."""
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


def tables(found: Found, rates: Sequence[float]) -> Iterator[Table]:
    """Yield the tables for a terminal."""
    measured = Table(title="The same work, median (least to most) over the rounds")
    head, *rows = table_rows(found, rates)
    for heading in head:
        measured.add_column(heading, justify="left" if heading == "engine" else "right")
    for row in rows:
        measured.add_row(*row)
    yield measured
    given = Table("engine", "join state", "an input is done", "learning after a crash", "pairs", title="What they give")
    for name in found:
        engine = ENGINES[name]
        given.add_row(name, engine.state, engine.delivery, engine.after_a_crash, "yes" if engine.pairs else "no")
    yield given


def markdown(found: Found, rates: Sequence[float]) -> str:
    """Return the measured table for a document."""
    head, *rows = table_rows(found, rates)
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


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
