"""What versions did to the people they answered, as it is told: the rewards beside the names of the registry."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Literal

from schemas.events import ModelLine
from schemas.settings import Settings
from schemas.versions import BASES
from trainers.outcome import ONE_LOOK, Comparison, OutcomeMonitor, as_dict
from trainers.versions import VersionStore

SHOWN = 10
"""Versions that are told of beside those in use and before: the ones judged last."""


def outcome_of(settings: Settings, monitor: OutcomeMonitor) -> dict[str, Any]:
    """Return the rewards of versions, and of each line how the version in use compares with the one before it.

    That is the one that a rollback goes back to; mostly it is the version's parent.

    Returns:
        `lines`: one for each line of versions; `versions`: the newest judged; `unnamed`: judgements of answers that
        name no version; all ready for JSON.

    Raises:
        VersionError: the registry cannot be read.
    """
    store = VersionStore(settings.data_dir)
    lines = [_line(settings, store, monitor, name, base) for name, base in BASES.items()]
    in_use = {line["version"] for line in lines}
    before = {line[name] for line in lines for name in ("before", "candidate")} - {None}
    monitor.kept = frozenset(in_use | before)
    known = {version for name in BASES for version in store.names(name)}.union(BASES.values())
    newest = [name for name in monitor.kept if name in monitor.versions]
    newest += islice((name for name in reversed(monitor.versions) if name not in monitor.kept), SHOWN)
    return {
        "lines": lines,
        "versions": [
            {"version": name, "known": name in known, "in_use": name in in_use, **monitor.rewards(name)}
            for name in sorted(newest, key=lambda name: (name not in in_use, name not in before))
        ],
        "unnamed": monitor.unnamed,
    }


def _line(
    settings: Settings, store: VersionStore, monitor: OutcomeMonitor, name: ModelLine, base: str
) -> dict[str, Any]:
    used, before = store.in_use(name), store.one_before(name)
    version = used.version or base
    comparison = None if before is None else monitor.compare(version, before)
    tried = used.candidate
    trial = None if tried is None else monitor.compare(tried.version, version)
    margin = settings.serving.worse_margin
    return {
        "line": name,
        "version": version,
        "before": before,
        "comparison": as_dict(comparison),
        "worse": comparison is not None and comparison.is_worse(margin),
        "returned": any(one.action == "rolled back" and one.previous == version for one in used.history),
        "candidate": None if tried is None else tried.version,
        "share": None if tried is None else tried.share,
        "trial": as_dict(trial),
        "settled": trial and settled(trial, margin, settings.serving.candidate_judgements),
    }


def in_words(rewards: Mapping[str, Any]) -> str:
    """Return a version's rewards as a person reads them: `+0.31 [+0.22, +0.40] of 212 answers`."""
    if not rewards["answers"]:
        return "no answer judged"
    count = f"{rewards['answers']:,} answer{'s' * (rewards['answers'] != 1)}"
    return f"{rewards['reward']:+.2f} [{rewards['low']:+.2f}, {rewards['high']:+.2f}] of {count}"


def settled(trial: Comparison, margin: float, enough: int) -> Literal["worse", "taken"] | None:
    """Return how a trial ends, None where it goes on.

    Before `enough` judged answers a candidate goes where the interval that holds at every look shows that it is worse;
    then there is one more look, whose bound may be nearer, as it is the last.
    """
    if trial.is_worse(margin):
        return "worse"
    if trial.answers < enough:
        return None
    return "worse" if trial.difference + ONE_LOOK * trial.error < -margin else "taken"


def trial_in_words(line: Mapping[str, Any]) -> str:
    """Return how a candidate compares with the version in use."""
    found = line["trial"]
    beside = f"{line['candidate']}, tried on {line['share']:.0%} of the queries beside {line['version']}"
    if found is None:
        return f"{beside}: too few judged answers to compare"
    return (
        f"{beside}: {found['difference']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}], {found['answers']:,} "
        f"answers against {found['answers_before']:,} that the same sources judged"
    )


def verdict(line: Mapping[str, Any]) -> str:
    """Return how a version that is worse compares with the one before it."""
    found = line["comparison"]
    return (
        f"{line['version']} is judged worse than {line['before']}, which was in use before, "
        f"by {-found['difference']:.2f} [{-found['high']:.2f}, {-found['low']:.2f}]: "
        f"{found['answers']:,} answers against {found['answers_before']:,} that the same sources judged"
    )
