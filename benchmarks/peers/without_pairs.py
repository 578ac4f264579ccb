"""`tierstream worker` without the agents of Tier 2, for comparison alone: no setting does this.

The join still hands answers on; they lie in their topic.
"""

from __future__ import annotations

from typing import Any

from streams.app import TierstreamApp
from streams.cli import main

LEFT_OUT = ("pair-answers", "start-dpo-job")

_agent_on = TierstreamApp.agent_on


def _agent_unless_left_out(app: TierstreamApp, *topics: str, name: str, **options: Any) -> None:
    if name not in LEFT_OUT:
        _agent_on(app, *topics, name=name, **options)


if __name__ == "__main__":
    TierstreamApp.agent_on = _agent_unless_left_out  # type: ignore[method-assign]
    main()
