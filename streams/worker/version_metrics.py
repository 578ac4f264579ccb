"""Rewards by version as Prometheus metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

_FIGURES = {
    "answers": ("tierstream_version_answers", "Judged answers of a version, by who judged"),
    "reward": ("tierstream_version_reward", "Mean reward of a version's answers"),
    "low": ("tierstream_version_reward_low", "Lower end of the mean's interval"),
    "high": ("tierstream_version_reward_high", "Upper end of the mean's interval"),
}


def version_families(outcome: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the rewards of versions and whether one in use is worse, of what `outcome_of` returned."""
    for figure, (name, help_text) in _FIGURES.items():
        family = GaugeMetricFamily(name, help_text, labels=["version", "source"])
        for version in outcome["versions"]:
            for source, of in {"all": version, **version["sources"]}.items():
                if of[figure] is not None:
                    family.add_metric([version["version"], source], of[figure])
        yield family
    worse = GaugeMetricFamily(
        "tierstream_version_worse", "Whether the version in use is judged worse than the one before", labels=["line"]
    )
    for line in outcome["lines"]:
        worse.add_metric([line["line"]], float(line["worse"]))
    yield worse
