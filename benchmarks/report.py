"""The table of the runs: for the terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks.expectations import Published, counted
from benchmarks.real_run import Run

Lines = list[tuple[str, list[str]]]


def figures(run: Run, published: Published) -> dict[str, Any]:
    """Return a run's figures under the table's names, as JSON data."""
    seen, accuracy = run.seen, run.accuracy
    _, learned, held_out = counted(seen)
    result: dict[str, Any] = {
        "experiences in": len(published.experiences),
        "experiences scored": len(seen.scores.arrived),
        "feedbacks in": len(published.feedback),
        "feedbacks learned": learned,
        "feedbacks held out for validation": held_out,
        "traces in": len(published.traces),
        "dead-lettered": sum(seen.dead_letters.values()),
        **dict(_funnel(seen.funnel)),
        "pairs": len(seen.pair_ids),
        "DPO jobs of 80 pairs": len(seen.job_ids("dpo")),
        "traces stored": seen.traces.stored,
        "traces eligible": seen.traces.eligible,
        **{f"traces not eligible: {reason}": count for reason, count in sorted(seen.traces.reasons.items())},
        "SFT jobs of 100 traces": len(seen.job_ids("sft")),
        "scorer parameters": seen.scorer.get("parameters"),
        "scorer steps": seen.scorer.get("step"),
        "validation loss": seen.scorer.get("validation_loss"),
        "within-query accuracy": accuracy.value,
        "its standard error": accuracy.standard_error,
        "withheld queries with good and bad answers": accuracy.queries,
        "pairs of answers compared": accuracy.pairs,
        "score updates that came twice": seen.scores.repeated,
        "worker killed after feedbacks": list(run.killed_at),
        "seconds": round(run.seconds, 1),
    }
    return {name: value for name, value in result.items() if value != []}


def table_lines(runs: Mapping[str, Mapping[str, Any]]) -> Lines:
    """Return one line a figure, with one cell a run."""
    names = dict.fromkeys(name for run in runs.values() for name in run)
    return [(name, [_text(run.get(name)) for run in runs.values()]) for name in names]


def rich_table(runs: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the table for a terminal."""
    table = Table(title="The stream on recorded data")
    table.add_column("figure")
    for title in runs:
        table.add_column(title, justify="right")
    for name, cells in table_lines(runs):
        table.add_row(name, *cells)
    return table


def markdown_table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table for a README."""
    head = ["| figure | " + " | ".join(runs) + " |", "|---|" + "---:|" * len(runs)]
    return "\n".join([*head, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in table_lines(runs))]) + "\n"


def _funnel(funnel: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for kind, counts in funnel.items():
        yield f"{kind} answers", counts["answers"]
        for reason, count in counts["dropped"].items():
            if count:
                yield f"{kind} answers dropped: {reason}", count
        for side, count in counts["waiting"].items():
            yield f"{kind} answers waiting, {side}", count
        yield f"{kind} answers waiting for the same query", counts["waiting_for_same_query"]
        yield f"{kind} answers paired", counts["paired"]
        yield f"{kind} pairs", counts["pairs"]
        for reason, count in counts["comparisons"].items():
            if count:
                yield f"{kind} comparisons of the waiting: {reason}", count


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return ", ".join(map(_text, value)) if isinstance(value, Sequence) and not isinstance(value, str) else f"{value:,}"
