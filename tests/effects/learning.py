"""What the settings of the join, the scorer, the pairs, the traces and the jobs change, seen through the agents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.events import Experience, Feedback, LabelledAnswer, PreferencePair, Trace
from schemas.records import TICK, Answer, Joined, LogRecord, decode_log
from schemas.settings import PairsSettings, Settings
from streams.client import should_capture
from streams.topics import Role
from streams.worker.role_app import TierstreamApp
from tests.streams.offline import KeptPublisher, batch, hand_over, joined, offline_app
from tests.trainers.scorer import test_retrain
from tests.trainers.scorer.making import HELD_OUT, LEARNED, arrival_of, entry
from trainers.pairs.rules import make_pair
from trainers.pairs.unpaired import label
from trainers.scorer.learner import OnlineLearner

Seen = Any


def work(
    settings: Settings, role: Role, body: Callable[[TierstreamApp], Coroutine[Any, Any, None]]
) -> tuple[TierstreamApp, KeptPublisher]:
    """Let the agents of a role's offline app work, and wait for what they have begun beside it."""

    async def whole(app: TierstreamApp) -> None:
        await body(app)
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    with offline_app(settings, role) as (app, kept):
        asyncio.run(whole(app))
        return app, kept


def counted(settings: Settings, body: Callable[[TierstreamApp], Coroutine[Any, Any, None]]) -> Seen:
    """Return the counts of the join's metrics."""
    return work(settings, "join", body)[0].services.metrics.totals()


# The join

JUDGEMENTS = {
    "agree": [("user", 1.0, None), ("evaluator", 0.5, 0.9)],
    "disagree": [("user", 0.1, None), ("evaluator", -1.0, 1.0)],
    "unsure": [("evaluator", 1.0, None)],
    "implied": [("implicit", 1.0, None)],
}


def experience(name: str) -> Experience:
    fields = {"experience_id": name, "timestamp": 1, "query": "q", "intent": {"type": "status", "domains": ["hvac"]}}
    plan = [{"widget_id": "w", "widget_type": "gauge", "text": name}]
    return Experience.model_validate({**fields, "widget_plan": plan})


def judgements() -> list[Feedback]:
    return [
        Feedback.model_validate(
            {
                "feedback_id": f"{name} {source}",
                "experience_id": name,
                "timestamp": 2,
                "source": source,
                "reward": reward,
                "evaluation_confidence": confidence,
            }
        )
        for name, said in JUDGEMENTS.items()
        for source, reward, confidence in said
    ]


def blended_rewards(settings: Settings) -> Seen:
    """Return the last reward of each experience, as the scorer gets it; needs one partition."""

    async def body(app: TierstreamApp) -> None:
        await app.agents_of_ours.join.process(batch("experiences", *map(experience, JUDGEMENTS)))
        await app.agents_of_ours.join.process(batch("feedback", *judgements()))

    records = map(decode_log, work(settings, "join", body)[1].values("scorer-log"))
    entries = [one for record in records if isinstance(record, Joined) for one in record.entries]
    return {one.experience_id: one.rewards for one in entries if one.kind == "feedback"}


def eight_days_later(settings: Settings) -> Seen:
    """Return the counts after a tick that comes eight days after an experience."""

    async def body(app: TierstreamApp) -> None:
        await app.agents_of_ours.join.process(batch("experiences", experience("e")))
        await app.agents_of_ours.join.process(batch("join-ticks", b"{}", at=8 * 86_400.0))

    return counted(settings, body)


def without_embeddings(settings: Settings) -> Seen:
    """Return what becomes of an experience that brings none."""

    async def body(app: TierstreamApp) -> None:
        await app.agents_of_ours.join.process(batch("experiences", experience("e")))

    return counted(settings, body)


# The scorer

STREAM = [entry(n, query=HELD_OUT[n % 4] if n % 3 == 2 else LEARNED[n % 12]) for n in range(36)]
"""Feedback, every third of it on a query that is held out."""
LOG: list[LogRecord] = [
    joined(*map(arrival_of, STREAM)),
    *(joined(*STREAM[n : n + 6]) for n in range(0, len(STREAM), 6)),
]
"""Their arrivals, and then the feedback, six at a time."""


def learned(*figures: str) -> Callable[[Settings], Seen]:
    """Return what shows figures of the scorer's status after it has worked on `LOG`."""

    def observe(settings: Settings) -> Seen:
        async def body(app: TierstreamApp) -> None:
            for record in LOG:
                await hand_over(app, record)

        status = work(settings, "scorer", body)[0].agents_of_ours.scorer.status()
        assert status is not None
        return {name: status[name] for name in figures}

    return observe


def scores(settings: Settings) -> Seen:
    """Return what is published of an entry that is scored, learned and scored again."""

    async def body(app: TierstreamApp) -> None:
        for one in STREAM[:2]:
            await hand_over(app, joined(arrival_of(one)), joined(one))

    updates = map(orjson.loads, work(settings, "scorer", body)[1].values("score-updates"))
    return [update["items"] for update in updates]


def first_weights(settings: Settings) -> Seen:
    return OnlineLearner(settings.scorer).weights_hash()


def checkpoints(settings: Settings) -> Seen:
    """Return the checkpoints that are there after `LOG`, each record of which changes something."""

    async def body(app: TierstreamApp) -> None:
        for record in LOG:
            await hand_over(app, record)
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.agents.checkpointing.PAUSE_SECONDS", 0.0)
        work(settings, "scorer", body)
    return sorted(path.name for path in Path(settings.data_dir).rglob("*.safetensors"))


def promoted(settings: Settings) -> Seen:
    """Return whether a scorer that has learned a plain taste takes the place of one that has learned nothing."""
    data_dir = Path(settings.data_dir)
    test_retrain.in_use(data_dir, 0, settings.scorer)
    return test_retrain.retrain(data_dir, settings.scorer, settings.scorer.promotion_margin).promoted


# Pairs, traces and jobs


def answer(name: str, reward: float | None, confidence: float | None = 0.8, **changes: Any) -> Answer:
    fields = {
        "kind": "widget",
        "experience_id": name,
        "query": "q",
        "intent_type": "status",
        "domains": ("hvac",),
        "device_types": (),
        "content": [{"widget_id": "w", "text": name}],
        "reward": reward,
        "evaluation_confidence": confidence,
        "judged_by_user": False,
    }
    return Answer(**{**fields, **changes})


ANSWERS = [
    answer("best", 0.9),
    answer("good", 0.15, 0.6),
    answer("by a user", 0.8, None, judged_by_user=True),
    answer("close", -0.12),
    answer("bad", -0.9),
    answer("worse", -0.95),
    answer("worst", -1.0),
    answer("of another query", 0.7, query="another"),
]


def paired(settings: Settings) -> Seen:
    """Return who is paired with whom, and what became of the others."""

    async def body(app: TierstreamApp) -> None:
        await app.agents_of_ours.pairs.process(batch("answers", *ANSWERS))

    app, kept = work(settings, "pairs", body)
    pairs = map(PreferencePair.from_json, kept.values("preference-pairs"))
    who = [(one.chosen_experience_id, one.rejected_experience_id) for one in pairs]
    return who, app.agents_of_ours.pairs.funnel(0, 0.0)["widget"]


def unpaired(settings: Settings) -> Seen:
    """Return who trains without a partner once all have waited long enough."""

    async def body(app: TierstreamApp) -> None:
        reply = answer("reply", 0.9, kind="voice", content="Yes.")
        await app.agents_of_ours.pairs.process(batch("answers", *ANSWERS, reply))
        await app.agents_of_ours.pairs.process(batch("answers", TICK, start=99, at=3 * settings.pairs.patience))

    made = work(settings, "pairs", body)[1].values("unpaired-answers")
    return [LabelledAnswer.from_json(value).experience_id for value in made]


def kto_jobs(settings: Settings) -> Seen:
    """Return the jobs that four labelled answers lead to."""
    labelled = [label(answer(f"{n}", 0.9 if n % 2 else -0.9), PairsSettings()) for n in range(4)]

    async def body(app: TierstreamApp) -> None:
        await app.agents_of_ours.kto.process(batch("unpaired-answers", *labelled))

    return work(settings, "pairs", body)[1].values("training-jobs")


def trace(name: str, **changes: Any) -> Trace:
    fields = {"trace_id": name, "timestamp": 1, "kind": "user_query", "prompt": "why?", "thinking": "hm", "model": "m"}
    return Trace.model_validate({**fields, "response": "because", **changes})


def eligible_traces(settings: Settings) -> Seen:
    """Return which traces advance the threshold; needs one partition."""
    traces = [trace("short"), trace("long", input_tokens=9000), trace("without thinking", thinking=None)]

    async def body(app: TierstreamApp) -> None:
        await app.agents_of_ours.traces.process(batch("claude-traces", *traces))

    return [Trace.from_json(value).trace_id for value in work(settings, "traces", body)[1].values("eligible-traces")]


def dpo_jobs(settings: Settings) -> Seen:
    """Return the jobs that two pairs lead to."""
    pairs = [make_pair(answer(f"+{n}", 0.9), answer(f"-{n}", -0.9), PairsSettings()) for n in range(2)]

    async def body(app: TierstreamApp) -> None:
        await app.agents_of_ours.dpo.process(batch("preference-pairs", *pairs))

    return work(settings, "pairs", body)[1].values("training-jobs")


def sft_jobs(settings: Settings) -> Seen:
    """Return the jobs that two traces lead to."""

    async def body(app: TierstreamApp) -> None:
        await app.agents_of_ours.sft.process(batch("eligible-traces", trace("a"), trace("b")))

    return work(settings, "traces", body)[1].values("training-jobs")


def files_of_a_job(settings: Settings) -> Seen:
    """Return where the dataset of a job lies, from here."""
    dpo_jobs(settings)
    return sorted(str(path.relative_to(Path.cwd())) for path in Path.cwd().rglob("dataset.jsonl"))


def captured(settings: Settings) -> Seen:
    """Return which of some calls are captured, by number and confidence."""
    switched_on = {"ENABLE_TIER3_CAPTURE": "true"}
    calls = [(n, confidence) for n in range(100) for confidence in (None, 0.5, 0.8, 0.95)]
    return [call for call in calls if should_capture(f"call {call[0]}", call[1], settings, switched_on)]
