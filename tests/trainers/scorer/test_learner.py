import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.records import Origin, ScorerEntry, StepRecord
from schemas.settings import ScorerSettings
from tests.trainers.scorer.making import HELD_OUT, LEARNED, SMALL, entry, random_stream, run
from trainers.scorer.learner import OnlineLearner, StepOrderError
from trainers.scorer.steps import valid_steps


def stream_of(*entries: ScorerEntry) -> list[tuple[int, ScorerEntry]]:
    return list(enumerate(entries))


def apply_all(learner: OnlineLearner, *entries: ScorerEntry) -> list[str]:
    stream = stream_of(*entries)
    return [scored.reason for scored in learner.apply(stream, learner.plan(stream, 1))]


def test_plan_cuts_learnable_feedback_into_steps_and_changes_nothing():
    learner = OnlineLearner(SMALL)
    before = learner.status(), learner.weights_hash()
    entries = stream_of(
        entry(0, kind="arrived"), *(entry(n) for n in range(1, 4)), entry(4, query=HELD_OUT[0]), entry(5)
    )
    steps = learner.plan(entries, epoch=7)
    assert [(s.epoch, s.step, s.first_offset, s.last_offset) for s in steps] == [(7, 1, 1, 3), (7, 2, 5, 5)]
    assert learner.plan(entries, epoch=7) == steps
    assert (learner.status(), learner.weights_hash()) == before


def test_seeds_follow_from_the_scorers_seed_and_the_step():
    entries = stream_of(*(entry(n) for n in range(6)))
    one, same, other = (
        [s.seed for s in OnlineLearner(SMALL.model_copy(update={"seed": seed})).plan(entries, 1)] for seed in (1, 1, 2)
    )
    assert one == same
    assert len({*one, *other}) == 4


def test_learned_feedback_is_scored_before_and_after_its_step():
    learner = OnlineLearner(SMALL)
    learned = entry(1)
    stream = stream_of(entry(0, kind="arrived"), learned)
    expected = learner.score(learned).tolist()
    arrived, result = learner.apply(stream, learner.plan(stream, 1))
    assert (arrived.reason, arrived.step, arrived.previous_scores) == ("experience_arrived", 0, None)
    assert (result.reason, result.step) == ("feedback_learned", 1)
    assert result.previous_scores == pytest.approx(expected)
    assert result.scores == pytest.approx(learner.score(learned).tolist())
    better, worse = np.subtract(result.scores, result.previous_scores)
    assert better > worse
    assert learner.next_offset == 2


def test_held_out_feedback_is_never_learned():
    learner = OnlineLearner(SMALL)
    before = learner.weights_hash()
    assert apply_all(learner, *(entry(n, query=HELD_OUT[n % 4]) for n in range(9))) == ["feedback_held_out"] * 9
    assert learner.weights_hash() == before
    assert len(learner.replay) == 0
    assert len(learner.validation) == SMALL.validation_size
    assert learner.status()["groups_held_out"] == 9


def test_every_feedback_is_learned_or_held_out_exactly_once():
    learner = OnlineLearner(SMALL)
    stream = [(n, entry(n, query=(LEARNED + HELD_OUT)[n % 16])) for n in range(64)]
    run(learner, stream, batch=7)
    status = learner.status()
    assert (status["groups_learned"], status["groups_held_out"]) == (48, 16)


def test_repeated_origin_gives_nothing_and_is_counted():
    learner = OnlineLearner(SMALL)
    first = entry(0, origin=Origin("feedback", 2, 5))
    again = replace(entry(1), origin=Origin("feedback", 2, 5))
    other = replace(entry(2), origin=Origin("experiences", 2, 5))
    assert apply_all(learner, first, again, other) == ["feedback_learned"] * 2
    late = [(3, replace(entry(3), origin=Origin("feedback", 2, 5)))]
    assert learner.plan(late, 1) == []
    assert learner.apply(late, []) == []
    assert learner.status()["duplicates"] == 2
    assert learner.next_offset == 4


def test_an_origin_that_comes_after_a_later_one_is_learned():
    learner = OnlineLearner(SMALL)
    assert apply_all(learner, *(replace(entry(n), origin=Origin("feedback", 2, 9 - n)) for n in range(4))) == (
        ["feedback_learned"] * 4
    )


def test_entries_below_the_position_are_repetitions():
    learner = OnlineLearner(SMALL)
    apply_all(learner, entry(0), entry(1))
    assert learner.plan([(1, entry(9))], 1) == []
    assert learner.apply([(1, entry(9))], []) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_features_that_are_not_finite_never_reach_the_weights(value: float):
    learner = OnlineLearner(SMALL)
    vectors = np.frombuffer(entry(0).features, "<f4").copy()
    vectors[500] = value
    bad = vectors.tobytes()
    before = learner.weights_hash()
    assert apply_all(learner, entry(0, features=bad), entry(1, kind="arrived", features=bad)) == []
    assert learner.weights_hash() == before
    assert learner.status()["skipped_not_finite"] == 2
    assert apply_all_at(learner, 2, entry(2)) == ["feedback_learned"]
    assert np.isfinite(learner.score(entry(3))).all()


def apply_all_at(learner: OnlineLearner, start: int, *entries: ScorerEntry) -> list[str]:
    stream = list(enumerate(entries, start=start))
    return [scored.reason for scored in learner.apply(stream, learner.plan(stream, 1))]


def test_rewards_that_are_not_finite_are_left_out():
    learner = OnlineLearner(SMALL)
    nan = float("nan")
    found = apply_all(learner, entry(0, (nan, nan)), entry(1, (None, None)), entry(2, (nan, 1.0)), entry(3, ()))
    assert found == ["feedback_learned"]
    status = learner.status()
    assert (status["skipped_not_finite"], status["skipped_no_reward"], status["samples_learned"]) == (1, 2, 1)


def test_update_whose_loss_leaves_the_rails_is_skipped_and_counted():
    learner = OnlineLearner(SMALL.model_copy(update={"pointwise_weight": 1e9}))
    before = learner.weights_hash()
    assert apply_all(learner, entry(0)) == ["feedback_learned"]
    status = learner.status()
    assert (status["skipped_updates"], status["steps"], learner.weights_hash()) == (1, 0, before)


def test_rewards_that_never_differ_are_said_to_validate_nothing():
    learner = OnlineLearner(SMALL)
    stream = [(n, entry(n, (1.0, 1.0), query=(LEARNED + HELD_OUT)[n % 16])) for n in range(64)]
    run(learner, stream, batch=8)
    status = learner.status()
    assert status["validation_accuracy"] is None
    assert status["validation_pairs"] == status["progressive_pairs"] == status["pairs_ranked"] == 0
    assert status["validation_loss"] is not None
    assert status["validation_note"] == "all held-out rewards are equal: there is nothing to rank"


def test_rewards_that_never_change_sign_are_told_beside_the_validation():
    learner = OnlineLearner(SMALL)
    stream = [(n, entry(n, (0.9, 0.1), query=(LEARNED + HELD_OUT)[n % 16])) for n in range(64)]
    run(learner, stream, batch=8)
    assert "never change sign" in learner.status()["validation_note"]
    later = [(n, entry(n, (0.9, -0.1), query=(LEARNED + HELD_OUT)[n % 16])) for n in range(64, 128)]
    run(learner, later, batch=8)
    assert learner.status()["validation_note"] is None


def test_single_items_are_learned_across_experiences():
    learner = OnlineLearner(SMALL)
    run(learner, [(n, entry(n, (1.0 if n % 2 else -1.0,))) for n in range(40)], batch=4)
    status = learner.status()
    assert (status["groups_learned"], status["samples_learned"]) == (40, 40)
    assert status["pairs_ranked"] > 0
    assert np.isfinite(learner.model.arrays()["weights.down.weight"]).all()


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([0.0, 1e-30, 1.0, 30.0, 1e3, 1e20, 3e38, np.inf, np.nan]),
    rewards=st.lists(
        st.one_of(st.none(), st.floats(-1, 1), st.sampled_from([np.nan, np.inf, -np.inf, 1e300])), max_size=4
    ),
    rate=st.sampled_from([1e-3, 1.0]),
)
def test_whatever_comes_the_weights_stay_finite(size: float, rewards: list[float | None], rate: float):
    learner = OnlineLearner(SMALL.model_copy(update={"learning_rate": rate}))
    vectors = np.zeros(384 + 429 * len(rewards), "<f4")
    vectors[::7] = size
    strange = entry(0, rewards, features=vectors.tobytes())
    run(learner, [(0, strange), *((n, entry(n)) for n in range(1, 6))], batch=2)
    for name, values in learner.model.arrays().items():
        assert np.isfinite(values).all(), name
    assert np.isfinite(learner.score(entry(9))).all()


def test_learning_rate_grows_with_the_root_of_a_steps_feedbacks(monkeypatch: pytest.MonkeyPatch):
    learner = OnlineLearner(SMALL.model_copy(update={"groups_per_step": 4}))
    rates, update = [], learner.model.update
    monkeypatch.setattr(learner.model, "update", lambda *given: (rates.append(given[-1]), update(*given))[1])
    apply_all(learner, *(entry(n) for n in range(5)))
    assert rates == pytest.approx([2e-3, 1e-3])


def test_experience_without_items_is_scored_as_such():
    learner = OnlineLearner(SMALL)
    [scored] = learner.apply([(0, entry(0, (), kind="arrived"))], [])
    assert scored.scores == ()


def test_steps_must_lie_within_the_entries_and_in_order():
    learner = OnlineLearner(SMALL)
    entries = stream_of(entry(0), entry(1))
    good = StepRecord(kind="step", epoch=1, step=1, first_offset=0, last_offset=1, seed=1)
    before = learner.status(), learner.weights_hash()
    for wrong in ({"step": 2}, {"last_offset": 2}, {"first_offset": 1}):
        with pytest.raises(StepOrderError):
            learner.apply(entries, [good.model_copy(update=wrong)])
    with pytest.raises(StepOrderError, match="offset 0 is in no step"):
        learner.apply(entries, [])
    assert (learner.status(), learner.weights_hash()) == before


def test_validation_plateau_halves_the_learning_rate_then_counts_at_the_floor():
    # Without learning to speak of, no validation round improves on the first.
    still = {"learning_rate": 1e-12, "min_learning_rate": 1.25e-13, "groups_per_step": 1, "validate_every_steps": 1}
    learner = OnlineLearner(SMALL.model_copy(update={**still, "validation_size": 2}))
    apply_all(learner, entry(0, query=HELD_OUT[0]))
    rates = []
    for number in range(1, 7):
        apply_all_at(learner, number, entry(number))
        rates.append(learner.status()["learning_rate"])
    assert rates == pytest.approx([1e-12, 5e-13, 2.5e-13, 1.25e-13, 1.25e-13, 1.25e-13])
    assert (learner.status()["decays"], learner.status()["decays_at_floor"]) == (3, 2)


def test_plateau_is_not_judged_on_a_validation_buffer_that_is_still_filling():
    # Without learning to speak of, every round after the first would count as a plateau.
    still = {"learning_rate": 1e-12, "min_learning_rate": 1.25e-13, "validation_size": 400}
    learner = OnlineLearner(SMALL.model_copy(update=still))
    run(learner, random_stream(3, 90), batch=5)
    assert learner.status()["validation_loss"] is not None
    assert learner.status()["learning_rate"] == 1e-12


def test_scorer_learns_what_is_good():
    learner = OnlineLearner(ScorerSettings(groups_per_step=1))
    rng = np.random.default_rng(0)

    def judged(number: int) -> ScorerEntry:
        good, bad = (rng.random(429, np.float32) for _ in range(2))
        good[400], bad[400] = 1.0, 0.0
        features = np.concatenate([rng.random(384, np.float32), good, bad]).tobytes()
        return entry(number, (1.0, -1.0), features=features)

    run(learner, [(n, judged(n)) for n in range(300)], batch=10)
    scores = [learner.score(judged(n)) for n in range(300, 400)]
    assert np.mean([good > bad for good, bad in scores]) >= 0.95
    assert learner.status()["progressive_accuracy"] >= 0.8


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 60),
    batch=st.integers(1, 20),
    other_batch=st.integers(1, 20),
    data=st.data(),
)
def test_resumed_learner_is_bit_identical_to_one_that_never_stopped(
    seed: int, count: int, batch: int, other_batch: int, data: st.DataObject
):
    stream = random_stream(seed, count)
    whole, log, snapshots = OnlineLearner(SMALL), [], []
    for start in range(0, count, batch):
        chunk = stream[start : start + batch]
        snapshots.append(whole.snapshot(epoch=1, log_offset=len(log)))
        steps = whole.plan(chunk, 1)
        log += steps
        whole.apply(chunk, steps)
    snapshot = data.draw(st.sampled_from(snapshots))
    resumed = OnlineLearner(SMALL)
    resumed.restore(snapshot)
    waiting = stream[snapshot.next_offset :]
    for record in valid_steps(list(enumerate(log))[snapshot.log_offset :]):
        ready = [pair for pair in waiting if pair[0] <= record.last_offset]
        waiting = waiting[len(ready) :]
        resumed.apply(ready, [record])
    run(resumed, waiting, other_batch)
    assert resumed.weights_hash() == whole.weights_hash()
    assert {**resumed.status(), "process": None} == {**whole.status(), "process": None}


def test_batches_of_any_size_count_the_same():
    stream = random_stream(5, 80)
    counted = []
    for batch in (1, 7, 80):
        learner = OnlineLearner(SMALL)
        run(learner, stream, batch)
        status = learner.status()
        counted.append([status[name] for name in ("groups_learned", "groups_held_out", "duplicates", "arrived_scored")])
    assert counted[0] == counted[1] == counted[2]


def test_the_progressive_window_holds_the_scores_from_before_they_were_learned() -> None:
    learner = OnlineLearner(SMALL)
    for number in range(4):
        stream = [(number, entry(number, (1.0, -1.0)))]
        before = learner.score(stream[0][1]).tolist()
        learner.apply(stream, learner.plan(stream, 1))
        assert learner.score(stream[0][1]).tolist() != before
        assert learner.window.rows[-2:, 0].tolist() == pytest.approx(before, rel=1e-5)
