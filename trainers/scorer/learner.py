"""The online learner: scores entries, learns feedback in steps, validates on queries that it never learns."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np

from schemas.records import Origin, Scored, ScorerEntry, StepRecord
from schemas.settings import ScorerSettings
from trainers.scorer.entries import Origins, Use, fill_rows, input_scale, judged_items, use_of
from trainers.scorer.model import ScorerModel
from trainers.scorer.network import architecture, empty_rows
from trainers.scorer.progress import Counts, PlateauDecay, ProgressiveWindow, note_on
from trainers.scorer.samples import (
    Draws,
    Floats,
    SampleBuffer,
    choose_pairs,
    draw,
    neighbour_pairs,
    unjudged_first,
    with_replayed,
)
from trainers.scorer.snapshot import Snapshot, from_learner_state

Entries = Sequence[tuple[int, ScorerEntry]]


class StepOrderError(ValueError):
    """Steps and entries do not belong together; nothing was changed."""


Work = tuple[int, ScorerEntry, Use]
"""Input offset, entry and what it is for."""
Scores = tuple[float, ...]
"""One an item."""
_NO_SCORES: Floats = np.zeros(0, np.float32)
_NOTHING: tuple[list[tuple[int, ScorerEntry]], list[Work]] = ([], [])


def step_seed(seed: int, step: int) -> int:
    """Return the seed of a step's draws: 63 bits that follow from the scorer's seed and the step's number."""
    digest = blake2b(f"{seed}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class OnlineLearner:
    """Tier 1's scorer. `plan` decides what the next steps are, `apply` takes them; the caller logs them in between."""

    def __init__(self, settings: ScorerSettings) -> None:
        self.settings = settings
        self.step = 0
        """Steps in the scorer's life."""
        self.next_offset = 0
        """Input offset after the last entry applied."""
        self.log_offset = 0
        self.log_epoch = 0
        self.base: str | None = None
        """The registry's version that learning went on from."""
        self.base_log = (0, 0)
        self.life, self.process = Counts(), Counts()
        self.replay = SampleBuffer(settings.replay_capacity)
        self.validation = SampleBuffer(settings.validation_size)
        self.window = ProgressiveWindow()
        self.decay = PlateauDecay(settings)
        self.validated: dict[str, float | int | str | None] = {
            "validation_loss": None,
            "validation_accuracy": None,
            "validation_pairs": 0,
            "validation_note": None,
        }
        self.model = ScorerModel(settings)
        self.origins = Origins()
        self._scale = input_scale(settings)
        self._room = empty_rows(0)
        self._looked_at = _NOTHING

    def score(self, entry: ScorerEntry) -> Floats:
        """Return one score an item, with the weights of this moment."""
        rows = empty_rows(len(entry.item_ids))
        fill_rows(rows, [entry], self._scale)
        return self.model.scores(rows)

    def plan(self, entries: Entries, epoch: int) -> list[StepRecord]:
        """Return the steps that learn from the entries, of at most `groups_per_step` feedbacks each.

        Args:
            entries: input offsets and entries, in order.
            epoch: the owner's, written into the steps.

        Changes nothing that can be seen.
        """
        self._looked_at = (list(entries), self._fresh(entries))
        offsets = [offset for offset, _, use in self._looked_at[1] if use is Use.LEARNED]
        size = self.settings.groups_per_step
        chunks = [offsets[start : start + size] for start in range(0, len(offsets), size)]
        return [
            StepRecord(
                kind="step",
                epoch=epoch,
                step=number,
                first_offset=chunk[0],
                last_offset=chunk[-1],
                seed=step_seed(self.settings.seed, number),
            )
            for number, chunk in enumerate(chunks, start=self.step + 1)
        ]

    def apply(self, entries: Entries, steps: Sequence[StepRecord]) -> list[Scored]:
        """Score, validate and learn the entries, with the steps that `plan` or the log gave for them.

        An entry within a step is scored before the step; a learned one also after it.

        Returns:
            One result for each entry that was not a repetition and could be used, in order.

        Raises:
            StepOrderError: a step is not wholly within the entries or does not follow the last one, or a feedback
                to learn from is in no step.
        """
        known, works = self._looked_at
        if known != list(entries):
            works = self._fresh(entries)
        segments = list(self._segments(works, entries, steps))
        self._count_skipped(entries, works)
        scored: list[Scored] = []
        for segment, record in segments:
            scored += self._score(segment) if record is None else self._learn(segment, record)
        for _, entry, _ in works:
            self.origins.add(entry.origin)
        self._looked_at = _NOTHING
        if entries:
            self.next_offset = max(self.next_offset, entries[-1][0] + 1)
        return scored

    def status(self) -> dict[str, Any]:
        """Return all figures, ready for JSON: counts of the scorer's life, and of this process under `process`."""
        return {
            "step": self.step,
            "version": self.base,
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

    def snapshot(self, epoch: int, log_offset: int) -> Snapshot:
        """Return a copy of all state, for `CheckpointStore.save`; takes a few milliseconds at most.

        Args:
            epoch: the owner's.
            log_offset: offset in the log of steps up to which every valid step has been applied.
        """
        if log_offset > self.log_offset:
            self.log_offset, self.log_epoch = log_offset, epoch
        return from_learner_state(self, epoch)

    def restore(self, snapshot: Snapshot) -> None:
        """Become the learner that the snapshot was taken of.

        Raises:
            ArchitectureMismatchError: the snapshot is of another architecture.
        """
        snapshot.write_into(self, architecture(self.settings))
        self._looked_at = _NOTHING

    def _fresh(self, entries: Entries) -> list[Work]:
        """Return the entries that are no repetition, with their use."""
        fresh: dict[Origin, tuple[int, ScorerEntry]] = {}
        for offset, entry in entries:
            if offset >= self.next_offset and entry.origin not in self.origins:
                fresh.setdefault(entry.origin, (offset, entry))
        with np.errstate(over="ignore"):
            return [(offset, entry, use_of(entry, self.settings)) for offset, entry in fresh.values()]

    def _segments(
        self, works: list[Work], entries: Entries, steps: Sequence[StepRecord]
    ) -> Iterator[tuple[list[Work], StepRecord | None]]:
        """Cut the work into steps, each with what is only scored before it, and what is only scored after all."""
        offsets = [offset for offset, _, _ in works]
        after, done = self.next_offset - 1, 0
        for number, record in enumerate(steps, start=self.step + 1):
            if record.step != number or record.first_offset <= after:
                raise StepOrderError(f"step {record.step} comes where step {number} after offset {after} should")
            if not entries or not entries[0][0] <= record.first_offset <= record.last_offset <= entries[-1][0]:
                raise StepOrderError(f"step {number} is not wholly within the entries handed in")
            first, end = bisect_left(offsets, record.first_offset), bisect_right(offsets, record.last_offset)
            _check_scored_only(works[done:first])
            yield works[done:end], record
            after, done = record.last_offset, end
        _check_scored_only(works[done:])
        yield works[done:], None

    def _count_skipped(self, entries: Entries, works: list[Work]) -> None:
        uses = [use for _, _, use in works]
        self._count(
            duplicates=len(entries) - len(works),
            skipped_not_finite=uses.count(Use.NOT_FINITE),
            skipped_no_reward=uses.count(Use.NO_REWARD),
            skipped_no_features=uses.count(Use.NO_FEATURES),
        )

    def _count(self, **more: int) -> None:
        self.life.add(more)
        self.process.add(more)

    def _score(self, works: list[Work]) -> list[Scored]:
        """Score entries with the weights of this moment; held-out ones go into the validation buffer."""
        waiting = [(entry, use is Use.HELD_OUT) for _, entry, use in works if use is Use.ARRIVED or use is Use.HELD_OUT]
        if not waiting:
            return []
        entries = [entry for entry, _ in waiting]
        rows = self._rows_of(entries)
        held_out = [entry for entry, held in waiting if held]
        if held_out:
            theirs = np.repeat([held for _, held in waiting], [len(entry.item_ids) for entry in entries])
            items = judged_items(held_out, rows[theirs], 0)
            samples = items.take(np.flatnonzero(np.isfinite(items.rewards)))
            self.validation.add(samples)
            self._count(samples_held_out=len(samples))
        self._count(groups_held_out=len(held_out), arrived_scored=len(entries) - len(held_out))
        return [
            Scored(entry, "feedback_held_out" if held else "experience_arrived", self.step, values, None)
            for (entry, held), values in zip(waiting, _by_entry(entries, self.model.scores(rows)), strict=True)
        ]

    def _learn(self, works: list[Work], record: StepRecord) -> list[Scored]:
        """Score the step's entries, take one optimizer update from its feedbacks, and score those again."""
        others = iter(self._score(works))
        entries = [entry for _, entry, use in works if use is Use.LEARNED]
        self.step = record.step
        before, after = self._update(entries, record) if entries else ([], [])
        learned = (
            Scored(entry, "feedback_learned", record.step, new, old)
            for entry, old, new in zip(entries, before, after, strict=True)
        )
        return [next(learned if use is Use.LEARNED else others) for _, _, use in works if use in _SCORED]

    def _update(self, entries: Sequence[ScorerEntry], record: StepRecord) -> tuple[list[Scores], list[Scores]]:
        """Take one optimizer update; return each entry's scores before and after it."""
        draws = Draws(record.seed)
        room = self._rows_of(entries, self.settings.replay_samples)
        rows = room[: len(room) - self.settings.replay_samples]
        items, order, unjudged = unjudged_first(judged_items(entries, rows, self.life.groups_learned + 1))
        fresh = items.take(slice(unjudged, None)) if unjudged else items
        places = draw(self.replay, fresh.intents, self.settings.replay_samples, draws)
        samples = with_replayed(fresh, self.replay, places, room[unjudged : len(rows) + len(places)])
        better, worse = choose_pairs(samples, len(fresh), self.settings.pairs_per_step, draws)
        before, after = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
        others = self.model.scores(rows[:unjudged]) if unjudged else _NO_SCORES
        # Adam takes as few steps for many feedbacks as for one: their square root makes up for it (Malladi et al., "On
        # the SDEs and Scaling Rules for Adaptive Gradient Algorithms", 2022).
        rate = self.decay.learning_rate * len(entries) ** 0.5
        taken, scores = self.model.update(samples, better, worse, rate)
        before[order] = np.concatenate((others, scores[: len(fresh)]))
        after[order] = self.model.scores(rows)
        self.window.add(fresh, scores[: len(fresh)])
        self.replay.add(fresh)
        self._count(
            steps=taken,
            skipped_updates=not taken,
            groups_learned=len(entries),
            samples_learned=len(fresh),
            pairs_ranked=len(better),
        )
        if self.step % self.settings.validate_every_steps == 0 and len(self.validation):
            self._validate()
        return _by_entry(entries, before), _by_entry(entries, after)

    def _rows_of(self, entries: Sequence[ScorerEntry], more: int = 0) -> Floats:
        """Return the entries' rows, an item each, and `more` to be filled; the next call writes over them."""
        count = sum(len(entry.item_ids) for entry in entries)
        if count + more > len(self._room):
            self._room = empty_rows(2 * (count + more))
        fill_rows(self._room[:count], entries, self._scale)
        return self._room[: count + more]

    def _validate(self) -> None:
        samples = self.validation.samples
        loss = self.model.loss(samples, *neighbour_pairs(samples))
        self.validated = {
            "validation_loss": loss.value,
            "validation_accuracy": loss.correct / loss.pairs if loss.pairs else None,
            "validation_pairs": loss.pairs,
            "validation_note": note_on(samples.rewards),
        }
        # Losses over fewer samples do not compare: a lucky one would be the best for ever.
        full = len(samples) == self.validation.capacity
        count = self.decay.add(loss.value) if full else None
        if count is not None:
            self._count(**{count: 1})


_SCORED = (Use.ARRIVED, Use.HELD_OUT, Use.LEARNED)


def _by_entry(entries: Sequence[ScorerEntry], scores: Floats) -> list[Scores]:
    """Return each entry's scores, an item each."""
    values = iter(scores.tolist())
    return [tuple(islice(values, len(entry.item_ids))) for entry in entries]


def _check_scored_only(works: list[Work]) -> None:
    for offset, _, use in works:
        if use is Use.LEARNED:
            raise StepOrderError(f"the feedback at offset {offset} is in no step")
