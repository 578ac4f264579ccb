"""What a worker knows of itself, as JSON data; partitions of other workers are in theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.config import setting_fields, setting_value
from streams import topology
from trainers.pairs.funnel import merge

if TYPE_CHECKING:
    from streams.app import TierstreamApp


def status(app: TierstreamApp) -> dict[str, Any]:
    """Return readiness, counts, the scorer, the pair funnels, the thresholds, and progress by partition.

    `observed` has what the broker and the data directory say of the whole deployment: lag, consumers, jobs and the
    newest checkpoint, a few seconds old.
    """
    settings, agents = app.settings, app.agents_of_ours
    reason = app.stream_web.not_ready()
    result: dict[str, Any] = {
        "ready": reason is None,
        "reason": reason,
        "events": app.services.metrics.totals(),
        "scorer": agents.scorer.status(),
        "learning_paused_since": agents.scorer.paused_since(),
        "embedding": agents.join.embedding(),
        "settings": {key: setting_value(settings, key) for key, _ in setting_fields()},
    }
    if app.observer.seen is not None:
        result["observed"] = app.observer.seen.as_dict()
    if reason is not None:
        return result
    mine = app.consumer.assignment()
    answers = sorted(tp.partition for tp in mine if tp.topic == settings.topic(topology.ANSWERS))
    result["pair_funnel"] = merge(agents.pairs.funnel(partition) for partition in answers)
    for tier, agent, topic in (("dpo", agents.dpo, topology.PAIRS), ("sft", agents.sft, topology.ELIGIBLE_TRACES)):
        if any(tp.topic == settings.topic(topic) for tp in mine):
            result[tier] = agent.status()
    result["partitions"] = {
        f"{tp.topic}[{tp.partition}]": {"position": position, "end": end}
        for tp, (position, end) in sorted(app.consumer.progress().items())
    }
    return result
