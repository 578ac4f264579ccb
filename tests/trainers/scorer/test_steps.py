from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import StepRecord
from trainers.scorer.steps import valid_steps


def claim(epoch: int) -> StepRecord:
    return StepRecord(kind="claim", epoch=epoch)


def step(epoch: int, number: int, seed: int = 0) -> StepRecord:
    return StepRecord(
        kind="step", epoch=epoch, step=number, first_offset=10 * number, last_offset=10 * number + 9, seed=seed
    )


def log(*records: StepRecord) -> list[tuple[int, StepRecord]]:
    return list(enumerate(records))


def numbers(steps: list[StepRecord]) -> list[tuple[int, int]]:
    return [(record.epoch, record.step) for record in steps]


def test_successor_replays_the_former_owners_steps_then_goes_on():
    records = [claim(1), *(step(1, n) for n in range(1, 11)), claim(2), step(2, 11)]
    assert numbers(valid_steps(log(*records))) == [*((1, n) for n in range(1, 11)), (2, 11)]


def test_step_of_a_former_owner_after_the_claim_is_void():
    assert numbers(valid_steps(log(claim(1), step(1, 1), claim(2), step(1, 2, seed=7)))) == [(1, 1)]
    assert numbers(valid_steps(log(claim(1), step(1, 1), claim(2), step(1, 2, 7), step(2, 2)))) == [(1, 1), (2, 2)]


def test_late_claim_of_a_lower_epoch_is_void():
    assert numbers(valid_steps(log(claim(2), claim(1), step(1, 1), step(2, 1)))) == [(2, 1)]


def test_log_read_from_its_middle_knows_the_epoch_claimed_before():
    assert valid_steps(log(step(1, 4)), claimed=2) == []
    assert numbers(valid_steps(log(step(1, 4)), claimed=1)) == [(1, 4)]


def test_steps_logged_anew_from_an_older_checkpoint_replace_all_from_there_on():
    records = [claim(1), step(1, 1), step(1, 2), step(1, 3), claim(2), step(2, 2)]
    assert numbers(valid_steps(log(*records))) == [(1, 1), (2, 2)]


def test_step_logged_twice_counts_once():
    assert len(valid_steps(log(claim(1), step(1, 1), step(1, 1), step(1, 2)))) == 2


@dataclass
class Owner:
    """An owner as the agent does it: claim, replay what is valid, then log before applying."""

    epoch: int
    applied: list[StepRecord] = field(default_factory=list)


@dataclass
class World:
    records: list[StepRecord] = field(default_factory=list)
    owners: list[Owner] = field(default_factory=list)
    saved: list[StepRecord] = field(default_factory=list)
    saved_log: int = 0
    saved_epoch: int = 0

    def take_over(self) -> None:
        owner = Owner(len(self.owners) + 1)
        self.records.append(claim(owner.epoch))
        tail = list(enumerate(self.records))[self.saved_log :]
        known = self.saved[-1].step if self.saved else 0
        owner.applied = self.saved + [s for s in valid_steps(tail, self.saved_epoch) if s.step > known]
        self.owners.append(owner)

    def learn(self, owner: Owner) -> None:
        number = owner.applied[-1].step + 1 if owner.applied else 1
        record = step(owner.epoch, number, seed=len(self.records))
        self.records.append(record)
        owner.applied.append(record)

    def save(self) -> None:
        owner = self.owners[-1]
        if owner.applied and owner.applied[-1].epoch == owner.epoch:
            self.saved, self.saved_epoch = list(owner.applied), owner.epoch
            self.saved_log = 1 + max(n for n, r in enumerate(self.records) if r == owner.applied[-1])


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["take_over", "learn", "zombie", "save"]), max_size=40))
def test_every_owner_has_applied_what_the_whole_log_says(events: list[str]):
    world = World()
    world.take_over()
    for event in events:
        if event == "take_over":
            world.take_over()
        elif event == "learn":
            world.learn(world.owners[-1])
        elif event == "zombie":
            world.learn(world.owners[max(0, len(world.owners) - 2)])
        else:
            world.save()
    assert world.owners[-1].applied == valid_steps(log(*world.records))
    steps = [record.step for record in world.owners[-1].applied]
    assert steps == list(range(1, len(steps) + 1))
