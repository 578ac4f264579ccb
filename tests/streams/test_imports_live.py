"""Samples of every format imported into a running deployment, twice: the second time nothing comes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.live import Deployment, Process
from tests.streams.test_imports import DATA, SAMPLES
from tests.streams.test_stream_live import distinct
from trainers.traces.store import TraceStore


def effects(stream: Deployment, worker: Process) -> dict[str, Any]:
    """Return what the deployment has of all that came."""
    stream.wait_until_idle()
    scorer = worker.status()["scorer"]
    return {
        "scored": distinct(stream.read("score-updates"), "experience_id"),
        "judged": (scorer["groups_learned"], scorer["groups_held_out"], scorer["step"]),
        "pairs": distinct(stream.read("preference-pairs"), "pair_id"),
        "traces": sorted(one.trace.trace_id for one in TraceStore(stream.data_dir / "traces").read()),
    }


@pytest.mark.live
@pytest.mark.long
def test_a_second_import_of_every_format_adds_nothing(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d", pairs={"patience": 0}) as stream:
        worker = stream.worker()

        def import_all() -> dict[str, Any]:
            for form, names in SAMPLES.items():
                done = stream.command("import", form, *(str(DATA / name) for name in names), "--confidence", "0.9")
                assert (done.returncode, done.stderr) == (0, ""), done
            return effects(stream, worker)

        first = import_all()
        assert len(first["scored"]) >= 14
        assert len(first["traces"]) >= 10
        assert first["judged"][0] + first["judged"][1] == 5
        assert len(first["pairs"]) == 2
        assert import_all() == first
        assert stream.read("dead-letters") == []
        assert worker.end(120) == 0
