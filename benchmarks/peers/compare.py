"""Tierstream and its peers at the same work on one broker, in turn, in several rounds.

`make bench-peers` makes the peers' environment and runs this.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console

from benchmarks.machine import in_words, machine
from benchmarks.peers.effects import Outcome
from benchmarks.peers.engines import BARE, ENGINES, GROUPS, OURS
from benchmarks.peers.kills import SESSION_SECONDS, outcome_of
from benchmarks.peers.measure import Result, Sizes, measure
from benchmarks.peers.report import figures, markdown, ratios, sections, terminal
from benchmarks.peers.running import STOPPED_SESSION_SECONDS, RunningEngine
from benchmarks.system import Command, CommandFailedError

WARMING_RUNS = 2
Found = defaultdict[str, list[Result]]
QUICK = {"experiences": 500, "feedbacks": 4_000, "rounds": 1, "rates": (200.0, 1000.0), "seconds": 1.0}


@click.command()
@click.option(
    "--peers-python",
    default=sys.executable,
    help="Python of the environment that has the peers' packages; ours does for bare aiokafka and the floor.",
)
@click.option("--experiences", type=click.IntRange(1), default=2_000, show_default=True)
@click.option("--feedbacks", type=click.IntRange(1), default=20_000, show_default=True, help="At saturation.")
@click.option("--rounds", type=click.IntRange(0), default=3, show_default=True, help="0: nothing but kills.")
@click.option("--rate", "rates", type=click.FloatRange(1), multiple=True, default=(200.0, 1000.0, 5000.0))
@click.option("--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Of each rate.")
@click.option(
    "--group", "groups", type=click.Choice(list(GROUPS)), multiple=True, default=("memory",), show_default=True
)
@click.option("--engine", "engines", type=click.Choice(list(ENGINES)), multiple=True, help="These alone.")
@click.option("--kills/--no-kills", default=True, show_default=True, help="SIGKILL those that claim to survive it.")
@click.option("--kill-feedbacks", type=click.IntRange(100), default=5_000, show_default=True, help="While killing.")
@click.option("--quick", is_flag=True, help="One short round; the figures say little.")
@click.option("--least-ratio", type=float, help="Exit 1 where Tierstream is below this share of bare aiokafka.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the tables there.")
@click.pass_context
def main(
    context: click.Context,
    /,
    peers_python: str,
    groups: tuple[str, ...],
    engines: tuple[str, ...],
    kills: bool,
    kill_feedbacks: int,
    quick: bool,
    least_ratio: float | None,
    json_file: Path | None,
    markdown_file: Path | None,
    **given: object,
) -> None:
    """Measure the engines in turn and print them beside each other.

    Example: make bench-peers; or make bench-peers PEERS_OPTIONS="--group durable --group join"
    """
    if quick:
        by_default = click.core.ParameterSource.DEFAULT
        given |= {k: v for k, v in QUICK.items() if context.get_parameter_source(k) is by_default}
    rounds, sizes = int(str(given.pop("rounds"))), Sizes(**given)  # type: ignore[arg-type]
    names = chosen(groups, engines)
    killed = [
        name for name in names if kills and any(name in GROUPS[key].names for key in groups if GROUPS[key].killed)
    ]
    jobs = jobs_of(names, rounds, sizes, killed, kill_feedbacks)
    # A fresh broker compiles its code while it works, at the expense of whoever comes first: at 200 feedbacks a second
    # it takes 0.8 of a core at first, 0.3 after two runs.
    warming = jobs_of(names[:1], min(rounds, 1) * WARMING_RUNS, sizes, (), 0)
    if not jobs:
        raise click.UsageError("there is nothing to measure")
    # Told to end, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found, outcomes = Found(list), dict[str, Outcome]()
    try:
        failed = collect(jobs, warming, peers_python, found, outcomes, json_file)
    except CommandFailedError as error:
        raise click.ClickException(str(error)) from error
    console, tables = Console(width=max(150, Console().width)), list(sections(found, outcomes, sizes.rates))
    for title, cells in tables:
        console.print(terminal(title, cells))
    console.print(in_words(machine()), soft_wrap=True)
    if markdown_file is not None:
        markdown_file.write_text("\n".join(markdown(title, cells) for title, cells in tables), "utf-8")
    if least_ratio is not None:
        failed |= ratios(found, GROUPS["memory"]).get(f"events/s, {OURS} / {BARE}", 0.0) < least_ratio
    sys.exit(failed)


def collect(
    jobs: Sequence[Job],
    warming: Sequence[Job],
    peers_python: str,
    found: Found,
    outcomes: dict[str, Outcome],
    json_file: Path | None,
) -> bool:
    """Do every job, put what comes of it into `found` and `outcomes`, tell it, and say whether an engine failed.

    Raises:
        CommandFailedError: the broker does not start.
    """
    failed, console = False, Console(stderr=True)
    for number, (name, result) in enumerate(run(jobs, warming, peers_python), start=1):
        progress = f"{number} of {len(jobs)}: {name}"
        if isinstance(result, Result):
            found[name].append(result)
            console.log(f"{progress}: {result.per_second:,.0f} feedbacks/s")
        elif isinstance(result, Outcome):
            outcomes[name] = result
            console.log(f"{progress}, killed {result.kills} times: {result.lost} lost, {result.twice} twice")
        else:
            failed = True
            console.log(f"{progress} is left out: {result}")
        if json_file is not None:  # after each, so that a run that is cut short leaves what it has
            json_file.write_text(json.dumps(figures(found, outcomes), indent=2) + "\n", "utf-8")
    return failed


def chosen(groups: Sequence[str], engines: Sequence[str]) -> list[str]:
    """Return each engine of the groups once, or those that were named; one that the machine cannot run is told."""
    console = Console(stderr=True)
    names = dict.fromkeys(name for key in groups for name in GROUPS[key].names)
    able = []
    for name in engines or names:
        if missing := ENGINES[name].missing:
            console.log(f"{name} is skipped: {missing}")
        else:
            able.append(name)
    return able


class Job(NamedTuple):
    """Something to be done with an engine."""

    name: str
    what: Callable[[RunningEngine], Coroutine[Any, Any, Result | Outcome]]
    session_seconds: int = STOPPED_SESSION_SECONDS


def jobs_of(engines: Sequence[str], rounds: int, sizes: Sizes, killed: Sequence[str], kill_feedbacks: int) -> list[Job]:
    """Return what is to be done, in order: each round is begun by another engine, and kills come last."""
    order = [engines[(place + turn) % len(engines)] for turn in range(rounds) for place in range(len(engines))]
    return [
        *(Job(name, lambda engine: measure(engine, sizes)) for name in order),
        *(
            Job(name, lambda engine: outcome_of(engine, sizes.experiences, kill_feedbacks), SESSION_SECONDS)
            for name in killed
        ),
    ]


def run(
    jobs: Sequence[Job], warming: Sequence[Job], peers_python: str
) -> Iterator[tuple[str, Result | Outcome | CommandFailedError]]:
    """Start a broker, do what does not count, and yield each job's result.

    Raises:
        CommandFailedError: the broker does not start.
    """
    with _broker() as (bootstrap, folder):
        list(in_turn(bootstrap, folder / "warming", warming, peers_python))
        yield from in_turn(bootstrap, folder, jobs, peers_python)


@contextmanager
def _broker() -> Iterator[tuple[str, Path]]:
    # A topic that was just made has no leader for a moment, and aiokafka tells of each try.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="tierstream-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        arguments = ["broker", "--broker", "kafka", "--broker-port", "0", "--data-dir", str(folder / "data")]
        with Command(arguments, {}, folder / "broker.log") as broker:
            broker.wait_until_ready()
            yield broker.values["broker"], folder


def in_turn(
    bootstrap: str, folder: Path, jobs: Sequence[Job], peers_python: str
) -> Iterator[tuple[str, Result | Outcome | CommandFailedError]]:
    """Yield each job's result on a broker that runs; an engine that failed is left out from then on."""
    folder.mkdir(exist_ok=True)
    failed: set[str] = set()
    for number, job in enumerate(jobs):
        if job.name in failed:
            continue
        engine = RunningEngine(job.name, peers_python, bootstrap, folder, number, job.session_seconds)
        result: Result | Outcome | CommandFailedError
        try:
            result = asyncio.run(job.what(engine))
        except CommandFailedError as error:
            failed.add(job.name)
            result = error
        finally:
            engine.stop()
        yield job.name, result


if __name__ == "__main__":
    main()
