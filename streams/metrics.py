"""Counters of the worker, for Prometheus and for the status page alike."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, repeat
from math import fsum

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, disable_created_metrics
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

_INPUT_OUTCOMES = {
    "experiences": {"arrived", "duplicate_experience"},
    "feedback": {"joined", "early", "superseded", "unusable", "duplicate_feedback"},
    "claude-traces": {"stored", "duplicate_trace"},
}
"""What becomes of an event itself; what else is counted of these topics is said of events that are counted already."""
_OF_ANY_INPUT = {"forwarded", "dead_lettered", "deleted_unread"}
_REMARKS = {"tick", "repaired", "jobs"}

RECENT_SECONDS = 60.0
_MOST_RECENT = 2_000

LATENCY_BUCKETS = (0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class ManyAtOnce(Collector):
    """A histogram that takes many values in one call; the client's own takes some microseconds for each.

    Args:
        name: of the metric.
        documentation: what it tells.
        bounds: upper bounds of the buckets, each included, in ascending order; one without a bound is added.
    """

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self._name, self._documentation, self._bounds = name, documentation, tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, values: Sequence[float]) -> None:
        """Add values."""
        for value in values:
            self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += fsum(values)

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram."""
        bounds = [*map(str, self._bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets, self._sum)


class Metrics:
    """What this process has seen since it started."""

    def __init__(self) -> None:
        # When a counter was made is a second series of each, which no rule or panel asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.events = Counter(
            "tierstream_events_total",
            "Events, each once, by what became of it",
            ["topic", "outcome"],
            registry=self.registry,
        )
        self.remarks = Counter(
            "tierstream_event_remarks_total",
            "What else was noticed of events",
            ["topic", "remark"],
            registry=self.registry,
        )
        self.dead_letters = Counter(
            "tierstream_dead_letters_total", "Records dead-lettered, by reason", ["reason"], registry=self.registry
        )
        self.embeddings = Counter(
            "tierstream_embeddings_total", "Embeddings, by where they came from", ["source"], registry=self.registry
        )
        self.embedding_seconds = Counter(
            "tierstream_embedding_seconds_total", "Time spent on embedding texts", registry=self.registry
        )
        self.latency = ManyAtOnce(
            "tierstream_feedback_to_score_seconds",
            "From a feedback's arrival on the broker to its published score update",
            LATENCY_BUCKETS,
        )
        self.registry.register(self.latency)
        self._recent: deque[tuple[float, float]] = deque(maxlen=_MOST_RECENT)
        self.threshold_to_job = Histogram(
            "tierstream_threshold_to_job_seconds",
            "From the arrival of the example that reached the threshold to the job on the broker",
            ["tier"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )

    def count(self, topic: str, outcomes: Mapping[str, int]) -> None:
        """Add outcomes of events that were read from `topic`."""
        for outcome, number in outcomes.items():
            if number:
                counter = self.remarks if _is_remark(topic, outcome) else self.events
                counter.labels(topic, outcome).inc(number)

    def count_letters(self, reasons: Mapping[str, int]) -> None:
        """Add records that were dead-lettered, by reason."""
        for reason, number in reasons.items():
            self.dead_letters.labels(reason).inc(number)

    def observe_latency(self, seconds: Sequence[float]) -> None:
        """Add the times from feedbacks' arrivals to their published score updates."""
        self.latency.observe(seconds)
        self._recent.extend(zip(repeat(time.monotonic()), seconds))

    def recent_latency(self) -> dict[str, float] | None:
        """Return median and 99th percentile of these times over `RECENT_SECONDS`, in seconds; None without any."""
        since = time.monotonic() - RECENT_SECONDS
        values = sorted(seconds for at, seconds in self._recent if at >= since)
        return (
            {name: values[int(share * len(values))] for name, share in (("p50", 0.5), ("p99", 0.99))}
            if values
            else None
        )

    def totals(self) -> dict[str, dict[str, int]]:
        """Return the counts by topic and outcome, and the dead letters by reason."""
        result: dict[str, dict[str, int]] = {}
        for metric in (*self.events.collect(), *self.remarks.collect(), *self.dead_letters.collect()):
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    topic = sample.labels.get("topic", "dead-letters")
                    [outcome] = (value for label, value in sample.labels.items() if label != "topic")
                    result.setdefault(topic, {})[outcome] = int(sample.value)
        return result


def _is_remark(topic: str, outcome: str) -> bool:
    if (own := _INPUT_OUTCOMES.get(topic)) is not None:
        return outcome not in own | _OF_ANY_INPUT
    return outcome in _REMARKS
