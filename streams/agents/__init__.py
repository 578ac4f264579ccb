"""The agents: each decodes a record batch, calls plain functions, and performs what they decided."""

from __future__ import annotations

from dataclasses import dataclass

from streams import topology
from streams.agents.jobs import JobAgent
from streams.agents.join import JoinAgent
from streams.agents.pairs import PairAgent
from streams.agents.scorer_process import Scorer
from streams.agents.services import Services
from streams.agents.traces import TraceAgent


@dataclass(frozen=True, slots=True)
class Agents:
    """One of each."""

    join: JoinAgent
    scorer: Scorer
    pairs: PairAgent
    dpo: JobAgent
    traces: TraceAgent
    sft: JobAgent

    def forget(self) -> None:
        """Drop everything that was derived from partitions, which may have moved to another worker."""
        for agent in (self.join, self.scorer, self.pairs, self.dpo, self.traces, self.sft):
            agent.forget()


def build_agents(services: Services, scorer: Scorer | None = None) -> Agents:
    """Make the agents from what they share; without a scorer elsewhere, that one works in this process."""
    if scorer is None:
        # Brings torch, which the worker's own process does without.
        from streams.agents.scorer import ScorerAgent

        scorer = ScorerAgent(services)
    return Agents(
        join=JoinAgent(services),
        scorer=scorer,
        pairs=PairAgent(services),
        dpo=JobAgent(services, "dpo", topology.DPO_EXAMPLES_TABLE),
        traces=TraceAgent(services),
        sft=JobAgent(services, "sft", topology.SFT_EXAMPLES_TABLE),
    )
