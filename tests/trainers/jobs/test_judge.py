"""What the gate reads off likelihoods that are given: the arithmetic, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from schemas.job_settings import GateSettings
from tests.trainers.jobs import tiny
from trainers.jobs.encode import Likelihood
from trainers.jobs.gate import decide
from trainers.jobs.judge import Judge, judge_dpo, judge_sft


@dataclass
class Scripted:
    """A judge to which each conversation is a pair of losses: of the candidate, and of the version in use."""

    own: list[tuple[float, float]]
    elsewhere: list[list[tuple[float, float]]]
    good: list[tuple[float, float]] = field(default_factory=list)
    bad: list[tuple[float, float]] = field(default_factory=list)

    def conversations(self, traces: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Return the traces as they are."""
        return list(traces), list(self.own)

    def after_others(self, traces: Sequence[Any]) -> list[list[Any]]:
        """Return the losses after other prompts."""
        return self.elsewhere

    def sides(self, pairs: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Return the pairs as they are."""
        return list(pairs), list(self.good), list(self.bad)

    def both(self, encoded: Sequence[Any]) -> tuple[list[Likelihood], list[Likelihood]]:
        """Return the losses as likelihoods of one token."""
        return [Likelihood(-one, 1) for one, _ in encoded], [Likelihood(-before, 1) for _, before in encoded]


def judged(more: float) -> Any:
    """Judge eight answers that gain 0.3 after others' prompts and `more` beyond after their own."""
    jitter = [0.01 * n for n in range(8)]
    own = [(1.7 - more - j + (-1) ** n * 1e-3, 2.0) for n, j in enumerate(jitter)]
    elsewhere = [[(2.7 - j, 3.0), (1.7 - j, 2.0)] for j in jitter]
    return judge_sft(cast(Judge, Scripted(own, elsewhere)), tiny.traces(8), [], GateSettings())


@pytest.mark.parametrize(("more", "promoted"), [(0.05, True), (0.0, False), (-0.05, False)])
def test_shuffled_answers_gain_by_their_form_and_are_not_promoted(more, promoted):
    found = judged(more)
    assert found.improvement.mean == pytest.approx(0.335 + more)
    assert found.improvement.low > 0
    assert found.beyond_form.mean == pytest.approx(more, abs=1e-9)
    verdict = decide(found.improvement, 0.0, found.regressions, "nats a token", beyond_form=found.beyond_form)
    assert verdict.promoted is promoted
    assert ("by more than its answers' form" in verdict.reason) is not promoted
    assert [row["gain_after_others"] for row in found.rows] == pytest.approx([0.3 + 0.01 * n for n in range(8)])


def test_an_answer_that_fits_after_no_other_prompt_is_no_observation():
    jitter = [0.01 * n for n in range(8)]
    scripted = Scripted([(1.5 - j, 2.0) for j in jitter], [[] for _ in jitter])
    found = judge_sft(cast(Judge, scripted), tiny.traces(8), [], GateSettings())
    assert found.beyond_form is None
    assert found.rows[0]["gain_after_others"] is None


@pytest.mark.parametrize("worse", [0.2, -0.2])
def test_a_dpo_candidate_is_judged_by_what_the_traces_of_sft_lose(worse):
    scripted = cast(Judge, Scripted([(2.0 + worse, 2.0)] * 8, [[] for _ in range(8)]))
    found = judge_dpo(scripted, [], tiny.traces(8), 0.1, GateSettings(max_regression=0.3))
    [traces] = found.regressions
    assert (traces.what, traces.loss, traces.bound) == ("held-out traces", pytest.approx(worse), 0.3)
    assert found.figures["other_tier_held_out"] == 8


@pytest.mark.parametrize("turned", [True, False])
def test_an_sft_candidate_is_judged_by_how_many_pairs_of_dpo_it_no_longer_ranks_right(turned):
    """The good answer's loss stays where it was, and the bad one's falls below it: the text is as good as before."""
    own, pairs = [(1.5, 2.0)] * 8, tiny.pairs(4)
    # Two of the pairs are of one prompt, which is one observation.
    pairs.append(pairs[0].model_copy(update={"pair_id": "again"}))
    bad = [(1.5, 3.0), (2.5, 3.0), (2.5, 3.0), (1.5, 1.0), (2.5, 3.0)] if turned else [(2.5, 3.0)] * 5
    scripted = Scripted(own, [[] for _ in own], [(2.0, 2.0)] * 5, bad)
    found = judge_sft(cast(Judge, scripted), tiny.traces(8), pairs, GateSettings(max_accuracy_loss=0.1))
    ranking, text = found.regressions
    # One of two pairs of the first of four prompts has turned.
    assert (ranking.what, ranking.loss, ranking.bound) == ("held-out pairs", 0.125 if turned else 0.0, 0.1)
    assert (text.what, text.loss, text.bound) == ("held-out pairs' good answers", 0.0, 0.1)
    assert found.figures["other_tier_accuracy"] == (0.6 if turned else 1.0)
    assert found.figures["other_tier_accuracy_in_use"] == (0.8 if turned else 1.0)
    assert found.figures["other_tier_gap_loss"] == pytest.approx((1.5 + 0.5 * 3 - 0.5) / 5 if turned else 0.5)
    verdict = decide(found.improvement, 0.0, found.regressions, "nats a token")
    assert verdict.promoted is not turned


def test_an_answer_is_looked_at_after_a_few_other_prompts_and_never_after_its_own(tiny_base):
    from trainers.jobs.lora import load_tokenizer
    from trainers.jobs.work import BaseModel

    tokenizer = load_tokenizer(BaseModel("tiny", tiny_base, "0" * 64))
    policy = SimpleNamespace(eval=lambda: None)
    traces = tiny.traces(5)
    traces.append(traces[0].model_copy(update={"trace_id": "again", "response": "Other words."}))
    found = Judge(cast(Any, policy), tokenizer, None, 128).after_others(traces)
    assert [len(rows) for rows in found] == [3] * 6
    for trace, rows in zip(traces, found, strict=True):
        texts = [tokenizer.decode(row.ids) for row in rows]
        assert all(trace.response in text for text in texts)
        assert not any(f"user\n{trace.prompt}<|im_end|>" in text for text in texts)
