"""What a whole job costs beside a bare TRL script on the same data, in one run.

`python -m benchmarks.job_cost --stream DATA_DIR --work FOLDER` trains the same steps of the same job in turns: as the
job's process, and as the shortest script that TRL allows, each in a process of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.job_data import TIERS, JobTier, read_jobs, write_run
from benchmarks.machine import in_words, machine
from schemas.settings import Settings

_STEPS = 6


@click.command()
@click.option("--stream", type=click.Path(path_type=Path), required=True, help="Data directory of a run of the stream.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder of the runs.")
@click.option("--tier", type=click.Choice(TIERS), default="dpo", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Pairs of runs; medians are told.")
@click.option("--steps", type=click.IntRange(2), default=_STEPS, show_default=True, help="Optimizer steps of a run.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of a run.")
def main(stream: Path, work: Path, tier: JobTier, rounds: int, steps: int, threads: int) -> None:
    """Compare a job with a bare TRL script.

    Example: python -m benchmarks.job_cost --stream /tmp/jobs/stream/true/data --work /tmp/cost
    """
    training = {"max_steps": steps, "threads": threads, "max_length": 160}
    settings = Settings.model_validate({"jobs": {tier: training, "gate": {"held_out_size": 2}}})
    found: dict[str, list[dict[str, float]]] = {"job": [], "bare TRL": []}
    for number in range(rounds):
        folder = work / f"{tier}-{number}"
        job = write_run(folder, work / "base", {tier: read_jobs(stream, tier)[:2]}, tier, 0, settings)
        # In turns, first the one and then the other: neither has the warmer machine.
        for kind in list(found)[:: 1 if number % 2 == 0 else -1]:
            module = f"trainers.jobs.{tier}" if kind == "job" else "benchmarks.job_cost_bare"
            found[kind].append(_measured(module, job, kind))
            click.echo(f"{kind}: {found[kind][-1]}", err=True)
    click.echo(_table(found, tier, steps))


def _measured(module: str, job: Path, kind: str) -> dict[str, float]:
    begun = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", module, str(job)], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise click.ClickException(f"{module} ended with {done.returncode}: {done.stderr[-500:]}")
    if kind == "job":
        told: dict[str, Any] = json.loads((job / "result.json").read_bytes())["metrics"]
    else:
        told = json.loads(done.stdout.splitlines()[-1])
    seconds = told["seconds_per_step"]
    return {
        "seconds a step": seconds,
        "CPU seconds a step": told["cpu_seconds_per_step"],
        "tokens a second": told["train_tokens"] / (seconds * told["steps"]),
        "peak memory, MiB": told["peak_memory_mib"],
        "whole process, s": time.perf_counter() - begun,
        "whole process, CPU s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


def _table(found: dict[str, list[dict[str, float]]], tier: str, steps: int) -> str:
    rows = [f"{tier}, {steps} steps; {in_words(machine())}\n"]
    rows += ["| median of runs | job | bare TRL | ratio |", "|---|---|---|---|"]
    for name in found["job"][0]:
        job, bare = (median(one[name] for one in found[kind]) for kind in found)
        rows.append(f"| {name} | {job:.2f} | {bare:.2f} | {job / bare:.3f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
