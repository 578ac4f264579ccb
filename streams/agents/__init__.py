"""The agents: each decodes a record batch, calls plain functions, and performs what they decided."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from streams import topics
from streams.agents.jobs import JobAgent
from streams.agents.join import JoinAgent
from streams.agents.pairs import PairAgent
from streams.agents.services import Services
from streams.agents.traces import TraceAgent
from streams.topics import Role

if TYPE_CHECKING:
    from streams.agents.scorer import ScorerAgent


@dataclass(frozen=True, slots=True)
class Agents:
    """Those of one role; the others are None."""

    join: JoinAgent | None = None
    scorer: ScorerAgent | None = None
    pairs: PairAgent | None = None
    dpo: JobAgent | None = None
    kto: JobAgent | None = None
    traces: TraceAgent | None = None
    sft: JobAgent | None = None

    def forget(self) -> None:
        """Drop everything that was derived from partitions, which may have moved to another worker."""
        for field in fields(self):
            if agent := getattr(self, field.name):
                agent.forget()


def build_agents(role: Role, services: Services) -> Agents:
    """Make a role's agents from what they share."""
    match role:
        case "join":
            return Agents(join=JoinAgent(services))
        case "scorer":
            # Brings torch, which the other roles do without.
            from streams.agents.scorer import ScorerAgent

            return Agents(scorer=ScorerAgent(services))
        case "pairs":
            dpo = JobAgent(services, "dpo", topics.DPO_EXAMPLES_TABLE)
            kto = JobAgent(services, "kto", topics.KTO_EXAMPLES_TABLE)
            return Agents(pairs=PairAgent(services), dpo=dpo, kto=kto)
        case "traces":
            sft = JobAgent(services, "sft", topics.SFT_EXAMPLES_TABLE)
            return Agents(traces=TraceAgent(services), sft=sft)
