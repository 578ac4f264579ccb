"""What the join has kept in one partition, as the decisions of one batch read and write it."""

from __future__ import annotations

from dataclasses import dataclass, field

from streams.join.ledger import Ledgers, ledger_of
from streams.join.recent import Recent
from streams.join.state import EarlyFeedback, JoinedExperience, Judgements
from streams.state.write_buffer import Stored, WriteBuffer


@dataclass(slots=True)
class Memory:
    """What was decoded for earlier batches of a partition."""

    experiences: Recent[JoinedExperience] = field(default_factory=Recent)
    judgements: Recent[Judgements] = field(default_factory=Recent)


class Kept:
    """The experiences of a partition and their judgements; every change goes into the overlays."""

    def __init__(self, experiences: WriteBuffer[Stored], judgements: WriteBuffer[Stored], memory: Memory) -> None:
        self.ledgers = Ledgers(judgements)
        self._experiences = experiences
        self._judgements = judgements
        self._memory = memory

    def experience(self, key: bytes) -> JoinedExperience | None:
        """Return the experience, None where it has not come or is forgotten."""
        data = self._experiences.get(key)
        if data is None:
            return None
        joined = self._memory.experiences.get(key, data)
        if joined is None:
            joined = JoinedExperience.decode(data)
            self._memory.experiences.keep(key, data, joined)
        return joined

    def keep_experience(self, key: bytes, joined: JoinedExperience) -> None:
        """Write the experience."""
        data = joined.encode()
        self._experiences.set(key, data)
        self._memory.experiences.keep(key, data, joined)

    def state(self, key: bytes) -> Judgements | None:
        """Return the judgements so far, for the caller to change; what is kept again is what was written."""
        data = self._judgements.get(key)
        return None if data is None else self._memory.judgements.take(key, data) or Judgements.decode(data)

    def keep_state(self, key: bytes, state: Judgements) -> None:
        """Write the judgements so far."""
        data = state.encode()
        self._judgements.set(key, data)
        self._memory.judgements.keep(key, data, state)

    def forget(self, key: bytes) -> None:
        """Delete an experience; its ledger stays until it is cleared."""
        if self._experiences.get(key) is not None:
            self._experiences.set(key, None)
        self._judgements.set(key, None)

    def knows(self, key: bytes, state: Judgements, feedback_id: str) -> bool:
        """Whether the feedback was decided before, by this or an earlier delivery."""
        if feedback_id in state.outcomes:
            return True
        return state.ledger is not None and self.ledgers.knows(ledger_of(key, state.ledger), feedback_id)

    def waiting(self, key: bytes, state: Judgements) -> list[EarlyFeedback]:
        """Return the feedback that waits for the experience, in the order of its arrival."""
        if state.ledger is None or not state.waiting:
            return state.early
        return self.ledgers.waiting(ledger_of(key, state.ledger), state.waiting_from) + state.early

    def enter_in_ledger(self, key: bytes, state: Judgements, offset: int) -> bytes | None:
        """Let the feedbacks that a state names go to its ledger; return the ledger where it had to be opened.

        They are written before the state that no longer names them, which the caller keeps after its next change.
        """
        opened = None
        if state.ledger is None:
            state.ledger, opened = offset, ledger_of(key, offset)
            self.ledgers.open(opened, state.since)
        early = {waits.feedback.feedback_id: waits for waits in state.early}
        for name, outcome in state.outcomes.items():
            self.ledgers.enter(ledger_of(key, state.ledger), name, outcome, early.get(name))
        if early and not state.waiting:
            state.waiting_from = state.early[0].offset
        state.waiting += len(early)
        state.outcomes, state.early = {}, []
        return opened
