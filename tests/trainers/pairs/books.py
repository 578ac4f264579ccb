"""Answers for the pair book, and what a book makes of them."""

from schemas.records import Answer
from schemas.settings import PairsSettings
from trainers.pairs.book import PairBook

RULES = PairsSettings()
SMALL = PairsSettings(bucket_size=2)


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


def feed(answers, rules=RULES):
    """Return the book, the pairs, the table and the outcomes after deciding every answer."""
    book, table, pairs, outcomes = PairBook(rules), {}, [], []
    for offset, one in enumerate(answers):
        decision = book.decide(one, offset)
        table.update(decision.writes)
        pairs.extend(decision.pairs)
        outcomes.append(decision.outcome)
    return book, pairs, table, outcomes


def rebuilt(table, rules=RULES, reverse=False):
    book = PairBook(rules)
    for key, value in sorted(table.items(), reverse=reverse):
        book.load(key, value)
    return book


def partners(pairs):
    return [(pair.chosen_experience_id, pair.rejected_experience_id) for pair in pairs]
