"""What the demo has seen of the stream so far, and what it means beside the taste that only the simulation knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from schemas.base import Event
from schemas.events import VOICE_ITEM_ID, JobTier, JobUpdate, PreferencePair, ScoreUpdate, TrainingJob
from streams.demo.room import Exchange

END_STATES = frozenset({"validated", "finished", "failed", "cancelled"})
TIER_NAMES: Mapping[JobTier, str] = {"dpo": "DPO", "kto": "KTO", "sft": "SFT"}

Tally = tuple[float, int]
"""Pairs of widgets that were ranked right, a tie counting half, and pairs in all."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How many pairs of widgets of one plan the scorer ranked as the hidden taste does."""

    value: float | None
    """Share ranked right, a tie counting half; None without pairs."""
    pairs: int
    """Pairs whose worth differs."""

    @classmethod
    def of(cls, tallies: Sequence[Tally]) -> Accuracy:
        """Sum up the tallies of several plans."""
        pairs = sum(count for _, count in tallies)
        return cls(sum(right for right, _ in tallies) / pairs if pairs else None, pairs)

    def __str__(self) -> str:
        return "-" if self.value is None else f"{self.value:.0%} of {self.pairs} pairs"


def rank_plan(scores: Mapping[str, float], worth: Mapping[str, float]) -> Tally:
    """Compare every two widgets of a plan whose worth differs; the spoken reply has no rival and is left out."""
    right, pairs = 0.0, 0
    for one, other in combinations([name for name in scores if name != VOICE_ITEM_ID], 2):
        if worth[one] != worth[other]:
            agreement = (scores[one] - scores[other]) * (worth[one] - worth[other])
            right += 1.0 if agreement > 0 else 0.5 if agreement == 0 else 0.0
            pairs += 1
    return right, pairs


class Board:
    """Collects events of the stream; repeated ones change nothing."""

    def __init__(self, exchanges: Sequence[Exchange]) -> None:
        self._worth = {x.experience.experience_id: x.worth for x in exchanges}
        self._answers = sum(bool(x.feedback) for x in exchanges)
        self.unscored = set(self._worth)
        """Experiences whose arrival has no score update yet."""
        self.unlearned = {feedback.feedback_id for x in exchanges for feedback in x.feedback}
        """Feedback that is neither learned nor held out yet."""
        self.held_out: set[str] = set()
        """Feedback whose query is validated on and never learned from."""
        self.pairs: set[str] = set()
        self.jobs: dict[str, TrainingJob] = {}
        self.states: dict[str, JobUpdate] = {}
        self._tallies: dict[str, Tally] = {}

    def take(self, event: Event) -> str | None:
        """Take one event in; the result is a line to show, where the event is worth one."""
        if isinstance(event, ScoreUpdate):
            return self._take_scores(event)
        if isinstance(event, PreferencePair):
            self.pairs.add(event.pair_id)
        elif isinstance(event, TrainingJob) and event.job_id not in self.jobs:
            self.jobs[event.job_id] = event
            return f"{event.example_count} examples: {TIER_NAMES[event.tier]} job {event.job_id} starts"
        elif isinstance(event, JobUpdate):
            known = self.states.get(event.job_id)
            self.states[event.job_id] = event
            if event.state in END_STATES and (known is None or known.state != event.state):
                reason = f": {event.error}" if event.error else ""
                return f"{TIER_NAMES[event.tier]} job {event.job_id} is {event.state}{reason}"
        return None

    def jobs_of(self, tier: JobTier) -> list[JobUpdate | None]:
        """Return the newest state of each requested job of a tier, None where none was heard of."""
        return [self.states.get(job_id) for job_id, job in self.jobs.items() if job.tier == tier]

    def ended(self) -> int:
        """Return the number of requested jobs that have reached an end state."""
        return sum(job_id in self.states and self.states[job_id].state in END_STATES for job_id in self.jobs)

    def accuracy(self, start: float, end: float) -> Accuracy:
        """Return the accuracy over a part of the judged answers, in the order in which they were first learned.

        Each answer counts with the scores that it had before its own first feedback was learned.

        Args:
            start: from this share of the answers, 0 to 1.
            end: to this share.
        """
        tallies = list(self._tallies.values())
        return Accuracy.of(tallies[int(start * len(tallies)) : int(end * len(tallies))])

    def _take_scores(self, update: ScoreUpdate) -> str | None:
        if update.experience_id not in self._worth:
            return None
        if update.feedback_id is None:
            self.unscored.discard(update.experience_id)
            return None
        self.unlearned.discard(update.feedback_id)
        if update.reason == "feedback_held_out":
            self.held_out.add(update.feedback_id)
        if update.experience_id in self._tallies:
            return None
        scores = {i.item_id: i.score if i.previous_score is None else i.previous_score for i in update.items}
        self._tallies[update.experience_id] = rank_plan(scores, self._worth[update.experience_id])
        return self._tenth_line()

    def _tenth_line(self) -> str | None:
        tenth, judged = self._answers // 10, len(self._tallies)
        if tenth < 1 or judged % tenth:
            return None
        newest = Accuracy.of(list(self._tallies.values())[-tenth:])
        return f"{judged} answers judged: of the newest {tenth}, the scorer had ranked {newest} right"
