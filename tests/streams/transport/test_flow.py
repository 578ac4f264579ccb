"""What lies in a queue while things flow stays there, however often Faust says that they may."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mode.utils.queues import FlowControlQueue

from schemas.settings import Settings
from streams.transport.flow import FlowControl
from tests.streams.offline import offline_app


def test_resuming_what_flows_drops_nothing() -> None:
    async def queued() -> list[int]:
        flow = FlowControl()
        queue: FlowControlQueue[str] = FlowControlQueue(flow_control=flow, clear_on_resume=True)
        sizes = []
        queue.put_nowait("of a former assignment")
        flow.resume()
        sizes.append(queue.qsize())
        queue.put_nowait("a change for a standby table")
        flow.resume()
        sizes.append(queue.qsize())
        flow.suspend()
        flow.resume()
        return [*sizes, queue.qsize()]

    assert asyncio.run(queued()) == [0, 1, 0]


def test_the_app_and_its_queues_use_it(tmp_path: Path) -> None:
    with offline_app(Settings(data_dir=str(tmp_path)), "pairs") as (app, _):
        assert isinstance(app.flow_control, FlowControl)
        assert app.tables.changelog_queue._flow_control is app.flow_control
        assert {type(table).__name__ for table in app.tables.values()} == {"ChangelogTable"}
