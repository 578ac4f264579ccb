"""State as Prometheus metrics, made at every scrape: of a role, of a worker's roles together, of the deployment. Pure.

Counters of what happened are in `metrics`; here is what *is*. Names end in their unit, and times are epoch seconds, so
that an age is `time() - x` of the server that asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from streams.training.folder import END_STATES
from streams.worker.version_metrics import version_families

Status = Mapping[str, Any]

_SCORER_GAUGES = {
    "learning_rate": "Step size of the scorer's optimizer",
    "validation_loss": "Loss of the scorer's network part on held-out samples, newest validation round",
    "validation_accuracy": "Share of held-out pairs of one intent that its network part puts in the right order",
    "held_out_accuracy": "Share of pairs within held-out queries in the right order, a mean over queries",
    "learned_accuracy": "Share of pairs within learned queries in the right order, a mean over queries",
    "linear_share": "Share of the score that the linear part has, by how it ranks held-out queries",
    "progressive_accuracy": "Share of pairs in the right order, scored before they were learned, newest 500 samples; "
    "it covers queries that were seen, so it says nothing of new ones",
    "progressive_loss": "Loss of samples scored before they were learned, newest 500",
    "epoch": "Versions of the scorer put into use, and one",
    "rank": "Rank of the scorer in effect",
    "parameters": "Parameters of the scorer in effect",
    "replay_samples": "Samples in the replay buffer",
    "validation_samples": "Samples in the validation buffer",
}
_EXAMPLES = ("dpo", "kto", "sft")


class StateCollector(Collector):
    """Asks for the metrics of the moment at every scrape."""

    def __init__(self, ask: Callable[[], Iterator[Metric]]) -> None:
        self._ask = ask

    def describe(self) -> Iterable[Metric]:
        """Return nothing: there is no state yet where the collector is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the state."""
        return self._ask()


def role_families(status: Status) -> Iterator[Metric]:
    """Yield every metric of a role's status."""
    info = GaugeMetricFamily("tierstream_info", "Version of the program, always 1", labels=["version"])
    info.add_metric([version("tierstream")], 1)
    yield info
    yield GaugeMetricFamily("tierstream_ready", "Whether the role is ready", value=float(status["ready"]))
    if "learning_paused_since" in status:
        yield GaugeMetricFamily(
            "tierstream_scorer_learning_paused",
            "Whether learning is paused by hand",
            value=float(status["learning_paused_since"] is not None),
        )
    if status.get("scorer"):
        yield from _scorer(status["scorer"])
    if status.get("pair_funnel"):
        yield from _funnel(status["pair_funnel"])
    yield from _thresholds(status)


def deployment_families(observed: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield what the broker and the data directory say of the whole deployment."""
    yield from _lag(observed)
    yield from _jobs(observed["jobs"])
    yield from _checkpoint(observed["checkpoint"])
    yield from _drift(observed["drift"])
    yield from version_families(observed["outcome"], observed["not_served"])


def of_roles(texts: Mapping[str, str]) -> Iterator[Metric]:
    """Yield the metrics of several roles as one, each sample with its role as a label.

    Args:
        texts: what each role exposes, as OpenMetrics.
    """
    merged: dict[str, Metric] = {}
    for role, text in texts.items():
        for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
            known = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type, family.unit))
            known.samples += [sample._replace(labels={**sample.labels, "role": role}) for sample in family.samples]
    yield from merged.values()


def _scorer(scorer: Mapping[str, Any]) -> Iterator[Metric]:
    for name, help_text in _SCORER_GAUGES.items():
        # Without a value, as before the first validation round, the metric is named and has no sample.
        yield GaugeMetricFamily(f"tierstream_scorer_{name}", help_text, value=scorer.get(name))
    yield GaugeMetricFamily(
        "tierstream_scorer_version_refused",
        "Whether the version in use is refused, and the scorer before it serves",
        value=float(bool(scorer.get("version_refused"))),
    )
    yield CounterMetricFamily("tierstream_scorer_steps", "Optimizer steps in the scorer's life", value=scorer["steps"])
    samples = CounterMetricFamily("tierstream_scorer_samples", "Samples in the scorer's life, by use", labels=["use"])
    feedbacks = CounterMetricFamily("tierstream_scorer_feedbacks", "Feedbacks in its life, by use", labels=["use"])
    for use in ("learned", "held_out"):
        samples.add_metric([use], scorer[f"samples_{use}"])
        feedbacks.add_metric([use], scorer[f"groups_{use}"])
    decays = CounterMetricFamily("tierstream_scorer_decays", "Halvings of the learning rate", labels=["effect"])
    decays.add_metric(["taken"], scorer["decays"])
    decays.add_metric(["at_floor"], scorer["decays_at_floor"])
    yield from (samples, feedbacks, decays)
    # A summary's `quantile` is reserved, and this is no summary: it has neither sum nor count.
    score = GaugeMetricFamily("tierstream_scorer_score", "Scores of the newest 500 samples", labels=["percentile"])
    for quantile, value in (scorer.get("score_quantiles") or {}).items():
        score.add_metric([f"{100 * float(quantile):g}"], value)
    yield score


def _funnel(funnel: Mapping[str, Any]) -> Iterator[Metric]:
    answers = GaugeMetricFamily(
        "tierstream_pair_answers",
        "Judged answers of this role's partitions, by where they are",
        labels=["kind", "place"],
    )
    pairs = GaugeMetricFamily("tierstream_pairs", "Pairs made of this role's partitions", labels=["kind"])
    patient = GaugeMetricFamily(
        "tierstream_pair_answers_waiting_for_same_query",
        "Those of the waiting answers that one to another query may not have yet",
        labels=["kind"],
    )
    for kind, counts in funnel.items():
        places = {**{f"dropped_{reason}": n for reason, n in counts["dropped"].items()}, "paired": counts["paired"]}
        places["unpaired"] = counts["unpaired"]
        places |= {f"waiting_{side}": n for side, n in counts["waiting"].items()}
        for place, number in places.items():
            answers.add_metric([kind, place], number)
        patient.add_metric([kind], counts["waiting_for_same_query"])
        pairs.add_metric([kind], counts["pairs"])
    yield from (answers, patient, pairs)


def _thresholds(status: Status) -> Iterator[Metric]:
    pending = GaugeMetricFamily("tierstream_pending_examples", "Examples of the open run", labels=["tier"])
    threshold = GaugeMetricFamily("tierstream_examples_threshold", "Examples that start a job", labels=["tier"])
    distinct = CounterMetricFamily(
        "tierstream_examples", "Distinct examples ever: pairs, unpaired answers, eligible traces", labels=["tier"]
    )
    jobs = CounterMetricFamily("tierstream_jobs_requested", "Jobs that were started at the threshold", labels=["tier"])
    for tier in _EXAMPLES:
        if counts := status.get(tier):
            pending.add_metric([tier], counts["waiting"])
            threshold.add_metric([tier], counts["threshold"])
            distinct.add_metric([tier], counts["distinct"])
            jobs.add_metric([tier], counts["jobs"])
    yield from (pending, threshold, distinct, jobs)


def _lag(observed: Mapping[str, Any]) -> Iterator[Metric]:
    labels = ["group", "topic", "partition"]
    records = GaugeMetricFamily("tierstream_consumer_lag_records", "Records that wait, from the broker", labels=labels)
    seconds = GaugeMetricFamily("tierstream_consumer_lag_seconds", "Age of the oldest that waits", labels=labels)
    for row in observed["lag"]:
        values = [row["group"], row["topic"], str(row["partition"])]
        records.add_metric(values, row["lag"])
        seconds.add_metric(values, row["lag_seconds"])
    members = GaugeMetricFamily("tierstream_consumers", "Consumers alive in a group", labels=["group"])
    for group, number in observed["members"].items():
        members.add_metric([group], number)
    yield from (records, seconds, members)
    yield GaugeMetricFamily(
        "tierstream_observed_timestamp_seconds",
        "When lag, jobs and checkpoint were last looked at",
        value=observed["at"],
    )


def _jobs(jobs: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    labels = ["tier", "state"]
    count = GaugeMetricFamily("tierstream_jobs", "Training jobs, by state", labels=labels)
    oldest = GaugeMetricFamily(
        "tierstream_jobs_oldest_request_timestamp_seconds",
        "When the oldest of those that have not ended was requested",
        labels=labels,
    )
    newest = GaugeMetricFamily(
        "tierstream_jobs_newest_end_timestamp_seconds", "When the newest of those that have ended did", labels=labels
    )
    duration = SummaryMetricFamily("tierstream_job_seconds", "From a job's request to its end", labels=labels)
    for tier in _EXAMPLES:
        for state in ("queued", "running", *sorted(END_STATES)):
            mine = [job for job in jobs if (job["tier"], job["state"]) == (tier, state)]
            count.add_metric([tier, state], len(mine))
            if mine and state in END_STATES:
                newest.add_metric([tier, state], max(job["updated_at"] for job in mine))
                seconds = [job["seconds"] for job in mine]
                duration.add_metric([tier, state], len(seconds), sum(seconds))
            elif mine:
                oldest.add_metric([tier, state], min(job["requested_at"] for job in mine))
    yield from (count, oldest, newest, duration, *_running(job for job in jobs if job["state"] == "running"))


def _running(jobs: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    labels = ["tier", "job_id"]
    progress = GaugeMetricFamily("tierstream_job_progress_ratio", "How far running jobs are", labels=labels)
    loss = GaugeMetricFamily("tierstream_job_loss", "Loss that running jobs report", labels=labels)
    told = GaugeMetricFamily(
        "tierstream_job_report_timestamp_seconds", "When a running job last told how far it is", labels=labels
    )
    for job in jobs:
        of = [job["tier"], job["job_id"]]
        progress.add_metric(of, job["progress"])
        told.add_metric(of, job["updated_at"])
        if isinstance(job["metrics"].get("loss"), int | float):
            loss.add_metric(of, job["metrics"]["loss"])
    yield from (progress, loss, told)


def _checkpoint(checkpoint: Mapping[str, Any] | None) -> Iterator[Metric]:
    there = checkpoint or {}
    yield GaugeMetricFamily(
        "tierstream_scorer_checkpoint_timestamp_seconds", "When the newest was written", value=there.get("written_at")
    )
    yield GaugeMetricFamily(
        "tierstream_scorer_checkpoint_size_bytes", "Size of the newest checkpoint", value=there.get("size_bytes")
    )


def _drift(drift: Mapping[str, Any]) -> Iterator[Metric]:
    alarms = GaugeMetricFamily(
        "tierstream_drift_alarm_timestamp_seconds",
        "When what is judged last left its mean, by series",
        labels=["series", "of"],
    )
    for alarm in drift["alarms"]:
        alarms.add_metric([alarm["series"], alarm["of"]], alarm["at"])
    yield alarms
    yield GaugeMetricFamily(
        "tierstream_newest_judgement_timestamp_seconds",
        "When the newest feedback came",
        value=drift["newest_judgement"],
    )
    yield GaugeMetricFamily(
        "tierstream_unjudged_experiences", "Experiences that were scored since", value=drift["unjudged"]
    )
