"""`python -m tests.chaos`: the fault suite by itself, with its table."""

from __future__ import annotations

import json
import logging
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tests.chaos.faults import FAULTS
from tests.chaos.run import Report, run


@click.command()
@click.option("--minutes", default=5.0, show_default=True, help="Begin no further round after this.")
@click.option("--rounds", default=10_000, show_default=True, help="At most so many rounds.")
@click.option("--seed", default=1, show_default=True, help="Of faults, moments and events.")
@click.option("--fault", "faults", multiple=True, type=click.Choice(list(FAULTS)), help="Only this one; repeatable.")
@click.option("--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Kafka nodes.")
@click.option("--events", default=120, show_default=True, help="Experiences of a round.")
@click.option("--train", is_flag=True, help="Jobs train a tiny model; otherwise only their datasets are checked.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to keep all files; by default nowhere.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(
    minutes: float,
    rounds: int,
    seed: int,
    faults: tuple[str, ...],
    brokers: str,
    events: int,
    train: bool,
    folder: Path | None,
    as_json: Path | None,
) -> None:
    """Break a running deployment again and again, and see that nothing is lost and nothing done twice.

    Example: python -m tests.chaos --minutes 30 --seed 7 --json chaos.json
    """
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped, too
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the broker is killed under it
    until = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        report = run(
            folder or Path(temporary),
            seed,
            list(faults),
            lambda done: done < rounds and time.monotonic() < until,
            int(brokers),
            events,
            train,
            lambda line: console.print(line, highlight=False, soft_wrap=True),
        )
    found = figures(report)
    if as_json:
        as_json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    Console().print(table(found))
    for line in report.findings.lines():
        console.print(line, style="red", highlight=False, soft_wrap=True)
    sys.exit(0 if report.good else 1)


def figures(report: Report) -> dict[str, Any]:
    """Return the report as JSON data."""
    lost = Counter(report.rounds[report.round_of[i]].fault for i in report.findings.missing(report.round_of))
    rows = {}
    for name in dict.fromkeys(one.fault for one in report.rounds):
        own = [one for one in report.rounds if one.fault == name]
        rows[name] = {
            "rounds": len(own),
            "messages": sum(one.messages for one in own),
            "lost": lost[name],
            "slowest_recovery_seconds": round(max(one.recovery_seconds for one in own), 1),
            "median_recovery_seconds": round(sorted(one.recovery_seconds for one in own)[len(own) // 2], 1),
        }
    return {
        "seed": report.seed,
        "brokers": report.brokers,
        "minutes": round(report.seconds / 60, 1),
        "rounds": len(report.rounds),
        "messages": sum(one.messages for one in report.rounds),
        "lost": sum(len(ids) for ids in report.findings.lost.values()),
        "learned_twice": len(report.findings.twice),
        "jobs_launched_twice": len(report.findings.jobs_twice),
        "slowest_recovery_seconds": max((round(one.recovery_seconds, 1) for one in report.rounds), default=None),
        "hung": sum(not one.settled for one in report.rounds),
        "faults": rows,
        "signals": dict(report.signals),
        "times_told_to_leave": len(report.leaves),
        "slowest_to_leave_seconds": max((round(seconds, 1) for seconds in report.leaves), default=None),
        "effects": report.findings.figures,
        "exit_codes": {str(c): n for c, n in Counter(c for e in report.endings.values() for c in e).items()},
        "problems": report.findings.lines(),
    }


def table(found: dict[str, Any]) -> Table:
    """Return the table for the terminal."""
    result = Table(title=f"seed {found['seed']}, {found['brokers']} broker(s), {found['minutes']} minutes")
    for name in ("fault", "rounds", "messages", "lost", "median recovery, s", "slowest recovery, s"):
        result.add_column(name, justify="left" if name == "fault" else "right")
    for name, row in found["faults"].items():
        cells = (row["rounds"], row["messages"], row["lost"])
        seconds = (row["median_recovery_seconds"], row["slowest_recovery_seconds"])
        result.add_row(name, *(f"{cell:,}" for cell in cells), *map(str, seconds))
    result.add_section()
    total = (found["rounds"], found["messages"], found["lost"])
    result.add_row("all", *(f"{cell:,}" for cell in total), "", str(found["slowest_recovery_seconds"]))
    result.caption = (
        f"learned twice: {found['learned_twice']}, jobs launched twice: {found['jobs_launched_twice']}, "
        f"rounds that hung: {found['hung']}, other problems: {len(found['problems'])}; signals: "
        + ", ".join(f"{name} {count}" for name, count in sorted(found["signals"].items()))
        + f"; slowest worker to leave: {found['slowest_to_leave_seconds']} s"
    )
    return result


if __name__ == "__main__":
    main()
