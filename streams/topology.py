"""The map: every topic, table and agent by role, top to bottom as events flow.

role join    experiences ─┐
             feedback ────┼─ join-feedback ─┬► scorer-log
             join-ticks ──┘                 └► answers
role scorer  scorer-log ─ learn-from-feedback ─► score-updates
role pairs   answers ─ pair-answers ─┬► preference-pairs ─ start-dpo-job ─────────────► training-jobs
                                     └► unpaired-answers ─ start-kto-job ─────────────► training-jobs
role traces  claude-traces ─ store-traces ─► eligible-traces ─ start-sft-job ─────────► training-jobs

Each role is a Faust app and a consumer group of its own; only topics connect them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from streams import topics
from streams.agents import Agents


class App(Protocol):
    """What binds an agent to its input."""

    def agent_on(self, *topics: str, name: str, body: Callable[[Any], Awaitable[None]], at_once: int = 1) -> None:
        """Run `body` for every record batch of `topics`, `at_once` at a time."""


def connect(app: App, agents: Agents) -> None:
    """Bind every agent of the app's role to its input."""
    if agents.join:
        app.agent_on(
            topics.EXPERIENCES,
            topics.FEEDBACK,
            topics.TICKS,
            name="join-feedback",
            body=agents.join.process,
            at_once=topics.AT_ONCE,
        )
        # -> scorer-log: Joined, answers: Answer, a line each, dead-letters: DeadLetter
    if agents.scorer:
        app.agent_on(topics.SCORER_LOG, name="learn-from-feedback", body=agents.scorer.process, at_once=topics.AT_ONCE)
        # -> score-updates: ScoreUpdate
    if agents.pairs and agents.dpo and agents.kto:
        app.agent_on(topics.ANSWERS, name="pair-answers", body=agents.pairs.process, at_once=topics.AT_ONCE)
        # -> preference-pairs: PreferencePair, unpaired-answers: LabelledAnswer
        app.agent_on(topics.PAIRS, name="start-dpo-job", body=agents.dpo.process)
        # -> training-jobs: TrainingJob
        app.agent_on(topics.UNPAIRED, name="start-kto-job", body=agents.kto.process)
        # -> training-jobs: TrainingJob
    if agents.traces and agents.sft:
        app.agent_on(topics.TRACES, name="store-traces", body=agents.traces.process)
        # -> traces/*.jsonl, eligible-traces: Trace
        app.agent_on(topics.ELIGIBLE_TRACES, name="start-sft-job", body=agents.sft.process)
        # -> training-jobs: TrainingJob
