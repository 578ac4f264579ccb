"""What several roles, or several workers, say of themselves, as one account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from trainers.pairs.funnel import merge

OF_ROLES = ("scorer", "learning_paused_since", "embedding", "latency", "pair_funnel", "dpo", "kto", "sft")
"""What one role tells for all: the first account that has it counts."""


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
    for name in OF_ROLES:
        found = [account[name] for account in accounts if account.get(name) is not None]
        result[name] = found[0] if found else None
    funnels = [account["pair_funnel"] for account in accounts if account.get("pair_funnel")]
    if len(funnels) > 1:
        result["pair_funnel"] = merge(funnels)
    return result | {"events": {topic: dict(counts) for topic, counts in events.items()}, "partitions": partitions}


def _reason(account: Mapping[str, Any]) -> str:
    role = account.get("role")
    return f"{role}: {account['reason']}" if role else str(account["reason"])
