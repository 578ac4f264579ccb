"""What DPO, KTO and SFT jobs learn from recorded data, beside the same jobs on data that says nothing.

`python -m benchmarks.jobs` takes the jobs that the stream made of the recorded homes and reasoning traces (it runs the
stream first where no `--stream` is given), trains each tier with several seeds on the data as it is and on a control
(pairs with chosen and rejected swapped at random; labels shuffled; traces with answers of other prompts), and prints
what each run did to the same held-out prompts. A DPO job has some twenty prompts, so each seed takes another of them.
Every run is a job's own process; runs that have a result are not repeated, so a killed benchmark goes on where it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from benchmarks.job_data import CONTROLS, TIERS, Lines, controlled, read_jobs, write_run
from benchmarks.job_report import markdown
from benchmarks.machine import in_words, machine
from schemas.events import JobTier
from schemas.settings import Settings

REDUCED: dict[str, Any] = {
    "dpo": {},
    "sft": {"max_length": 320},
    "gate": {"held_out_one_in": 6},
}
"""What is set otherwise than by default: more prompts are held out, so that the interval says more, and reasoning is
cut shorter, so that two cores are done within the hour."""


@click.command()
@click.option("--stream", type=click.Path(path_type=Path), help="Data directory of a run of the stream.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder of the runs; is kept.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Runs of each kind.")
@click.option("--tier", "tiers", type=click.Choice(TIERS), multiple=True, default=TIERS, help="Tiers to train.")
@click.option(
    "--job",
    "which",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Which of the DPO jobs the first seed trains; each further one the next.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of a run.")
@click.option("--controls/--no-controls", default=True, help="Train on data that says nothing, too.")
@click.option(
    "--steps", type=click.IntRange(0), default=0, help="End a run early; DPO's take two answers for KTO's one."
)
@click.option("--held-out", type=click.IntRange(2), default=39, show_default=True, help="Examples to judge on.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the tables there.")
def main(
    stream: Path | None,
    work: Path,
    seeds: int,
    tiers: Sequence[JobTier],
    which: int,
    threads: int,
    controls: bool,
    steps: int,
    held_out: int,
    markdown_file: Path | None,
) -> None:
    """Train on recorded data and on controls, and compare.

    Example: python -m benchmarks.jobs --work /tmp/jobs --seeds 3
    """
    console = Console(stderr=True)
    reduced = {**REDUCED, "gate": {**REDUCED["gate"], "held_out_size": held_out}}
    if stream is None:
        stream = _run_stream(work / "stream")
    lines = {tier: read_jobs(stream, tier) for tier in TIERS}
    if not all(lines.values()):
        raise click.ClickException(f"{stream} has no DPO and no SFT jobs; leave --stream out to make them")
    if "sft" not in tiers:
        lines["sft"] = []  # each trace takes the gate as long as several answers
    kinds = [(tier, control) for tier in tiers for control in ((None, CONTROLS[tier]) if controls else (None,))]
    wanted = [(tier, control, seed) for seed in range(seeds) for tier, control in kinds]
    with Progress(console=console) as progress:
        task = progress.add_task("training jobs", total=len(wanted))
        for tier, control, seed in wanted:
            name = f"{tier}-{control or 'as it is'}-{seed}".replace(" ", "-")
            progress.update(task, description=name)
            picked = 0 if tier == "sft" else (which + seed) % len(lines[tier])
            _train(work / "runs" / name, work / "base", lines, tier, picked, control, seed, threads, steps, reduced)
            progress.advance(task)
    text = markdown(list(results(work / "runs")), in_words(machine()), reduced, threads)
    click.echo(text)
    if markdown_file:
        markdown_file.write_text(text, "utf-8")


def results(runs: Path) -> Iterator[dict[str, Any]]:
    """Yield what is known of each run that has ended: tier, control, seed and result."""
    for path in sorted(runs.glob("*/run.json")):
        yield json.loads(path.read_bytes())


def _train(
    folder: Path,
    base: Path,
    lines: dict[JobTier, list[Lines]],
    tier: JobTier,
    picked: int,
    control: str | None,
    seed: int,
    threads: int,
    steps: int,
    reduced: dict[str, Any],
) -> None:
    if (folder / "run.json").exists():
        return
    limit = {"max_steps": steps, "seed": seed, "threads": threads}
    training = {name: {**reduced[name], **limit} for name in ("dpo", "sft")}
    settings = Settings.model_validate({"jobs": {**training, "gate": reduced["gate"]}})
    used = {name: list(sets) for name, sets in lines.items()}
    if control is not None:
        used[tier][picked] = controlled(tier, used[tier][picked], seed, settings.jobs.gate.held_out_one_in)
    job = write_run(folder, base, used, tier, picked, settings)
    with (folder / "log.txt").open("ab") as log:
        code = subprocess.run(
            [sys.executable, "-m", f"trainers.jobs.{tier}", str(job)], stdout=log, stderr=log, check=False
        ).returncode
    if not (job / "result.json").exists():
        raise click.ClickException(f"the job's process ended with {code}; its log is {folder / 'log.txt'}")
    result = json.loads((job / "result.json").read_bytes())
    (folder / "run.json").write_text(json.dumps({"tier": tier, "control": control, "seed": seed, "result": result}))


def _run_stream(folder: Path) -> Path:
    data = folder / "true" / "data"
    if not data.is_dir():
        command: Sequence[str] = [
            sys.executable,
            "-m",
            "benchmarks.real_input",
            "--skip-shuffled",
            "--keep",
            str(folder),
        ]
        if subprocess.run(command, check=False).returncode:
            raise click.ClickException("the stream on recorded data failed; its output is above")
    return data


if __name__ == "__main__":
    main()
