"""What a role knows of itself, as JSON data, and what several roles and workers say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from schemas.config import setting_fields, setting_value
from streams import topics
from trainers.pairs.funnel import merge

if TYPE_CHECKING:
    from streams.worker.app import TierstreamApp

_OF_ROLES = ("scorer", "learning_paused_since", "embedding", "pair_funnel", "dpo", "sft")
"""What one role tells for all: the first account that has it counts."""


def status(app: TierstreamApp) -> dict[str, Any]:
    """Return a role's readiness, counts, progress by partition, and what its agents have to say."""
    settings, agents = app.settings, app.agents_of_ours
    reason = app.stream_web.not_ready()
    result: dict[str, Any] = {"role": app.role, "ready": reason is None, "reason": reason}
    result["events"] = app.services.metrics.totals()
    if agents.join:
        result["embedding"] = agents.join.embedding()
    if agents.scorer:
        since = agents.scorer.paused_since()
        result["scorer"] = agents.scorer.status()
        result["active"] = agents.scorer.is_active
        result["learning_paused_since"] = since and datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
    if reason is not None:
        return result
    mine = app.consumer.assignment()
    if agents.pairs:
        answers = sorted(tp.partition for tp in mine if tp.topic == settings.topic(topics.ANSWERS))
        result["pair_funnel"] = merge(agents.pairs.funnel(partition) for partition in answers)
    for tier, agent, topic in (("dpo", agents.dpo, topics.PAIRS), ("sft", agents.sft, topics.ELIGIBLE_TRACES)):
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


def together(accounts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the accounts of several roles, or of several workers, say as one.

    Ready is who is ready in all; the reason names the first that is not.
    """
    accounts = list(accounts)
    events: dict[str, Counter[str]] = {}
    partitions: dict[str, Any] = {}
    for account in accounts:
        for topic, outcomes in account.get("events", {}).items():
            events.setdefault(topic, Counter()).update(outcomes)
        partitions |= account.get("partitions", {})
    waiting = [_reason(account) for account in accounts if not account["ready"]]
    result: dict[str, Any] = {"ready": bool(accounts) and not waiting, "reason": waiting[0] if waiting else None}
    for name in _OF_ROLES:
        found = [account[name] for account in accounts if account.get(name) is not None]
        result[name] = found[0] if found else None
    funnels = [account["pair_funnel"] for account in accounts if account.get("pair_funnel")]
    if len(funnels) > 1:
        result["pair_funnel"] = merge(funnels)
    return result | {"events": {topic: dict(counts) for topic, counts in events.items()}, "partitions": partitions}


def _reason(account: Mapping[str, Any]) -> str:
    role = account.get("role")
    return f"{role}: {account['reason']}" if role else str(account["reason"])
