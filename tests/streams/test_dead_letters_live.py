"""Dead letters on a real broker: listed, shown, and tried again through a worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Experience, Feedback
from tests.live import Deployment

pytestmark = pytest.mark.live

EXPERIENCE: dict[str, Any] = {
    "experience_id": "e1",
    "timestamp": 1,
    "query": "how is pump 4",
    "intent": {"type": "status"},
    "widget_plan": [{"widget_id": "w1", "widget_type": "gauge", "text": "pressure"}],
}


def feedback(number: int) -> Feedback:
    fields = {"feedback_id": f"f{number}", "experience_id": f"e{number}", "timestamp": 2, "source": "user"}
    return Feedback.model_validate({**fields, "reward": 1.0})


@pytest.mark.long
def test_an_orphan_that_is_tried_again_finds_its_experience(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    join = {"retention": 5.0, "tick_interval": 0.5}
    with Deployment(bootstrap, prefix, tmp_path / "data", join=join, topics={"partitions": 1}) as live:
        live.worker()
        live.publish("feedback", [feedback(1), feedback(2)])
        live.publish("feedback", [b"no JSON", b"[" + b" " * 300_000], key="e1")
        live.wait_for("dead-letters", lambda found: len(found) == 4)

        listed = json.loads(live.command("dead-letters", "list", "--json").stdout)
        assert {row["reason"]: row["letters"] for row in listed["counts"]} == {"orphan_feedback": 2, "invalid_json": 2}
        [cut] = [row for row in listed["letters"] if row["cut"]]
        assert "value: no JSON\n" in live.command("dead-letters", "show", "0").stdout

        done = live.command("dead-letters", "retry", "0", str(cut["number"]), "99")
        assert done.returncode == 1
        assert done.stdout == "0 retried, 3 cannot be\n"
        assert "letter 0: still no Feedback: Invalid JSON" in done.stderr
        assert f"letter {cut['number']}: its value of 300,001 bytes was cut at 256 KiB: publish it again" in done.stderr
        assert "letter 99: there is no such dead letter" in done.stderr

        done = live.command("dead-letters", "retry", "--reason", "orphan_feedback", "--since", "1h", "--json")
        live.publish("experiences", [Experience.model_validate(EXPERIENCE)])
        assert done.returncode == 0
        assert len(json.loads(done.stdout)["retried"]) == 2

        updates = live.wait_for("score-updates", lambda found: len(found) == 2)
        assert {(one["experience_id"], one.get("feedback_id")) for one in updates} == {("e1", None), ("e1", "f1")}
        letters = live.wait_for("dead-letters", lambda found: len(found) == 5)
        assert (letters[-1]["error_type"], letters[-1]["attempt"]) == ("orphan_feedback", 2)
        again = json.loads(
            live.command("dead-letters", "retry", "--reason", "orphan_feedback", "--dry-run", "--json").stdout
        )
        assert again["retried"] == [4], "those that were tried again are left out"
