"""The online learner: scores entries, learns feedback in steps, validates on queries that it never learns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np

from schemas.records import Origin, Scored, ScorerEntry
from schemas.settings import ScorerSettings
from trainers.scorer.architecture import empty_rows
from trainers.scorer.entries import Origins, Use, fill_rows, input_scale, judged_items, use_of
from trainers.scorer.model import ScorerModel
from trainers.scorer.progress import Counts, PlateauDecay, ProgressiveWindow, note_on
from trainers.scorer.samples import (
    Draws,
    Floats,
    Longs,
    SampleBuffer,
    choose_pairs,
    draw,
    neighbour_pairs,
    unlabelled_first,
    with_replayed,
)
from trainers.scorer.validation import QueryPairs, SpreadBuffer, linear_share, mean_or_none

Work = tuple[ScorerEntry, Use]
"""An entry and what it is for."""
Scores = tuple[float, ...]
"""One an item."""
_NO_SCORES: Floats = np.zeros(0, np.float32)


def step_seed(seed: int, step: int) -> int:
    """Return the seed of a step's draws: 63 bits that follow from the scorer's seed and the step's number."""
    digest = blake2b(f"{seed}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class OnlineLearner:
    """Tier 1's scorer: its state follows from its settings and the entries that it was given, bit for bit."""

    def __init__(self, settings: ScorerSettings) -> None:
        self.settings = settings
        self.step = 0
        """Steps in the scorer's life."""
        self.next_offset = 0
        """Offset in the scorer's log after the last record applied."""
        self.life, self.process = Counts(), Counts()
        self.replay = SampleBuffer(settings.replay_capacity)
        self.validation = SpreadBuffer(settings.validation_size)
        self.window = ProgressiveWindow()
        self.decay = PlateauDecay(settings)
        self.validated: dict[str, float | int | str | None] = {
            "validation_loss": None,
            "validation_accuracy": None,
            "validation_pairs": 0,
            "validation_note": None,
            "learned_accuracy": None,
            "learned_queries": 0,
            "held_out_accuracy": None,
            "held_out_queries": 0,
            "linear_share": None,
        }
        self.model = ScorerModel(settings)
        self.origins = Origins()
        self._scale = input_scale(settings)
        self._room = empty_rows(0)

    def score(self, entry: ScorerEntry) -> Floats:
        """Return one score per item, with the weights of this moment."""
        rows = empty_rows(len(entry.item_ids))
        fill_rows(rows, [entry], self._scale)
        return self.model.scores(rows)

    def apply(self, offset: int, entries: Sequence[ScorerEntry], *, silent: bool = False) -> list[Scored]:
        """Score, validate and learn the entries of one record of the log, in steps of at most `groups_per_step`.

        An entry within a step is scored before the step; a learned one also after it.

        Args:
            offset: of the record.
            entries: with their features.
            silent: whether nobody reads the scores: what does not change the state is left out.

        Returns:
            One result for each entry that was not a repetition and could be used, in order; none where it is silent.
        """
        works = self._fresh(entries)
        self._count_skipped(len(entries), works)
        scored: list[Scored] = []
        for segment, learns in self._cut(works):
            scored += self._learn(segment, silent) if learns else self._score(segment, silent)
        for entry, _ in works:
            self.origins.add(entry.origin)
        self.next_offset = offset + 1
        return scored

    def status(self) -> dict[str, Any]:
        """Return all figures, ready for JSON: counts of the scorer's life, and of this process under `process`."""
        return {
            "step": self.step,
            "rank": self.settings.rank,
            "parameters": self.model.parameters,
            "learning_rate": self.decay.learning_rate,
            "next_offset": self.next_offset,
            "replay_samples": len(self.replay),
            "validation_samples": len(self.validation),
            **self.validated,
            **self.window.figures(self.settings.pointwise_weight),
            "score_quantiles": self.window.score_quantiles(),
            **self.life.as_dict(),
            "process": self.process.as_dict(),
        }

    def weights_hash(self) -> str:
        """Return a hash of the weights: equal exactly where they agree bit for bit."""
        return self.model.weights_hash()

    def _fresh(self, entries: Sequence[ScorerEntry]) -> list[Work]:
        """Return the entries that are no repetition, with their use."""
        fresh: dict[Origin, ScorerEntry] = {}
        for entry in entries:
            if entry.origin not in self.origins:
                fresh.setdefault(entry.origin, entry)
        with np.errstate(over="ignore"):
            return [(entry, use_of(entry, self.settings)) for entry in fresh.values()]

    def _cut(self, works: list[Work]) -> Iterator[tuple[list[Work], bool]]:
        """Cut the work into steps, each with what is only scored before it, and what is only scored after all."""
        learned = [place for place, (_, use) in enumerate(works, start=1) if use is Use.LEARNED]
        size, start = self.settings.groups_per_step, 0
        for end in (*learned[size - 1 : -1 : size], *learned[-1:]):
            yield works[start:end], True
            start = end
        yield works[start:], False

    def _count_skipped(self, entries: int, works: list[Work]) -> None:
        uses = [use for _, use in works]
        self._count(
            duplicates=entries - len(works),
            skipped_not_finite=uses.count(Use.NOT_FINITE),
            skipped_no_reward=uses.count(Use.NO_REWARD),
            skipped_no_features=uses.count(Use.NO_FEATURES),
        )

    def _count(self, **more: int) -> None:
        self.life.add(more)
        self.process.add(more)

    def _score(self, works: list[Work], silent: bool) -> list[Scored]:
        """Score entries with the weights of this moment; held-out ones go into the validation buffer."""
        arrived = sum(use is Use.ARRIVED for _, use in works)
        waiting = [
            (entry, use is Use.HELD_OUT)
            for entry, use in works
            if use is Use.HELD_OUT or (use is Use.ARRIVED and not silent)
        ]
        self._count(arrived_scored=arrived)
        if not waiting:
            return []
        entries = [entry for entry, _ in waiting]
        rows = self._rows_of(entries)
        held_out = [entry for entry, held in waiting if held]
        if held_out:
            theirs = np.repeat([held for _, held in waiting], [len(entry.item_ids) for entry in entries])
            items = judged_items(held_out, rows[theirs], self.life.groups_held_out + 1)
            samples = items.take(np.flatnonzero(np.isfinite(items.rewards)))
            self.validation.add(samples)
            self._count(groups_held_out=len(held_out), samples_held_out=len(samples))
        if silent:
            return []
        return [
            Scored(entry, "feedback_held_out" if held else "experience_arrived", self.step, values, None)
            for (entry, held), values in zip(waiting, _by_entry(entries, self.model.scores(rows)), strict=True)
        ]

    def _learn(self, works: list[Work], silent: bool) -> list[Scored]:
        """Score the step's entries, take one optimizer update from its feedbacks, and score those again."""
        others = iter(self._score(works, silent))
        entries = [entry for entry, use in works if use is Use.LEARNED]
        self.step += 1
        before, after = self._update(entries, silent)
        if silent:
            return []
        learned = (
            Scored(entry, "feedback_learned", self.step, new, old)
            for entry, old, new in zip(entries, before, after, strict=True)
        )
        return [next(learned if use is Use.LEARNED else others) for _, use in works if use in _SCORED]

    def _update(self, entries: Sequence[ScorerEntry], silent: bool) -> tuple[list[Scores], list[Scores]]:
        """Take one optimizer update; return each entry's scores before and after it, none where it is silent."""
        draws = Draws(step_seed(self.settings.seed, self.step))
        room = self._rows_of(entries, self.settings.replay_samples)
        rows = room[: len(room) - self.settings.replay_samples]
        items, order, unlabelled = unlabelled_first(judged_items(entries, rows, self.life.groups_learned + 1))
        fresh = items.take(slice(unlabelled, None)) if unlabelled else items
        places = draw(self.replay, fresh.intents, self.settings.replay_samples, draws)
        samples = with_replayed(fresh, self.replay, places, room[unlabelled : len(rows) + len(places)])
        better, worse = choose_pairs(samples, len(fresh), self.settings.pairs_per_step, draws)
        others = self.model.scores(rows[:unlabelled]) if unlabelled and not silent else _NO_SCORES
        # Adam takes as few steps for many feedbacks as for one: their square root makes up for it (Malladi et al., "On
        # the SDEs and Scaling Rules for Adaptive Gradient Algorithms", 2022).
        rate = self.decay.learning_rate * len(entries) ** 0.5
        taken, scores = self.model.update(samples, len(fresh), better, worse, rate)
        told = ([], []) if silent else self._before_and_after(entries, rows, order, others, scores)
        self.window.add(fresh, scores)
        self.replay.add(fresh)
        self._count(
            steps=taken,
            skipped_updates=not taken,
            groups_learned=len(entries),
            samples_learned=len(fresh),
            pairs_ranked=len(better),
        )
        if self._is_due(len(entries)) and len(self.validation):
            self._validate()
        return told

    def _before_and_after(
        self, entries: Sequence[ScorerEntry], rows: Floats, order: Longs | slice, *before: Floats
    ) -> tuple[list[Scores], list[Scores]]:
        """Return each entry's scores before the update, given in the rows' order, and after it."""
        old, new = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
        old[order] = np.concatenate(before)
        new[order] = self.model.scores(rows)
        return _by_entry(entries, old), _by_entry(entries, new)

    def _rows_of(self, entries: Sequence[ScorerEntry], more: int = 0) -> Floats:
        """Return the entries' rows, an item each, and `more` to be filled; the next call writes over them."""
        count = sum(len(entry.item_ids) for entry in entries)
        if count + more > len(self._room):
            self._room = empty_rows(2 * (count + more))
        fill_rows(self._room[:count], entries, self._scale)
        return self._room[: count + more]

    def _is_due(self, learned: int) -> bool:
        """Say whether a validation round comes after a step that learned so many feedbacks."""
        every, done = self.settings.validate_every_steps, self.life.groups_learned
        # A backlog takes few steps for many feedbacks.
        return not self.step % every or done // (_FEEDBACKS * every) > (done - learned) // (_FEEDBACKS * every)

    def _validate(self) -> None:
        """Ask what the held-out queries say; the parts' shares and the learning rate follow from it."""
        samples = self.validation.samples
        learned = self.replay.samples.take(slice(self.validation.capacity))
        network, linear = self.model.parts(samples.rows)
        pairs = QueryPairs.of(samples)
        self.model.share(linear_share(pairs.accuracies(network), pairs.accuracies(linear)))
        # The learning rate is the network's, and so is the loss that it follows.
        loss = self.model.loss(network, samples, *neighbour_pairs(samples.rewards, samples.intents))
        seen = QueryPairs.of(learned)
        self.validated = {
            "validation_loss": loss.value,
            "validation_accuracy": loss.correct / loss.pairs if loss.pairs else None,
            "validation_pairs": loss.pairs,
            "validation_note": note_on(samples.rewards),
            "learned_accuracy": mean_or_none(seen.accuracies(self.model.scores(learned.rows))),
            "learned_queries": seen.queries,
            "held_out_accuracy": mean_or_none(pairs.accuracies(self.model.blend(network, linear))),
            "held_out_queries": pairs.queries,
            "linear_share": self.model.linear_share,
        }
        # Losses over fewer samples do not compare: a lucky one would be the best for ever.
        full = len(samples) == self.validation.capacity
        count = self.decay.add(loss.value) if full else None
        if count is not None:
            self._count(**{count: 1})


_FEEDBACKS = 20
"""A validation round comes after so many times `validate_every_steps` feedbacks, too."""
_SCORED = (Use.ARRIVED, Use.HELD_OUT, Use.LEARNED)


def _by_entry(entries: Sequence[ScorerEntry], scores: Floats) -> list[Scores]:
    """Return each entry's scores, an item each."""
    values = iter(scores.tolist())
    return [tuple(islice(values, len(entry.item_ids))) for entry in entries]
