"""Where a training job's GPU time goes: its own trainer's steps on this machine's GPU, by kernel.

`python -m benchmarks.job_kernels --stream DATA_DIR --work FOLDER` trains a few steps for warming up, times the next
ones, records the kernels of some more, and tells how busy the GPU was and what the kernels were for.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from transformers import PrinterCallback, TrainerCallback

from benchmarks.job_data import TIERS, read_jobs, write_run
from schemas.events import JobTier
from schemas.settings import Settings
from trainers.jobs import dpo, sft
from trainers.jobs.lora import load_policy
from trainers.jobs.process import gpu_peak

WARM, TIMED, RECORDED = 4, 8, 2
"""Steps of each part."""

KINDS = (
    ("attention", r"flash|fmha|attention|sdpa|mem_eff"),
    ("matrix products", r"gemm|nvjet|cutlass|xmma|wgmma|splitk|cublas"),
    ("copies and fills", r"memcpy|memset"),
    ("optimizer", r"multi_tensor|adam|foreach"),
    ("softmax, loss and look-ups", r"softmax|nll|cross_entropy|logsumexp|gather|scatter|index"),
    ("reductions", r"reduce"),
    ("casts and copies", r"copy"),
    ("elementwise", r"elementwise|vectorized|unrolled"),
)
"""What a kernel is for, by its name; the first that fits."""

Event = dict[str, Any]


@click.command()
@click.option("--stream", type=click.Path(path_type=Path), required=True, help="Data directory of a run of the stream.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder of the runs, empty or absent.")
@click.option("--tier", type=click.Choice(TIERS), default="dpo", show_default=True)
@click.option("--base-model", help="By default that of the settings.")
@click.option("--batch-size", type=click.IntRange(1), default=2, show_default=True, help="Examples of a forward pass.")
@click.option("--passes", type=click.IntRange(1), default=2, show_default=True, help="Forward passes of a step.")
def main(stream: Path, work: Path, tier: JobTier, base_model: str | None, batch_size: int, passes: int) -> None:
    """Tell where a job's GPU time goes.

    Example: python -m benchmarks.job_kernels --stream /tmp/jobs/stream/true/data --work /tmp/kernels --tier sft
    """
    if not torch.cuda.is_available():
        raise click.ClickException("there is no GPU here that torch can use")
    training = {"batch_size": batch_size, "gradient_accumulation": passes, "max_steps": WARM + TIMED + RECORDED}
    named = {} if base_model is None else {"base_model": base_model}
    settings = Settings.model_validate({"jobs": {tier: training, **named}})
    folder = write_run(work / tier, work / "base", {tier: read_jobs(stream, tier)[:1]}, tier, 0, settings)
    watch = Watch()
    with redirect_stdout(sys.stderr):
        job_tier = dpo.DPO if tier == "dpo" else sft.SFT
        job = job_tier.prepare(folder)
        policy = load_policy(job.base, None, job.training)
        trainer = job_tier.trainer(job, policy, job.received())
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(watch)
        trainer.train()
    path = work / f"{tier}.trace.json"
    watch.profile.export_chrome_trace(str(path))
    counted = [entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry]
    seconds = watch.seconds()
    told = {
        "GPU": torch.cuda.get_device_name(),
        "ms a step": round(1e3 * median(seconds), 1),
        "tokens a second": round((counted[WARM + TIMED - 1] - counted[WARM - 1]) / sum(seconds)),
        **gpu_peak(),
        **figures(json.loads(path.read_bytes())["traceEvents"], RECORDED, median(seconds)),
    }
    click.echo(json.dumps(told, indent=1))


class Watch(TrainerCallback):
    """Times steps, then records the kernels of the last ones, which recording slows down."""

    def __init__(self) -> None:
        self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
        self._ends: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin to record where it is time."""
        if state.global_step == WARM + TIMED:
            self.profile.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the time once the GPU is done."""
        torch.cuda.synchronize()
        self._ends.append(time.perf_counter())
        if state.global_step == WARM + TIMED + RECORDED:
            self.profile.stop()

    def seconds(self) -> list[float]:
        """Return what each timed step took."""
        ends = self._ends[WARM - 1 : WARM + TIMED]
        return [end - begun for begun, end in pairwise(ends)]


def kind_of(name: str) -> str:
    """Return what a kernel is for."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, name, re.IGNORECASE)), "other")


def figures(events: Iterable[Event], steps: int, seconds: float) -> dict[str, Any]:
    """Return what the GPU did in a step, from the recorded events of some.

    Args:
        events: of a Chrome trace; times in microseconds.
        steps: how many steps they are of.
        seconds: what a step takes while nothing is recorded.
    """
    done = [event for event in events if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    taken: Counter[str] = Counter()
    for event in done:
        taken[kind_of(event["name"])] += event["dur"]
    busy = covered([(event["ts"], event["ts"] + event["dur"]) for event in done]) / 1e6 / steps
    return {
        "kernels a step": round(len(done) / steps),
        "GPU busy, ms a step": round(1e3 * busy, 2),
        "GPU busy, share of a step": round(busy / seconds, 3),
        "share of the kernels' time": {kind: round(part / taken.total(), 3) for kind, part in taken.most_common()},
    }


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Return how much time lies in at least one of the spans."""
    total, end = 0.0, float("-inf")
    for begin, until in sorted(spans):
        total += max(0.0, until - max(begin, end))
        end = max(end, until)
    return total


if __name__ == "__main__":
    main()
