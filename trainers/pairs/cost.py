"""What each rule costs: how many comparisons of a good with a bad answer it rules out, and what a looser one gives.

The funnel says where the answers of the table are; this looks at the latest judgement of every answer there ever was,
paired ones too, so that the shares add up to all that could have been compared.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas.events import PairKind
from schemas.records import Answer
from schemas.settings import PairsSettings
from trainers.pairs.compare import close_or_same
from trainers.pairs.index import EVER
from trainers.pairs.matcher import PairMatcher
from trainers.pairs.rules import (
    REJECT_REASONS,
    Side,
    devices_disagree,
    drop_reason,
    side_of,
    substance,
)

CHOSEN_RULES = ("chosen_no_confidence", "chosen_low_confidence", "no_content")
"""Rules on a single answer, in the order in which they are asked."""

MAX_GROUP_PAIRS = 250_000
"""Beyond so many pairs of groups it is not worked out what a rule rejects alone."""


class Judged(NamedTuple):
    """What the rules need of the latest judgement of an answer."""

    kind: PairKind
    side: Side
    drop: str | None
    """The rule on single answers that it breaks."""
    intent_type: str
    domains: frozenset[str]
    devices: frozenset[str]
    reward: float
    substance: bytes


@dataclass(frozen=True, slots=True)
class RuleCost:
    """What one rule costs."""

    rule: str
    rejected: int
    """Comparisons that it rejects, and no rule before it."""
    share: float
    """Of the comparisons that `KindCost` counts it among."""
    alone: int | None
    """Comparisons that no other rule rejects: what would be gained without it. None where it was not worked out."""


@dataclass(frozen=True, slots=True)
class KindCost:
    """The comparisons of one kind: from every good with every bad answer down to the pairs."""

    kind: PairKind
    positive: int
    """Answers with a reward on the chosen side."""
    negative: int
    comparisons: int
    """Every positive with every negative answer."""
    answer_rules: tuple[RuleCost, ...]
    """Rules on single answers; shares of `comparisons`."""
    chosen: int
    rejected: int
    candidate_pairs: int
    """Every candidate with every other: the most pairs that could be, were there no rules on pairs."""
    pair_rules: tuple[RuleCost, ...]
    """Rules on pairs; shares of `candidate_pairs`."""
    comparable: int
    """Comparisons that no rule rejects."""


def judge(answer: Answer, settings: PairsSettings) -> Judged | None:
    """Return what the rules need of an answer; None where it is on neither side."""
    side = side_of(answer.reward, settings)
    if side is None or answer.reward is None:
        return None
    return Judged(
        answer.kind,
        side,
        drop_reason(answer, settings),
        answer.intent_type,
        frozenset(answer.domains),
        frozenset(answer.device_types),
        answer.reward,
        substance(answer.content),
    )


def cost_of_rules(kind: PairKind, answers: Iterable[Judged], settings: PairsSettings) -> KindCost:
    """Count what every rule rejects among the answers of one kind, each comparison by the first rule that does."""
    mine = [answer for answer in answers if answer.kind == kind]
    sides: dict[Side, list[Judged]] = {side: [a for a in mine if a.side == side] for side in ("chosen", "rejected")}
    positive, negative = len(sides["chosen"]), len(sides["rejected"])
    good, bad = ([a for a in sides[side] if a.drop is None] for side in ("chosen", "rejected"))
    dropped = _dropped(sides["chosen"], sides["rejected"], len(good))
    first, alone = _compare(good, bad, settings)
    possible = len(good) * len(bad)
    return KindCost(
        kind=kind,
        positive=positive,
        negative=negative,
        comparisons=positive * negative,
        answer_rules=tuple(_cost(rule, dropped[rule], positive * negative, None) for rule in CHOSEN_RULES),
        chosen=len(good),
        rejected=len(bad),
        candidate_pairs=possible,
        pair_rules=tuple(
            _cost(rule, first[rule], possible, None if alone is None else alone[rule]) for rule in REJECT_REASONS
        ),
        comparable=possible - sum(first[rule] for rule in REJECT_REASONS),
    )


def pairs_under(answers: Iterable[Sequence[Answer]], settings: PairsSettings) -> Counter[PairKind]:
    """Return how many pairs of each kind these rules make of the answers once patience is over, by partition."""
    pairs: Counter[PairKind] = Counter()
    for partition in answers:
        matcher = PairMatcher(settings, None)
        for offset, answer in enumerate(partition):
            pairs.update(pair.kind for pair in matcher.decide(answer, offset, 0.0).pairs)
        pairs.update(pair.kind for pair in matcher.tick(len(partition), EVER).pairs)
    return pairs


def looser(settings: PairsSettings) -> dict[str, PairsSettings]:
    """Return the rules with one threshold each a step looser, under a line that names the change."""
    steps: dict[str, float | bool] = {
        "chosen_reward_above": max(0.0, settings.chosen_reward_above - 0.05),
        "rejected_reward_below": min(0.0, settings.rejected_reward_below + 0.05),
        "min_evaluation_confidence": max(0.0, settings.min_evaluation_confidence - 0.1),
        "min_reward_gap": max(0.0, settings.min_reward_gap - 0.1),
        "one_to_one": False,
    }
    if settings.user_confidence is None:
        steps["user_confidence"] = settings.min_evaluation_confidence
    rounded = {name: value if value is False else round(value, 6) for name, value in steps.items()}
    changed = {name: value for name, value in rounded.items() if value != getattr(settings, name)}
    return {
        f"{name} {_text(getattr(settings, name))} -> {_text(value)}": settings.model_copy(update={name: value})
        for name, value in changed.items()
    }


def _text(value: object) -> str:
    if value is None:
        return "unset"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _cost(rule: str, rejected: int, of: int, alone: int | None) -> RuleCost:
    return RuleCost(rule, rejected, rejected / of if of else 0.0, alone)


def _dropped(positive: Sequence[Judged], negative: Sequence[Judged], chosen: int) -> Counter[str]:
    """Count the comparisons that rules on single answers reject: the chosen side's first, then the other's."""
    dropped: Counter[str] = Counter()
    for reason, count in Counter(a.drop for a in positive if a.drop is not None).items():
        dropped[reason] += count * len(negative)
    for reason, count in Counter(a.drop for a in negative if a.drop is not None).items():
        dropped[reason] += count * chosen
    return dropped


_Signature = tuple[str, frozenset[str], frozenset[str]]


def _grouped(answers: Sequence[Judged]) -> dict[_Signature, list[Judged]]:
    groups: defaultdict[_Signature, list[Judged]] = defaultdict(list)
    for answer in answers:
        groups[answer.intent_type, answer.domains, answer.devices].append(answer)
    return groups


def _compare(
    good: Sequence[Judged], bad: Sequence[Judged], settings: PairsSettings
) -> tuple[Counter[str], Counter[str] | None]:
    """Return by rule how many comparisons it is the first to reject, and how many it rejects alone.

    Good with bad answers are too many to compare one by one: 50,000 in the audit's day. But intent, domains and devices
    are the same for all comparisons of two groups, and what is left, gap and content, is counted group by group. Where
    two of those three rules are broken, none rejects alone and gap and content need no look.
    """
    ours, theirs = _grouped(good), _grouped(bad)
    thorough = len(ours) * len(theirs) <= MAX_GROUP_PAIRS
    first: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    by_intent: defaultdict[str, list[tuple[_Signature, list[Judged]]]] = defaultdict(list)
    for signature, group in theirs.items():
        by_intent[signature[0]].append((signature, group))
    for signature, group in ours.items():
        near = by_intent[signature[0]]
        first["different_intent"] += len(group) * (len(bad) - sum(len(other) for _, other in near))
        for other_signature, other in theirs.items() if thorough else near:
            broken = _broken(signature, other_signature)
            if len(broken) > 1:
                first[broken[0]] += 0 if broken[0] == "different_intent" else len(group) * len(other)
                continue
            small, same, both = close_or_same(group, other, settings)
            if broken:
                first[broken[0]] += 0 if broken[0] == "different_intent" else len(group) * len(other)
                alone[broken[0]] += len(group) * len(other) - small - same + both
            else:
                first.update(small_gap=small, same_answer=same - both)
                alone.update(small_gap=small - both, same_answer=same - both)
    return first, alone if thorough else None


def _broken(ours: _Signature, theirs: _Signature) -> list[str]:
    """Return the rules that all comparisons of two groups break, in the order in which they are asked."""
    broken = []
    if ours[0] != theirs[0]:
        broken.append("different_intent")
    if ours[1].isdisjoint(theirs[1]):
        broken.append("no_shared_domain")
    if devices_disagree(ours[2], theirs[2]):
        broken.append("no_shared_device")
    return broken
