"""What a role knows of itself, as JSON data."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from faust.exceptions import ConsumerNotStarted

from schemas.config import setting_fields, setting_value
from streams import topics
from streams.worker.role_app import TierstreamApp
from trainers.pairs.funnel import merge


def status(app: TierstreamApp) -> dict[str, Any]:
    """Return a role's readiness, counts, progress by partition, and what its agents have to say."""
    settings, agents = app.settings, app.agents_of_ours
    reason = not_ready(app)
    result: dict[str, Any] = {"role": app.role, "ready": reason is None, "reason": reason}
    result["events"] = app.services.metrics.totals()
    if agents.join:
        result["embedding"] = agents.join.embedding()
    if agents.scorer:
        since = agents.scorer.paused_since()
        result["scorer"] = agents.scorer.status()
        result["latency"] = app.services.metrics.recent_latency()
        result["active"] = agents.scorer.is_active
        result["learning_paused_since"] = since and datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
    if reason is not None:
        return result
    mine = app.consumer.assignment()
    if agents.pairs:
        answers = sorted(tp.partition for tp in mine if tp.topic == settings.topic(topics.ANSWERS))
        result["pair_funnel"] = merge(agents.pairs.funnel(partition, time.time()) for partition in answers)
    for tier, agent, topic in (
        ("dpo", agents.dpo, topics.PAIRS),
        ("kto", agents.kto, topics.UNPAIRED),
        ("sft", agents.sft, topics.ELIGIBLE_TRACES),
    ):
        if agent and any(tp.topic == settings.topic(topic) for tp in mine):
            result[tier] = agent.status()
    result["partitions"] = {
        f"{tp.topic}[{tp.partition}]": {"position": position, "end": end}
        for tp, (position, end) in sorted(app.consumer.progress().items())
    }
    return result


def settings_in_effect(settings: Any) -> dict[str, Any]:
    """Return every setting that is not secret, by dotted key."""
    return {key: setting_value(settings, key) for key, _ in setting_fields()}


def not_ready(app: TierstreamApp) -> str | None:
    """Return why the role is not ready, None where it is: a scorer that stands by is."""
    scorer = app.agents_of_ours.scorer
    try:
        assigned = bool(app.consumer.assignment()) or (scorer is not None and scorer.stands_by)
    except ConsumerNotStarted:
        return "starting"
    if app.rebalancing or not assigned:
        return "waiting for partitions"
    if scorer is not None and not (scorer.is_active or scorer.stands_by):
        return "reading its log"
    if not app.tables.actives_ready:
        return "recovering tables"
    if stalled := app.watchdog.stalled():
        return f"no progress on {', '.join(stalled)}"
    return None
