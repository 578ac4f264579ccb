"""Answers for the pair matcher, and what a matcher makes of them."""

from schemas.records import Answer
from schemas.settings import PairsSettings
from trainers.pairs.matcher import PairMatcher

RULES = PairsSettings()
AT_ONCE = PairsSettings(patience=0)
SMALL = PairsSettings(bucket_size=2)
HOUR = RULES.patience


def answer(name, reward=0.9, confidence=0.8, **changes):
    fields = {
        "kind": "widget",
        "experience_id": name,
        "query": "q",
        "intent_type": "status",
        "domains": ("hvac",),
        "device_types": (),
        "content": [{"widget_id": "w", "text": name}],
        "reward": reward,
        "evaluation_confidence": confidence if reward is not None and reward > 0 else None,
        "judged_by_user": False,
    }
    return Answer(**(fields | changes))


def timed(log):
    """Return each answer of a log with its broker time: a number in the log is a tick, and what follows comes then."""
    at, found = 0.0, []
    for item in log:
        at = at if isinstance(item, Answer) else item
        found.append((item if isinstance(item, Answer) else None, at))
    return found


def decided(matcher, item, offset, at):
    """Decide an answer, or a tick where it is None."""
    return matcher.tick(offset, at) if item is None else matcher.decide(item, offset, at)


def feed(log, rules=RULES, unpaired=None):
    """Return the matcher, the examples, the table and the outcomes after deciding a log of answers and ticks."""
    matcher, table, made, outcomes = PairMatcher(rules, unpaired), {}, [], []
    for offset, (item, at) in enumerate(timed(log)):
        decision = decided(matcher, item, offset, at)
        table.update(decision.writes)
        made.extend(decision.examples)
        outcomes.append(decision.outcome)
    return matcher, made, table, outcomes


def rebuilt(table, rules=RULES, reverse=False, unpaired=None):
    matcher = PairMatcher(rules, unpaired)
    for key, value in sorted(table.items(), reverse=reverse):
        matcher.load(key, value)
    return matcher


def partners(pairs):
    return [(pair.chosen_experience_id, pair.rejected_experience_id) for pair in pairs]
