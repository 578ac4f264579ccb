"""Rewards by version, and whether they are served, as Prometheus metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from schemas.versions import BASES

_FIGURES = {
    "answers": ("tierstream_version_answers", "Judged answers of a version, by who judged"),
    "reward": ("tierstream_version_reward", "Mean reward of a version's answers"),
    "low": ("tierstream_version_reward_low", "Lower end of the mean's interval"),
    "high": ("tierstream_version_reward_high", "Upper end of the mean's interval"),
}


def version_families(outcome: Mapping[str, Any], not_served: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the rewards of versions, whether one in use is worse, and whether the server refuses one.

    Args:
        outcome: as `outcome_of` returned it.
        not_served: by line, as `Observed` has it.
    """
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
    refused = GaugeMetricFamily(
        "tierstream_version_not_served", "Whether the server of a line did not take its newest version", labels=["line"]
    )
    for name in BASES:
        refused.add_metric([name], float(name in not_served))
    yield refused
