"""Bounded buffers of samples: the replay buffer and the validation buffer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trainers.scorer.architecture import empty_rows

Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint64]
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Samples:
    """Items with their rewards; one row, reward, intent, query and group each."""

    rows: Floats
    """813 scaled inputs each."""
    rewards: Floats
    intents: Words
    """64-bit hash of the intent type."""
    queries: Words
    """64-bit hash of the query."""
    groups: Words
    """Number of the feedback in the scorer's life."""

    def __len__(self) -> int:
        return len(self.rewards)

    def take(self, places: Longs | slice) -> Samples:
        """Return the samples at `places`; those of a slice are views."""
        return Samples(*(getattr(self, name)[places] for name in NAMES))


NAMES = ("rows", "rewards", "intents", "queries", "groups")


class SampleBuffer:
    """The newest samples, up to a capacity; memory and cost do not grow with the stream."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._all = Samples(
            empty_rows(capacity),
            np.zeros(capacity, np.float32),
            *(np.zeros(capacity, np.uint64) for _ in range(3)),
        )
        self._next = 0
        self._count = 0
        self._views = self._all.take(slice(0))

    def __len__(self) -> int:
        return self._count

    @property
    def samples(self) -> Samples:
        """The samples, oldest place first, as views."""
        if len(self._views) != self._count:
            self._views = self._all.take(slice(self._count))
        return self._views

    def add(self, samples: Samples) -> None:
        """Take the samples in; the oldest go."""
        if len(samples) > self.capacity:
            samples = samples.take(slice(len(samples) - self.capacity, None))
        until_end = self.capacity - self._next
        if len(samples) > until_end:
            self._put(samples.take(slice(until_end)))
            samples = samples.take(slice(until_end, None))
        self._put(samples)

    def _put(self, samples: Samples) -> None:
        """Take in samples that fit before the end."""
        start, stop = self._next, self._next + len(samples)
        for name in NAMES:
            getattr(self._all, name)[start:stop] = getattr(samples, name)
        self._next = stop % self.capacity
        self._count = max(self._count, stop)

    @property
    def position(self) -> int:
        """Place that the next sample takes; with `samples` it is all that a checkpoint needs."""
        return self._next

    def replace(self, places: Longs, samples: Samples) -> None:
        """Put samples in the places of others, one each."""
        for name in NAMES:
            getattr(self._all, name)[places] = getattr(samples, name)

    def clear(self) -> None:
        """Become empty."""
        self._count = self._next = 0

    def restore(self, samples: Samples, position: int) -> None:
        """Become the buffer that had these samples and this position, or its newest where this one is smaller."""
        self.clear()
        if len(samples) == self.capacity:
            # A full ring comes back place by place, so that the same draws find the same samples.
            self.add(samples)
            self._next = position
        else:
            self.add(samples.take(np.roll(np.arange(len(samples)), -position)))


class Draws:
    """Random words that follow from a seed alone: what a log of steps was drawn by may not change with a library.

    SplitMix64: Steele et al., "Fast Splittable Pseudorandom Number Generators", 2014.
    """

    def __init__(self, seed: int) -> None:
        """Begin with a seed of at most 64 bits."""
        self._state = seed

    def words(self, count: int) -> Words:
        """Return the next `count` words of 64 bits."""
        mixed = np.arange(1, count + 1, dtype=np.uint64)
        mixed *= _GOLDEN
        mixed += self._state
        self._state = (self._state + count * _GOLDEN) % 2**64
        mixed ^= mixed >> 30
        mixed *= 0xBF58476D1CE4E5B9
        mixed ^= mixed >> 27
        mixed *= 0x94D049BB133111EB
        mixed ^= mixed >> 31
        return mixed


_GOLDEN = 0x9E3779B97F4A7C15


def draw(buffer: SampleBuffer, intents: Words, count: int, draws: Draws) -> Longs:
    """Return `count` places drawn with replacement: half of them of the given intents, the others of any."""
    samples = buffer.samples
    if not len(samples) or not count:
        return np.zeros(0, np.int64)
    first, *others = set(intents.tolist())
    wanted = samples.intents == first
    for intent in others:
        wanted |= samples.intents == intent
    alike = wanted.nonzero()[0]
    # A remainder is uneven by less than a buffer's length in 2^64.
    words = draws.words(count)
    near = alike[(words[: count // 2] % len(alike)).view(np.int64)] if len(alike) else alike
    return np.concatenate((near, (words[len(near) :] % len(samples)).view(np.int64)))


def unlabelled_first(items: Samples) -> tuple[Samples, Longs | slice, int]:
    """Return the items, the ones without a reward first, with their former places and the number without a reward.

    Rows are moved in place, so that what is learned from is in one piece.
    """
    judged = np.isfinite(items.rewards)
    unlabelled = len(items) - int(np.count_nonzero(judged))
    if not unlabelled:
        return items, slice(None), 0
    order = judged.argsort(kind="stable")
    moved = items.take(order)
    items.rows[:] = moved.rows
    return replace(moved, rows=items.rows), order, unlabelled


def with_replayed(fresh: Samples, buffer: SampleBuffer, places: Longs, rows: Floats) -> Samples:
    """Return the fresh samples and those at `places` of the buffer; `rows` has the fresh ones' and room behind them."""
    samples = buffer.samples
    samples.rows.take(places, axis=0, out=rows[len(fresh) :], mode="clip")
    return Samples(rows, *(np.concatenate((getattr(fresh, n), getattr(samples, n)[places])) for n in NAMES[1:]))


def places_in(usable: npt.NDArray[np.bool_]) -> tuple[Longs, Longs]:
    """Return rows and columns of what is true, row by row: `nonzero`, several times as fast."""
    flat = np.flatnonzero(usable)
    # Division by one number is quick, `divmod` is not.
    one = flat // max(usable.shape[1], 1)
    return one, flat - one * usable.shape[1]


def choose_pairs(samples: Samples, fresh: int, most: int, draws: Draws) -> tuple[Longs, Longs]:
    """Return the places of the better and the worse items of at most `most` pairs.

    A pair has one of the first `fresh` samples, one intent, and two rewards; pairs within one experience go first,
    the others are drawn.
    """
    usable = samples.rewards[:fresh, None] != samples.rewards
    usable &= samples.intents[:fresh, None] == samples.intents
    one, other = places_in(usable)
    once = one < other
    one, other = one[once], other[once]
    if len(one) > most:
        across = samples.groups[one] != samples.groups[other]
        chosen = np.argpartition((draws.words(len(one)) >> 1) + across * np.uint64(2**63), most)[:most]
        one, other = one[chosen], other[chosen]
    wins = samples.rewards[one] > samples.rewards[other]
    return np.where(wins, one, other), np.where(wins, other, one)


def neighbour_pairs(rewards: Floats, marks: Words, reach: int = 16) -> tuple[Longs, Longs]:
    """Return pairs of one mark and two rewards, each place with the `reach` next ones: the same at every call."""
    count = len(rewards)
    one = np.tile(np.arange(count), reach)
    other = one + np.repeat(np.arange(1, reach + 1), count)
    one, other = one[other < count], other[other < count]
    gap = rewards[one] - rewards[other]
    usable = (marks[one] == marks[other]) & (gap != 0)
    one, other, wins = one[usable], other[usable], gap[usable] > 0
    return np.where(wins, one, other), np.where(wins, other, one)
