"""The gate's figures: the trained adapter and the version in use on held-out examples, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Literal

from peft import PeftModel
from pydantic import JsonValue
from transformers import PreTrainedTokenizerBase

from schemas.events import LabelledAnswer, PreferencePair, Trace
from schemas.job_settings import GateSettings
from trainers.jobs.encode import Encoded, Likelihood, encode, likelihoods
from trainers.jobs.fit import fit
from trainers.jobs.formats import trace_messages
from trainers.jobs.gate import Interval, Regression, mean_interval, means_of_prompts
from trainers.jobs.heldout import Example, id_of, prompts_of
from trainers.jobs.lora import IN_USE, POLICY

OTHER_PROMPTS = 3
"""After so many other prompts an answer is looked at; the mean counts."""

Row = dict[str, JsonValue]


@dataclass(frozen=True)
class Judgement:
    """What the gate decides on, and what it is made of."""

    improvement: Interval | None
    """Of the candidate on the version in use, over prompts: implicit reward (dpo) or nats a token (sft)."""
    beyond_form: Interval | Literal["not asked"] | None
    """What a held-out answer gains more after its own prompt than after others', nats a token; asked of sft alone."""
    regressions: tuple[Regression, ...]
    """What the other tier's held-out examples lose."""
    figures: dict[str, JsonValue]
    rows: list[Row]
    """One held-out example each."""


class Judge:
    """Rates conversations with the trained adapter and with the version in use.

    Args:
        policy: the model with the trained adapter.
        tokenizer: its tokenizer.
        in_use: folder of the version in use; None where that is the base model.
        max_length: tokens of a conversation; what is longer is fitted as for training.
    """

    def __init__(
        self, policy: PeftModel, tokenizer: PreTrainedTokenizerBase, in_use: Path | None, max_length: int
    ) -> None:
        self._policy = policy
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._has_version = in_use is not None
        if in_use is not None:
            policy.load_adapter(str(in_use), IN_USE)
        policy.eval()

    def sides(self, pairs: Sequence[PreferencePair]) -> tuple[list[PreferencePair], list[Encoded], list[Encoded]]:
        """Return the pairs of which both answers fit, and those answers, each after the pair's prompt."""
        fitted = [(pair, fit(self._tokenizer, pair, self._max_length).rows) for pair in pairs]
        kept = [(pair, rows) for pair, rows in fitted if rows]
        return [pair for pair, _ in kept], [rows[0] for _, rows in kept], [rows[1] for _, rows in kept]

    def conversations(self, examples: Sequence[Example]) -> tuple[list[Example], list[Encoded]]:
        """Return the traces or labelled answers that fit, as they are trained on."""
        fitted = [fit(self._tokenizer, one, self._max_length) for one in examples]
        return [one.example for one in fitted if one.example is not None], [row for one in fitted for row in one.rows]

    def after_others(self, traces: Sequence[Trace]) -> list[list[Encoded]]:
        """Return each trace's answer after the prompts of a few others, where that fits: never one that is its own."""
        prompts = [prompts_of(trace)[0] for trace in traces]
        found = []
        for place, trace in enumerate(traces):
            others = [*range(place + 1, len(traces)), *range(place)]
            rows = (
                encode(self._tokenizer, [*trace_messages(traces[other])[:-1], trace_messages(trace)[-1]])
                for other in others
                if prompts[other] != prompts[place]
            )
            found.append(list(islice((row for row in rows if len(row.ids) <= self._max_length), OTHER_PROMPTS)))
        return found

    def both(self, encoded: Sequence[Encoded]) -> tuple[list[Likelihood], list[Likelihood]]:
        """Return the likelihoods under the candidate, then those under the version in use."""
        self._policy.set_adapter(POLICY)
        candidate = likelihoods(self._policy, encoded)
        if not self._has_version:
            with self._policy.disable_adapter():
                return candidate, likelihoods(self._policy, encoded)
        self._policy.set_adapter(IN_USE)
        in_use = likelihoods(self._policy, encoded)
        self._policy.set_adapter(POLICY)
        return candidate, in_use


def judge_dpo(
    judge: Judge, pairs: Sequence[PreferencePair], traces: Sequence[Trace], beta: float, gate: GateSettings
) -> Judgement:
    """Judge a DPO candidate on held-out pairs, and on the loss of held-out traces, which is SFT's figure.

    A pair's margin is beta·((log p(chosen) - log p(rejected)) under the candidate minus the same under the version
    in use): the difference of implicit rewards, after equation 7 of Rafailov et al. 2023, with the version in use as
    the reference.
    """
    kept, gaps, gaps_in_use, _ = _gaps(judge, pairs)
    margins = [beta * (gap - before) for gap, before in zip(gaps, gaps_in_use, strict=True)]
    rows: list[Row] = [
        {"id": id_of(pair), "prompt": prompts_of(pair)[0], "margin": margin, "gap": gap, "gap_in_use": before}
        for pair, margin, gap, before in zip(kept, margins, gaps, gaps_in_use, strict=True)
    ]
    lost = [-gain for gain in _gains(judge, judge.conversations(traces)[1])]
    improvement = _over_prompts(margins, rows, gate.confidence)
    figures: dict[str, JsonValue] = {
        "held_out": len(kept),
        "implicit_accuracy": _share(margins),
        "implicit_margin": _mean(margins),
        "accuracy": _share(gaps),
        "accuracy_in_use": _share(gaps_in_use),
    }
    figures |= _common(improvement, lost)
    text = Regression("held-out traces", _mean(lost), gate.max_regression, "nats a token")
    return Judgement(improvement, "not asked", (text,), figures, rows)


def judge_kto(
    judge: Judge,
    answers: Sequence[LabelledAnswer],
    pairs: Sequence[PreferencePair],
    traces: Sequence[Trace],
    beta: float,
    gate: GateSettings,
) -> Judgement:
    """Judge a KTO candidate on held-out labelled answers, and on what held-out pairs and traces lose by it.

    An answer's implicit reward is beta·(log p under the candidate - log p under the version in use), each after its own
    prompt. What counts is by how much that of good answers is above that of bad ones, see `matched`.
    """
    fitting, encoded = judge.conversations(answers)
    candidate, in_use = judge.both(encoded)
    rewards = [beta * (one.logprob - before.logprob) for one, before in zip(candidate, in_use, strict=True)]
    rows: list[Row] = [
        {"id": id_of(answer), "prompt": prompts_of(answer)[0], "good": answer.good, "implicit_reward": reward}
        for answer, reward in zip(fitting, rewards, strict=True)
    ]
    margins = matched(fitting, rewards)
    improvement = mean_interval(margins, gate.confidence)
    lost = [-gain for gain in _gains(judge, judge.conversations(traces)[1])]
    regressions, figures = _on_pairs(judge, pairs, gate)
    figures |= {
        "held_out": len(fitting),
        "implicit_accuracy": _share(margins),
        "implicit_margin": _mean(margins),
        **_common(improvement, lost),
    }
    text = Regression("held-out traces", _mean(lost), gate.max_regression, "nats a token")
    return Judgement(improvement, "not asked", (*regressions, text), figures, rows)


def matched(answers: Sequence[LabelledAnswer], rewards: Sequence[float]) -> list[float]:
    """Return differences of good answers' rewards and bad ones', each prompt in at most one of them.

    A prompt with both is compared with itself. Of the others each that was answered well is compared with one that was
    answered badly, of the same kind: whose labels a coin had thrown would fall on either side alike.
    """
    by_prompt: dict[tuple[str, str], dict[bool, list[float]]] = {}
    for answer, reward in zip(answers, rewards, strict=True):
        asked = answer.kind, prompts_of(answer)[0]
        by_prompt.setdefault(asked, {}).setdefault(answer.good, []).append(reward)
    found: dict[str, list[float]] = {}
    alone: dict[tuple[str, bool], list[tuple[str, float]]] = {}
    for (kind, prompt), sides in sorted(by_prompt.items()):
        if len(sides) == 2:
            found.setdefault(prompt, []).append(fmean(sides[True]) - fmean(sides[False]))
        else:
            [(good, group)] = sides.items()
            alone.setdefault((kind, good), []).append((prompt, fmean(group)))
    for kind in ("widget", "voice"):
        for (prompt, high), (_, low) in zip(alone.get((kind, True), ()), alone.get((kind, False), ()), strict=False):
            found.setdefault(prompt, []).append(high - low)
    return [fmean(differences) for differences in found.values()]


def judge_sft(judge: Judge, traces: Sequence[Trace], pairs: Sequence[PreferencePair], gate: GateSettings) -> Judgement:
    """Judge an SFT candidate on held-out traces, and on held-out pairs: how many it ranks right, and the good answers.

    That answers of this form get likelier is learned from any answers, those to other questions too. So what each one
    gains after its own prompt is compared with what it gains after others': the rest is what it says to its question.
    """
    fitting, encoded = judge.conversations(traces)
    candidate, in_use = judge.both(encoded)
    gains = [before.loss - one.loss for one, before in zip(candidate, in_use, strict=True)]
    elsewhere = [_mean(_gains(judge, rows)) for rows in judge.after_others(fitting)]
    rows: list[Row] = [
        {
            "id": id_of(trace),
            "prompt": prompts_of(trace)[0],
            "loss": one.loss,
            "loss_in_use": before.loss,
            "gain_after_others": other,
        }
        for trace, one, before, other in zip(fitting, candidate, in_use, elsewhere, strict=True)
    ]
    regressions, on_pairs = _on_pairs(judge, pairs, gate)
    improvement = _over_prompts(gains, rows, gate.confidence)
    compared = [
        (gain - other, row) for gain, other, row in zip(gains, elsewhere, rows, strict=True) if other is not None
    ]
    beyond = _over_prompts([more for more, _ in compared], [row for _, row in compared], gate.confidence)
    figures: dict[str, JsonValue] = {
        "held_out": len(fitting),
        "loss": _mean([one.loss for one in candidate]),
        "loss_in_use": _mean([one.loss for one in in_use]),
        "beyond_form": None if beyond is None else beyond.figures(),
        "improvement": None if improvement is None else improvement.figures(),
        **on_pairs,
    }
    return Judgement(improvement, beyond, regressions, figures, rows)


def _on_pairs(
    judge: Judge, pairs: Sequence[PreferencePair], gate: GateSettings
) -> tuple[tuple[Regression, ...], dict[str, JsonValue]]:
    """Return what held-out pairs lose: their accuracy, and the likelihood of their good answers; with figures."""
    kept, gaps, gaps_in_use, lost = _gaps(judge, pairs)
    turned = [float(before > 0) - float(gap > 0) for gap, before in zip(gaps, gaps_in_use, strict=True)]
    accuracy_loss = _mean(means_of_prompts(turned, [prompts_of(pair)[0] for pair in kept]))
    figures: dict[str, JsonValue] = {
        "other_tier_held_out": len(lost),
        "other_tier_regression": _mean(lost),
        "other_tier_accuracy_loss": accuracy_loss,
        "other_tier_gap_loss": _mean([before - gap for gap, before in zip(gaps, gaps_in_use, strict=True)]),
        "other_tier_accuracy": _share(gaps),
        "other_tier_accuracy_in_use": _share(gaps_in_use),
    }
    regressions = (
        Regression("held-out pairs", accuracy_loss, gate.max_accuracy_loss, "of their accuracy"),
        Regression("held-out pairs' good answers", _mean(lost), gate.max_regression, "nats a token"),
    )
    return regressions, figures


def _gaps(
    judge: Judge, pairs: Sequence[PreferencePair]
) -> tuple[list[PreferencePair], list[float], list[float], list[float]]:
    """Return the pairs that fit; log p(good) - log p(bad) of each, now and in use; what the good one's loss gains."""
    kept, chosen, rejected = judge.sides(pairs)
    good, bad = judge.both(chosen), judge.both(rejected)
    now, in_use = (
        [one.logprob - other.logprob for one, other in zip(good[side], bad[side], strict=True)] for side in (0, 1)
    )
    return kept, now, in_use, [one.loss - before.loss for one, before in zip(*good, strict=True)]


def _gains(judge: Judge, encoded: Sequence[Encoded]) -> list[float]:
    """Return what each conversation's loss falls by, in nats a token."""
    candidate, in_use = judge.both(encoded)
    return [before.loss - one.loss for one, before in zip(candidate, in_use, strict=True)]


def _over_prompts(values: Sequence[float], rows: Sequence[Row], confidence: float) -> Interval | None:
    return mean_interval(means_of_prompts(values, [str(row["prompt"]) for row in rows]), confidence)


def _common(improvement: Interval | None, lost: Sequence[float]) -> dict[str, JsonValue]:
    return {
        "improvement": None if improvement is None else improvement.figures(),
        "other_tier_held_out": len(lost),
        "other_tier_regression": _mean(lost),
    }


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _share(values: Sequence[float]) -> float | None:
    """Return the share of values above 0."""
    return _mean([float(value > 0) for value in values])
