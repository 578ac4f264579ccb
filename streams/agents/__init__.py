"""The agents: each decodes a record batch, calls plain functions, and performs what they decided."""

from __future__ import annotations

from dataclasses import dataclass

from streams import topology
from streams.agents.jobs import JobAgent
from streams.agents.join import JoinAgent
from streams.agents.pairs import PairAgent
from streams.agents.scorer import ScorerAgent
from streams.agents.services import Services
from streams.agents.traces import TraceAgent


@dataclass(frozen=True, slots=True)
class Agents:
    """One of each."""

    join: JoinAgent
    scorer: ScorerAgent
    pairs: PairAgent
    dpo: JobAgent
    traces: TraceAgent
    sft: JobAgent

    def forget(self) -> None:
        """Drop everything that was derived from partitions, which may have moved to another worker."""
        for agent in (self.join, self.scorer, self.pairs, self.dpo, self.traces, self.sft):
            agent.forget()


def build_agents(services: Services) -> Agents:
    """Make the agents from what they share."""
    return Agents(
        join=JoinAgent(services),
        scorer=ScorerAgent(services),
        pairs=PairAgent(services),
        dpo=JobAgent(services, "dpo", topology.DPO_EXAMPLES_TABLE),
        traces=TraceAgent(services),
        sft=JobAgent(services, "sft", topology.SFT_EXAMPLES_TABLE),
    )
