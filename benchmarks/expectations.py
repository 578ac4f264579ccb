"""What a run must show; every expectation that fails is one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from benchmarks.check_pairs import PAIRS_PER_JOB, Raw, check_datasets
from benchmarks.observed import Observed

TRACES_PER_JOB = 100


@dataclass(frozen=True, slots=True)
class Published:
    """What was published."""

    experiences: Collection[str]
    feedback: Collection[str]
    traces: Collection[str]


def failed_expectations(seen: Observed, published: Published, rank: int) -> list[str]:
    """Return what any run must show, and this one does not: counts, once and only once, parameters, jobs."""
    feedback, learned, held_out = counted(seen)
    life = seen.scorer.get("groups_learned", 0) + seen.scorer.get("groups_held_out", 0)
    parameters = 877 * rank + 129
    checks = {
        f"{len(seen.scores.arrived):,} of {len(published.experiences):,} experiences were scored": (
            seen.scores.arrived.keys() == set(published.experiences)
        ),
        f"{feedback:,} of {len(published.feedback):,} feedbacks were learned or held out": (
            seen.scores.judged.keys() == set(published.feedback)
        ),
        f"{learned:,} learned and {held_out:,} held out are not {feedback:,}: some came as both, or in two steps": (
            learned + held_out == feedback and all(len(outcomes) == 1 for outcomes in seen.scores.judged.values())
        ),
        f"the scorer counts {life:,} feedbacks over its life": life == len(published.feedback),
        f"the scorer counts {seen.scorer.get('arrived_scored', 0):,} experiences over its life": (
            seen.scorer.get("arrived_scored") == len(published.experiences)
        ),
        f"dead letters: {seen.dead_letters}": not seen.dead_letters,
        f"the scorer has {seen.scorer.get('parameters')} parameters, not {parameters:,}": (
            seen.scorer.get("parameters") == parameters
        ),
    }
    return [*(what for what, holds in checks.items() if not holds), *_failed_of_jobs(seen), *_failed_of_traces(seen)]


def counted(seen: Observed) -> tuple[int, int, int]:
    """Return the distinct feedbacks, those learned and those held out."""
    reasons = Counter(reason for outcomes in seen.scores.judged.values() for reason in {r for r, _ in outcomes})
    return len(seen.scores.judged), reasons["feedback_learned"], reasons["feedback_held_out"]


def failed_pairs(seen: Observed, rows: Mapping[str, Raw]) -> list[str]:
    """Return what the independent check says about the DPO jobs, where labels were the true ones."""
    return check_datasets(seen.dpo_datasets, rows)


def failed_data(seen: Observed) -> list[str]:
    """Return what does not agree with the figures that are known of the recorded data."""
    found = {"stored": seen.traces.stored, "eligible": seen.traces.eligible, **seen.traces.reasons}
    known = {"stored": 400, "eligible": 189, "truncated": 6, "empty": 5, "no_thinking": 200}
    sft = len(seen.job_ids("sft"))
    # Some wait for a partner of their own query longer than a run takes (`pairs.patience`); after that any will do.
    pairs = sum(kind["pairs"] + min(kind["waiting"].values()) for kind in seen.funnel.values())
    checks = {
        f"{len(seen.scores.arrived):,} experiences, not 5,495": len(seen.scores.arrived) == 5495,
        f"traces {found}, not {known}": found == known,
        f"{sft} SFT jobs, not exactly one": sft == 1,
        f"{pairs:,} pairs, those included that wait for a partner of their query, not 852": pairs == 852,
    }
    return [what for what, holds in checks.items() if not holds]


def differences(seen: Observed, reference: Observed) -> list[str]:
    """Return where a run that was killed differs from one that was not."""
    pairs = {"a": set(seen.pair_ids), "b": set(reference.pair_ids)}
    checks = {
        f"pair ids: {len(pairs['a'] - pairs['b'])} more, {len(pairs['b'] - pairs['a'])} fewer": pairs["a"]
        == pairs["b"],
        "pair ids come in another order": seen.pair_ids == reference.pair_ids or pairs["a"] != pairs["b"],
        f"jobs {sorted(seen.jobs)} and {sorted(reference.jobs)}": seen.jobs.keys() == reference.jobs.keys(),
        "the jobs' datasets": {n: j.dataset_sha256 for n, j in seen.jobs.items()}
        == {n: j.dataset_sha256 for n, j in reference.jobs.items()},
        f"scored, learned, held out: {counted(seen)} and {counted(reference)}": counted(seen) == counted(reference),
        f"traces: {seen.traces} and {reference.traces}": seen.traces == reference.traces,
        f"funnel: {seen.funnel} and {reference.funnel}": seen.funnel == reference.funnel,
    }
    return [f"killed and uninterrupted run differ: {what}" for what, same in checks.items() if not same]


def _failed_of_jobs(seen: Observed) -> list[str]:
    pairs, jobs = len(seen.pair_ids), len(seen.job_ids("dpo"))
    failed = []
    if jobs != pairs // PAIRS_PER_JOB:
        failed.append(f"{jobs} DPO jobs, not {pairs // PAIRS_PER_JOB} = floor({pairs} / {PAIRS_PER_JOB})")
    used = [pair["pair_id"] for dataset in seen.dpo_datasets.values() for pair in dataset]
    if len(set(used)) != jobs * PAIRS_PER_JOB or not set(used) <= set(seen.pair_ids):
        failed.append(f"{len(set(used))} distinct pairs in {jobs} DPO jobs, all of them published: not so")
    return failed


def _failed_of_traces(seen: Observed) -> list[str]:
    jobs, wanted = len(seen.sft_datasets), seen.traces.eligible // TRACES_PER_JOB
    failed = [] if jobs == wanted else [f"{jobs} SFT jobs, not {wanted}"]
    for name, dataset in seen.sft_datasets.items():
        distinct = {trace["trace_id"] for trace in dataset if trace["thinking"].strip() and trace["response"].strip()}
        if len(distinct) != TRACES_PER_JOB:
            failed.append(f"{name}: {len(distinct)} distinct traces with thinking and answer, not {TRACES_PER_JOB}")
    return failed
