"""What each tier has, needs and runs with: configured against effective. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from schemas.settings import Settings
from streams.audit.collect import Collected
from streams.audit.report import Effect, Tier, TierState
from streams.topics import SCORER_LOG, group
from trainers.jobs.accumulate import BatchAccumulator
from trainers.jobs.snapshot import tier_settings
from trainers.scorer.architecture import architecture
from trainers.scorer.progress import ProgressiveWindow

IN_EFFECT = "in training:"
"""Begins the names of settings as a job's process read them back."""
GOING_ON = ("queued", "running")
DONE = ("finished", "validated")

JobName = Literal["dpo", "sft"]


def scorer_tier(found: Collected) -> Tier:
    """Return Tier 1, from the worker that owns the scorer, else from its newest checkpoint."""
    figures, read_from = _scorer_figures(found)
    samples = int(figures.get("samples_learned", 0))
    waiting = _lag_of(found, SCORER_LOG)
    state, why = _scorer_state(figures, waiting, found)
    return Tier(
        name="scorer",
        title="Tier 1, online scorer",
        state=state,
        why=why,
        have=samples,
        need=None,
        missing=None,
        unit="samples",
        effects=tuple(_scorer_effects(found, figures, read_from)),
        figures={**figures, "read_from": read_from, "records_waiting": waiting},
    )


def job_tier(found: Collected, tier: JobName, jobs: Sequence[Mapping[str, Any]]) -> Tier:
    """Return Tier 2 or 3: the open run of examples, and what its newest job ran with."""
    mine = [job for job in jobs if job["tier"] == tier]
    book = open_run(found, tier)
    need = found.settings.pairs.threshold if tier == "dpo" else found.settings.traces.threshold
    have = 0 if book is None else book.waiting
    unit = "pairs" if tier == "dpo" else "eligible traces"
    state, why = _job_state(mine, have, need, unit)
    return Tier(
        name=tier,
        title="Tier 2, preference training (DPO)" if tier == "dpo" else "Tier 3, reasoning distillation (SFT)",
        state=state,
        why=why,
        have=have,
        need=need,
        missing=max(0, need - have),
        unit=unit,
        effects=tuple(_job_effects(found, tier, mine)),
        figures={"distinct": 0 if book is None else book.seen, "jobs": 0 if book is None else book.jobs},
    )


def open_run(found: Collected, tier: JobName) -> BatchAccumulator | None:
    """Return the examples counted so far, from the table's changelog; None without a broker."""
    if found.broker is None:
        return None
    settings = found.settings
    book = BatchAccumulator(settings.pairs.threshold if tier == "dpo" else settings.traces.threshold)
    table = found.broker.dpo_examples if tier == "dpo" else found.broker.sft_examples
    for _, key, value in table.items():
        book.load(key, value)
    return book


def _scorer_figures(found: Collected) -> tuple[dict[str, Any], str]:
    live = (found.worker or {}).get("scorer")
    if live:
        return dict(live), "the running worker"
    file = found.disk.checkpoint
    if file is None:
        return {}, "nothing: there is no checkpoint yet"
    window = ProgressiveWindow()
    window.restore(file.window)
    meta = file.meta
    figures = {
        "epoch": meta["epoch"],
        "step": meta["step"],
        "rank": file.rank,
        "parameters": file.parameters,
        "learning_rate": meta["decay"]["learning_rate"],
        "best_validation_loss": meta["decay"]["best"],
        "replay_samples": file.samples["replay"],
        "validation_samples": file.samples["validation"],
        **meta["validated"],
        **window.figures(found.settings.scorer.pointwise_weight),
        **meta["counts"],
        "process": None,
    }
    return figures, f"checkpoint {file.path.name}"


def _scorer_effects(found: Collected, figures: Mapping[str, Any], read_from: str) -> list[Effect]:
    settings = found.settings.scorer
    wanted = architecture(settings)
    effects = [
        Effect("rank", settings.rank, figures.get("rank"), read_from),
        Effect("parameters", wanted["parameters"], figures.get("parameters"), read_from),
    ]
    file = found.disk.checkpoint
    meta = {} if file is None else file.meta
    place = "nothing yet" if file is None else f"checkpoint {file.path.name}"
    built = meta.get("architecture", {})
    for name in ("embedding_scale", "structured_scale", "embedder", "features"):
        effects.append(Effect(name, wanted[name], built.get(name), place))
    effects.append(Effect("learning_rate (start)", settings.learning_rate, meta.get("decay", {}).get("start"), place))
    effects.append(Effect("seed", settings.seed, meta.get("seed"), place))
    return effects + _of_worker(found, "scorer.", {"rank", "embedding_scale", "structured_scale", "embedder", "seed"})


def _of_worker(found: Collected, section: str, but: set[str]) -> list[Effect]:
    """Return the settings of a section as the running worker has them."""
    live = (found.worker or {}).get("settings", {})
    place = "the running worker" if live else "no worker answers"
    return [
        Effect(name, value, live.get(key), place)
        for key, value in found.configured.items()
        if key.startswith(section) and (name := key.removeprefix(section)) not in but
    ]


def _scorer_state(figures: Mapping[str, Any], waiting: int, found: Collected) -> tuple[TierState, str]:
    steps = int(figures.get("steps", 0))
    alive = found.broker is not None and found.broker.members.get(group(found.settings, "scorer"), 0) > 0
    if waiting and alive:
        return "RUNNING", f"{waiting:,} records are waiting to be learned, {steps:,} steps are done"
    if not steps:
        return "SKIPPED", "no feedback has been learned yet"
    learned, held_out = figures["groups_learned"], figures["groups_held_out"]
    return "COMPLETED", f"{learned:,} feedbacks learned and {held_out:,} held out, in {steps:,} steps"


def _job_state(jobs: Sequence[Mapping[str, Any]], have: int, need: int, unit: str) -> tuple[TierState, str]:
    counts = f"{have}/{need} {unit}, {max(0, need - have)} more needed"
    if going := [job for job in jobs if job["state"] in GOING_ON]:
        return "RUNNING", f"job {going[-1]['job_id']} is {going[-1]['state']}; then {counts}"
    if not jobs:
        return "SKIPPED", f"not enough yet: {counts}"
    newest = jobs[-1]
    if newest["state"] in DONE:
        return "COMPLETED", f"job {newest['job_id']} is {newest['state']}; for the next one {counts}"
    return "SKIPPED", f"job {newest['job_id']} is {newest['state']}: {newest['error'] or 'no reason given'}; {counts}"


def _job_effects(found: Collected, tier: JobName, jobs: Sequence[Mapping[str, Any]]) -> list[Effect]:
    settings: Settings = found.settings
    job = jobs[-1] if jobs else None
    place = "no job yet" if job is None else f"job {job['job_id']}"
    effects = [Effect("base_model", settings.jobs.base_model, job and job["base_model"], place)]
    for part, values in tier_settings(tier, settings).items():
        ran = {} if job is None else (job["settings"].get(part) or {})
        assert isinstance(values, dict)  # what `tier_settings` promises
        effects += [Effect(f"{part}.{name}", value, ran.get(name), place) for name, value in values.items()]
    version = next((one for one in reversed(found.disk.versions["policy"]) if one["tier"] == tier), None)
    adapter = (version or {}).get("adapter") or {}
    where = f"adapter of {version['path']}" if version else "no version yet"
    training = settings.jobs.dpo if tier == "dpo" else settings.jobs.sft
    effects.append(Effect("adapter rank", training.lora_rank, adapter.get("r"), where))
    return effects + _of_version(version or {})


def _of_version(version: Mapping[str, Any]) -> list[Effect]:
    """Return what the newest version's job was asked for, against what its process read back from what it had built."""
    asked = (version.get("settings") or {}).get("training") or {}
    effective = (version.get("settings") or {}).get("effective") or {}
    if effective.get("linear_layers_without") == 0 and asked.get("lora_targets") == "all-linear":
        effective = {**effective, "lora_targets": "all-linear"}
    return [
        Effect(f"{IN_EFFECT} {name}", value, effective.get(name), f"{version.get('path')}, as built")
        for name, value in asked.items()
        if effective and not (name == "threads" and value == 0)
    ]


def _lag_of(found: Collected, topic: str) -> int:
    rows = [] if found.broker is None else found.broker.lag
    return sum(row.lag for row in rows if row.topic == found.settings.topic(topic))
