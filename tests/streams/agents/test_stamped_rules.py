"""A trace that is counted carries the rules that it was counted by."""

from __future__ import annotations

from pathlib import Path

from schemas.events import Trace
from schemas.settings import Settings
from streams.worker.role_app import TierstreamApp
from tests.effects.learning import trace, work
from tests.streams.offline import batch


def test_an_eligible_trace_carries_the_rules_that_it_was_counted_by(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "data_dir": str(tmp_path),
            "topics": {"partitions": 1},
            "traces": {"require_thinking": False, "max_tokens": 900},
        }
    )

    async def body(app: TierstreamApp) -> None:
        agent = app.agents_of_ours.traces
        assert agent is not None
        await agent.process(batch("claude-traces", trace("a", thinking=None)))
        agent.forget()

    (value,) = work(settings, "traces", body)[1].values("eligible-traces")
    assert Trace.from_json(value).chosen_by == {"require_thinking": False, "max_tokens": 900}
