import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.records import Origin, Scored, ScorerEntry
from schemas.settings import ScorerSettings
from tests.trainers.scorer.making import HELD_OUT, LEARNED, SMALL, entry, queries, random_stream, run
from trainers.scorer.learner import OnlineLearner, step_seed
from trainers.scorer.validation import LEAST_SHARE


def apply(learner: OnlineLearner, *entries: ScorerEntry) -> list[Scored]:
    """Apply the entries as the log's next record."""
    return learner.apply(learner.next_offset, entries)


def apply_all(learner: OnlineLearner, *entries: ScorerEntry) -> list[str]:
    return [scored.reason for scored in apply(learner, *entries)]


def test_a_record_is_cut_into_steps_of_learnable_feedback():
    learner = OnlineLearner(SMALL)
    found = apply(
        learner,
        entry(0, kind="arrived"),
        *(entry(n) for n in range(1, 4)),
        entry(4, query=HELD_OUT[0]),
        entry(5),
        entry(6, kind="arrived"),
    )
    assert [(scored.reason, scored.step, scored.entry.experience_id) for scored in found] == [
        ("experience_arrived", 0, "e0"),
        *(("feedback_learned", 1, f"e{n}") for n in range(1, 4)),
        ("feedback_held_out", 1, "e4"),
        ("feedback_learned", 2, "e5"),
        ("experience_arrived", 2, "e6"),
    ]
    assert learner.step == 2


def test_a_record_is_a_step_at_least_however_few_feedbacks_it_has():
    learner = OnlineLearner(SMALL)
    for number in range(4):
        apply(learner, entry(number))
    assert learner.step == 4


def test_draws_follow_from_the_scorers_seed_and_the_steps_number():
    # What was drawn once is drawn so for ever, or no log could be folded again.
    assert (step_seed(0, 1), step_seed(7, 1_000_000)) == (7359998640416684799, 2735840962941500888)
    assert len({step_seed(seed, step) for seed in range(30) for step in range(30)}) == 900
    stream = [entry(n, (1.0, -1.0, 0.5)) for n in range(30)]
    hashes = []
    for seed in (1, 1, 2):
        learner = OnlineLearner(SMALL.model_copy(update={"seed": seed}))
        learner.model.restore(OnlineLearner(SMALL).model.arrays())  # first weights come from the seed, too
        run(learner, stream, batch=3)
        hashes.append(learner.weights_hash())
    assert hashes[0] == hashes[1] != hashes[2]


def test_learned_feedback_is_scored_before_and_after_its_step():
    learner = OnlineLearner(SMALL)
    learned = entry(1)
    expected = learner.score(learned).tolist()
    arrived, result = learner.apply(7, [entry(0, kind="arrived"), learned])
    assert (arrived.reason, arrived.step, arrived.previous_scores) == ("experience_arrived", 0, None)
    assert (result.reason, result.step) == ("feedback_learned", 1)
    # Both parts' scores are added up, where the network that is served adds up all products: float32 rounds them apart.
    assert result.previous_scores == pytest.approx(expected, rel=1e-5)
    assert result.scores == pytest.approx(learner.score(learned).tolist())
    better, worse = np.subtract(result.scores, result.previous_scores)
    assert better > worse
    assert learner.next_offset == 8


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
    stream = [entry(n, query=(LEARNED + HELD_OUT)[n % 16]) for n in range(64)]
    run(learner, stream, batch=7)
    status = learner.status()
    assert (status["groups_learned"], status["groups_held_out"]) == (48, 16)


def test_repeated_origin_gives_nothing_and_is_counted():
    learner = OnlineLearner(SMALL)
    first = entry(0, origin=Origin("feedback", 2, 5))
    again = replace(entry(1), origin=Origin("feedback", 2, 5))
    other = replace(entry(2), origin=Origin("experiences", 2, 5))
    assert apply_all(learner, first, again, other) == ["feedback_learned"] * 2
    before = learner.weights_hash()
    assert apply_all(learner, replace(entry(3), origin=Origin("feedback", 2, 5))) == []
    assert learner.weights_hash() == before
    assert learner.status()["duplicates"] == 2
    assert (learner.step, learner.next_offset) == (1, 2)


def test_an_origin_that_comes_after_a_later_one_is_learned():
    learner = OnlineLearner(SMALL)
    assert apply_all(learner, *(replace(entry(n), origin=Origin("feedback", 2, 9 - n)) for n in range(4))) == (
        ["feedback_learned"] * 4
    )


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
    assert apply_all(learner, entry(2)) == ["feedback_learned"]
    assert np.isfinite(learner.score(entry(3))).all()


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
    stream = [entry(n, (1.0, 1.0), query=(LEARNED + HELD_OUT)[n % 16]) for n in range(64)]
    run(learner, stream, batch=8)
    status = learner.status()
    assert status["validation_accuracy"] is None
    assert status["validation_pairs"] == status["progressive_pairs"] == status["pairs_ranked"] == 0
    assert status["validation_loss"] is not None
    assert status["validation_note"] == "all held-out rewards are equal: there is nothing to rank"


def test_rewards_that_never_change_sign_are_told_beside_the_validation():
    learner = OnlineLearner(SMALL)
    stream = [entry(n, (0.9, 0.1), query=(LEARNED + HELD_OUT)[n % 16]) for n in range(64)]
    run(learner, stream, batch=8)
    assert "never change sign" in learner.status()["validation_note"]
    later = [entry(n, (0.9, -0.1), query=(LEARNED + HELD_OUT)[n % 16]) for n in range(64, 128)]
    run(learner, later, batch=8)
    assert learner.status()["validation_note"] is None


def test_single_items_are_learned_across_experiences():
    learner = OnlineLearner(SMALL)
    run(learner, [entry(n, (1.0 if n % 2 else -1.0,)) for n in range(40)], batch=4)
    status = learner.status()
    assert (status["groups_learned"], status["samples_learned"]) == (40, 40)
    assert status["pairs_ranked"] > 0
    assert np.isfinite(learner.model.arrays()["weights.down.weight"]).all()


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
    run(learner, [strange, *(entry(n) for n in range(1, 6))], batch=2)
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
    [scored] = apply(learner, entry(0, (), kind="arrived"))
    assert scored.scores == ()


def test_validation_plateau_halves_the_learning_rate_then_counts_at_the_floor():
    # Without learning to speak of, no validation round improves on the first.
    still = {"learning_rate": 1e-12, "min_learning_rate": 1.25e-13, "groups_per_step": 1, "validate_every_steps": 1}
    learner = OnlineLearner(SMALL.model_copy(update={**still, "validation_size": 2}))
    apply_all(learner, entry(0, query=HELD_OUT[0]))
    rates = []
    for number in range(1, 7):
        apply_all(learner, entry(number))
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

    run(learner, [judged(n) for n in range(300)], batch=10)
    scores = [learner.score(judged(n)) for n in range(300, 400)]
    assert np.mean([good > bad for good, bad in scores]) >= 0.95
    assert learner.status()["progressive_accuracy"] >= 0.8


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), batch=st.integers(1, 20))
def test_state_is_the_same_whether_anybody_reads_the_scores_or_not(seed: int, count: int, batch: int):
    stream, loud, silent = random_stream(seed, count), OnlineLearner(SMALL), OnlineLearner(SMALL)
    for start in range(0, count, batch):
        entries = stream[start : start + batch]
        loud.apply(start, entries)
        assert silent.apply(start, entries, silent=True) == []
    assert silent.weights_hash() == loud.weights_hash()
    assert silent.status() == loud.status()
    assert silent.decay.state() == loud.decay.state()
    for name in ("replay", "validation"):
        one, other = getattr(silent, name).samples, getattr(loud, name).samples
        assert one.rows.tobytes() == other.rows.tobytes()
        assert one.rewards.tobytes() == other.rewards.tobytes()


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
        judged = entry(number, (1.0, -1.0))
        before = learner.score(judged).tolist()
        apply(learner, judged)
        assert learner.score(judged).tolist() != before
        assert learner.window.rows[-2:, 0].tolist() == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize(("sign", "share"), [(1.0, 1.0), (-1.0, LEAST_SHARE)])
def test_the_part_that_ranks_the_held_out_queries_better_is_served_more(
    sign: float, share: float, monkeypatch: pytest.MonkeyPatch
):
    learner = OnlineLearner(SMALL.model_copy(update={"validation_size": 200, "validate_every_steps": 1}))
    apply_all(learner, *(entry(n, query=query) for n, query in enumerate(queries(True, 40))))
    right = learner.validation.samples.rewards * sign
    monkeypatch.setattr(learner.model, "parts", lambda rows: (-right, right))
    apply_all(learner, entry(99))
    status = learner.status()
    assert status["linear_share"] == learner.model.linear_share == share
    assert status["held_out_queries"] == 40
    assert status["held_out_accuracy"] == 1.0


def test_accuracy_on_learned_queries_is_told_beside_that_on_held_out_ones():
    learner = OnlineLearner(SMALL.model_copy(update={"validation_size": 100}))
    run(learner, random_stream(3, 90), batch=5)
    status = learner.status()
    for name in ("learned", "held_out"):
        assert 0 <= status[f"{name}_accuracy"] <= 1
        assert status[f"{name}_queries"] > 1


def test_backlog_is_validated_though_it_takes_few_steps():
    learner = OnlineLearner(SMALL.model_copy(update={"groups_per_step": 200, "validate_every_steps": 10}))
    apply_all(learner, entry(0, query=HELD_OUT[0]))
    apply_all(learner, *(entry(n) for n in range(1, 200)))
    assert learner.status()["validation_loss"] is None
    apply_all(learner, entry(200))
    assert learner.status()["validation_loss"] is not None
