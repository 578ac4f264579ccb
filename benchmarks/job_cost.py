"""What a job costs beside a bare TRL script that trains the same examples with the same arguments, in one run.

`python -m benchmarks.job_cost --stream DATA_DIR --work FOLDER` trains the same steps in turns, as the job's process and
as the shortest script that TRL allows, each in a process of its own with as many threads as the other, and tells the
medians and what the pairs of runs lie between. The gate, which the script has none of, is told apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import psutil
from torch import cuda

from benchmarks.job_data import TIERS, read_jobs, write_run
from benchmarks.machine import in_words, machine
from schemas.events import JobTier
from schemas.settings import Settings
from streams.training.log import parse_progress
from trainers.jobs.base_model import ensure_base_model

KINDS = ("job", "bare TRL")
GATE = ("gate, s", "gate, CPU s")
PEAK = "peak_gpu_memory_mib"


@click.command()
@click.option("--stream", type=click.Path(path_type=Path), required=True, help="Data directory of a run of the stream.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder of the runs, empty or absent.")
@click.option("--tier", type=click.Choice(TIERS), default="dpo", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Pairs of runs.")
@click.option("--steps", type=click.IntRange(2), default=8, show_default=True, help="Optimizer steps of a run.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of a run.")
@click.option("--batch-size", type=click.IntRange(1), default=2, show_default=True, help="Examples of a forward pass.")
@click.option("--max-length", type=click.IntRange(16), default=160, show_default=True, help="Tokens of an example.")
def main(
    stream: Path, work: Path, tier: JobTier, rounds: int, steps: int, threads: int, batch_size: int, max_length: int
) -> None:
    """Compare a job with a bare TRL script.

    Example: python -m benchmarks.job_cost --stream /tmp/jobs/stream/true/data --work /tmp/cost
    """
    training = {"max_steps": steps, "threads": threads, "batch_size": batch_size, "max_length": max_length}
    settings = Settings.model_validate({"jobs": {tier: training}})
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        folder = work / f"{tier}-{number}"
        job = write_run(folder, work / "base", {tier: read_jobs(stream, tier)[:2]}, tier, 0, settings)
        # Made once in a data directory, so it is no part of a job's cost.
        ensure_base_model(settings.jobs.base_model, folder)
        # In turns, first the one and then the other: neither has the warmer machine.
        for kind in KINDS[:: 1 if number % 2 == 0 else -1]:
            module = f"trainers.jobs.{tier}" if kind == "job" else "benchmarks.job_cost_bare"
            found[kind].append(_measured(module, job, kind))
            click.echo(f"{kind}: {found[kind][-1]}", err=True)
    click.echo(table(found, tier, steps, threads))


def _measured(module: str, job: Path, kind: str) -> dict[str, float]:
    """Run a process and return what it took; the gate's part is taken at the job's own lines of progress."""
    begun, gate = time.perf_counter(), {"gate": (0.0, 0.0), "done": (0.0, 0.0)}
    last, spent = "", (0.0, 0.0)
    with (job / f"{module}.err").open("wb") as errors:
        process = subprocess.Popen([sys.executable, "-m", module, str(job)], stdout=subprocess.PIPE, stderr=errors)
        watched = psutil.Process(process.pid)
        assert process.stdout is not None
        for line in process.stdout:
            cpu = watched.cpu_times()
            spent = (time.perf_counter() - begun, cpu.user + cpu.system)
            last = line.decode()
            progress = parse_progress(line)
            if progress is not None and progress.metrics.get("stage") in gate:
                gate[progress.metrics["stage"]] = spent
    if process.wait():
        raise click.ClickException(f"{module} ended with {process.returncode}; {errors.name} says why")
    told: dict[str, Any] = (
        json.loads((job / "result.json").read_bytes())["metrics"] if kind == "job" else json.loads(last)
    )
    seconds = told["seconds_per_step"]
    gate_seconds, gate_cpu = (gate["done"][part] - gate["gate"][part] for part in (0, 1))
    on_gpu = {"peak GPU memory, MiB": told[PEAK]} if PEAK in told else {}
    return {
        "seconds a step": seconds,
        "CPU seconds a step": told["cpu_seconds_per_step"],
        "tokens a second": told["train_tokens"] / (seconds * told["steps"]),
        "peak memory, MiB": told["peak_memory_mib"],
        **on_gpu,
        "whole process without the gate, s": spent[0] - gate_seconds,
        "whole process without the gate, CPU s": spent[1] - gate_cpu,
        GATE[0]: gate_seconds,
        GATE[1]: gate_cpu,
    }


def table(found: dict[str, list[dict[str, float]]], tier: str, steps: int, threads: int) -> str:
    """Return the medians, and the ratios of the pairs of runs: their median and what they lie between."""
    where = in_words({**machine(), **_gpu()})
    rows = [f"{tier}, {len(found['job'])} rounds of {steps} steps, {threads} thread(s); {where}\n"]
    rows += ["| median of runs | job | bare TRL | ratio | from | to |", "|---|---|---|---|---|---|"]
    for name in found["job"][0]:
        job, bare = ([one[name] for one in found[kind]] for kind in KINDS)
        row = f"| {name} | {_figure(median(job))} |"
        if name in GATE:
            rows.append(f"{row} - | | | |")
            continue
        ratios = [mine / other for mine, other in zip(job, bare, strict=True)]
        rows.append(f"{row} {_figure(median(bare))} | {median(ratios):.3f} | {min(ratios):.3f} | {max(ratios):.3f} |")
    return "\n".join(rows)


def _figure(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _gpu() -> dict[str, str]:
    return {"GPU": cuda.get_device_name()} if cuda.is_available() else {}


if __name__ == "__main__":
    main()
