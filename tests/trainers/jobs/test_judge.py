"""The gate's figures on likelihoods that are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trainers.jobs.judge import judge_dpo, judge_sft


class Given:
    """Rates each text by figures that stand in it: loss under the candidate, and under the version in use."""

    def sides(self, pairs: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        return pairs, [pair.good for pair in pairs], [pair.bad for pair in pairs]

    def conversations(self, traces: list[Any]) -> tuple[list[Any], list[Any]]:
        return traces, [trace.losses for trace in traces]

    def both(self, encoded: list[Any]) -> tuple[list[Any], list[Any]]:
        return tuple([SimpleNamespace(loss=of[n], logprob=-of[n]) for of in encoded] for n in (0, 1))  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.jobs.judge.id_of", lambda example: example.name)
    monkeypatch.setattr("trainers.jobs.judge.prompts_of", lambda example: [example.name])


PAIRS: Any = [SimpleNamespace(name=name, good=(1.0, 2.0), bad=(3.0, 2.5)) for name in "ab"]
TRACES: Any = [SimpleNamespace(name=name, losses=losses) for name, losses in (("c", (2.0, 1.5)), ("d", (1.0, 0.8)))]
JUDGE: Any = Given()


def test_what_the_other_tiers_text_loses_by_a_dpo_job_is_a_regression_above_zero() -> None:
    judged = judge_dpo(JUDGE, PAIRS, TRACES, 0.5, 0.95)
    assert judged.regression == pytest.approx(0.35)
    # beta times (gap of 2 nats under the candidate less 0.5 under the version in use)
    assert [row["margin"] for row in judged.rows] == [pytest.approx(0.75)] * 2


def test_what_good_answers_gain_by_an_sft_job_is_a_regression_below_zero() -> None:
    judged = judge_sft(JUDGE, TRACES, PAIRS, 0.95)
    assert judged.regression == pytest.approx(-1.0)
    assert judged.improvement is not None
    assert judged.improvement.mean == pytest.approx(-0.35)
