"""The online learner: scores entries, learns feedback in steps, validates on queries that it never learns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np

from schemas.events import ScoreReason
from schemas.records import Scored, ScorerEntry, StepRecord
from schemas.settings import ScorerSettings
from trainers.scorer.entries import Origins, Use, input_rows, input_scale, judged_samples, use_of
from trainers.scorer.model import ScorerModel
from trainers.scorer.network import architecture
from trainers.scorer.progress import Counts, PlateauDecay, ProgressiveWindow
from trainers.scorer.samples import Floats, SampleBuffer, Samples, choose_pairs, draw, join, neighbour_pairs
from trainers.scorer.snapshot import Snapshot, from_learner_state

Entries = Sequence[tuple[int, ScorerEntry]]


class StepOrderError(ValueError):
    """Steps and entries do not belong together; nothing was changed."""


@dataclass(frozen=True, slots=True)
class _Work:
    offset: int
    entry: ScorerEntry
    use: Use


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
        self.life, self.process = Counts(), Counts()
        self.replay = SampleBuffer(settings.replay_capacity)
        self.validation = SampleBuffer(settings.validation_size)
        self.window = ProgressiveWindow()
        self.decay = PlateauDecay(settings)
        self.validated: dict[str, float | int | None] = {
            "validation_loss": None,
            "validation_accuracy": None,
            "validation_pairs": 0,
        }
        self.model = ScorerModel(settings)
        self.origins = Origins({})
        self._scale = input_scale(settings)

    def score(self, entry: ScorerEntry) -> Floats:
        """Return one score an item, with the weights of this moment."""
        return self.model.scores(input_rows(entry, self._scale))

    def plan(self, entries: Entries, epoch: int) -> list[StepRecord]:
        """Return the steps that learn from the entries, of at most `groups_per_step` feedbacks each.

        Args:
            entries: input offsets and entries, in order.
            epoch: the owner's, written into the steps.

        Changes nothing.
        """
        offsets = [offset for offset, _, use in self._fresh(entries, self.origins.copy()) if use is Use.LEARNED]
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
        works = [_Work(*found) for found in self._fresh(entries, self.origins.copy())]
        segments = list(self._segments(works, entries, steps))
        self._count_skipped(entries, works)
        scored: list[Scored] = []
        for segment, record in segments:
            scored += self._score(segment) if record is None else self._learn(segment, record)
        for _, entry in entries:
            self.origins.take(entry.origin)
        if entries:
            self.next_offset = max(self.next_offset, entries[-1][0] + 1)
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

    def _fresh(self, entries: Entries, origins: Origins) -> Iterator[tuple[int, ScorerEntry, Use]]:
        """Yield the entries that are no repetition, with their use."""
        for offset, entry in entries:
            if offset >= self.next_offset and origins.take(entry.origin):
                yield offset, entry, use_of(entry, self.settings)

    def _segments(
        self, works: list[_Work], entries: Entries, steps: Sequence[StepRecord]
    ) -> Iterator[tuple[list[_Work], StepRecord | None]]:
        """Cut the work into what is only scored and what belongs to a step."""
        after = self.next_offset - 1
        for number, record in enumerate(steps, start=self.step + 1):
            if record.step != number or record.first_offset <= after:
                raise StepOrderError(f"step {record.step} comes where step {number} after offset {after} should")
            if not entries or not entries[0][0] <= record.first_offset <= record.last_offset <= entries[-1][0]:
                raise StepOrderError(f"step {number} is not wholly within the entries handed in")
            yield _scored_only([w for w in works if after < w.offset < record.first_offset]), None
            yield [w for w in works if record.first_offset <= w.offset <= record.last_offset], record
            after = record.last_offset
        yield _scored_only([w for w in works if w.offset > after]), None

    def _count_skipped(self, entries: Entries, works: list[_Work]) -> None:
        self._count("duplicates", len(entries) - len(works))
        for name, use in (("skipped_not_finite", Use.NOT_FINITE), ("skipped_no_reward", Use.NO_REWARD)):
            self._count(name, sum(work.use is use for work in works))

    def _count(self, name: str, more: int = 1) -> None:
        for counts in (self.life, self.process):
            setattr(counts, name, getattr(counts, name) + more)

    def _score(self, works: list[_Work]) -> list[Scored]:
        """Score entries with the weights of this moment; held-out ones go into the validation buffer."""
        usable = [work for work in works if work.use in _REASONS]
        entries = [work.entry for work in usable]
        scores = self._scores_of(entries, self._rows_of(entries)) if entries else []
        held_out = [work.entry for work in usable if work.use is Use.HELD_OUT]
        if held_out:
            samples, _ = judged_samples(held_out, self._rows_of(held_out), 0)
            self.validation.add(samples)
            self._count("samples_held_out", len(samples))
        self._count("groups_held_out", len(held_out))
        self._count("arrived_scored", sum(work.use is Use.ARRIVED for work in usable))
        return [
            Scored(work.entry, _REASONS[work.use], self.step, values, None)
            for work, values in zip(usable, scores, strict=True)
        ]

    def _learn(self, works: list[_Work], record: StepRecord) -> list[Scored]:
        """Score the step's entries, take one optimizer update from its feedbacks, and score those again."""
        results = self._score(works)
        places = [n for n, result in enumerate(results) if result.reason == "feedback_learned"]
        entries = [results[n].entry for n in places]
        self.step = record.step
        if not entries:
            return results
        rows = self._rows_of(entries)
        fresh, judged = judged_samples(entries, rows, self.life.groups_learned + 1)
        before = np.array([score for n in places for score in results[n].scores])
        self.window.add(fresh, before[judged])
        self._update(fresh, record)
        self._count("groups_learned", len(entries))
        for n, values in zip(places, self._scores_of(entries, rows), strict=True):
            results[n] = Scored(results[n].entry, "feedback_learned", record.step, values, results[n].scores)
        return results

    def _rows_of(self, entries: Sequence[ScorerEntry]) -> Floats:
        return np.concatenate([input_rows(entry, self._scale) for entry in entries])

    def _scores_of(self, entries: Sequence[ScorerEntry], rows: Floats) -> list[tuple[float, ...]]:
        """Return each entry's scores, an item each, from one pass through the network."""
        scores = iter(self.model.scores(rows).tolist())
        return [tuple(islice(scores, len(entry.item_ids))) for entry in entries]

    def _update(self, fresh: Samples, record: StepRecord) -> None:
        rng = np.random.Generator(np.random.PCG64(record.seed))
        samples = join([fresh, draw(self.replay, fresh.intents, self.settings.replay_samples, rng)])
        better, worse = choose_pairs(samples, len(fresh), self.settings.pairs_per_step, rng)
        taken = self.model.update(samples, better, worse, self.decay.learning_rate)
        self.replay.add(fresh)
        self._count("steps" if taken else "skipped_updates")
        self._count("samples_learned", len(fresh))
        self._count("pairs_ranked", len(better))
        if self.step % self.settings.validate_every_steps == 0 and len(self.validation):
            self._validate()

    def _validate(self) -> None:
        samples = self.validation.samples
        loss = self.model.loss(samples, *neighbour_pairs(samples))
        self.validated = {
            "validation_loss": loss.value,
            "validation_accuracy": loss.correct / loss.pairs if loss.pairs else None,
            "validation_pairs": loss.pairs,
        }
        # Losses over fewer samples do not compare: a lucky one would be the best for ever.
        full = len(samples) == self.validation.capacity
        count = self.decay.add(loss.value) if full else None
        if count is not None:
            self._count(count)


_REASONS: dict[Use, ScoreReason] = {
    Use.ARRIVED: "experience_arrived",
    Use.HELD_OUT: "feedback_held_out",
    Use.LEARNED: "feedback_learned",
}


def _scored_only(works: list[_Work]) -> list[_Work]:
    for work in works:
        if work.use is Use.LEARNED:
            raise StepOrderError(f"the feedback at offset {work.offset} is in no step")
    return works
