"""From judgements on a broker to the version in use: two workers, one rollback or one end of a trial, told once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Experience, Feedback
from streams.client import Client
from tests.effects.outcome import BEFORE, IN_USE, LINE, made, registry
from tests.live import Deployment
from trainers.serving import put_into_use

pytestmark = [pytest.mark.live, pytest.mark.long, pytest.mark.timeout(900)]

NOW = datetime.now(UTC)
NEXT = "dpo-c3"
SHARE = 0.3


def experiences(version: str, count: int) -> list[Experience]:
    return [
        Experience.model_validate(
            {
                "experience_id": f"{version}-{number}",
                "timestamp": NOW,
                "query": f"how is pump {number}",
                "intent": {"type": "status"},
                "voice_reply": "fine",
                "model_version": version,
            }
        )
        for number in range(count)
    ]


def feedback(version: str, count: int, reward: float) -> list[Feedback]:
    return [
        Feedback(
            feedback_id=f"f-{version}-{number}",
            experience_id=f"{version}-{number}",
            timestamp=NOW,
            source="user",
            reward=reward,
        )
        for number in range(count)
    ]


def told(status: dict[str, Any], version: str) -> tuple[int, float | None, bool] | None:
    versions = status.get("observed", {}).get("outcome", {}).get("versions", ())
    found = next((one for one in versions if one["version"] == version), None)
    return None if found is None else (found["answers"], found["reward"], found["known"])


def test_a_worse_version_is_rolled_back_once_and_late_and_foreign_judgements_count_where_they_belong(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    overrides = {"topics": {"partitions": 2}, "serving": {"rollback_when_worse": True}}
    with Deployment(bootstrap, prefix, tmp_path / "d", **overrides) as stream:
        store = registry(stream.data_dir)
        workers = [stream.worker("--roles", "join") for _ in range(2)]
        with Client(stream.settings) as client:
            assert client.version_in_use() == IN_USE
            for version, count in ((BEFORE, 81), (IN_USE, 80), ("gpt-x", 5)):
                client.publish_all(experiences(version, count))
            client.publish_all([*feedback(BEFORE, 80, 0.5), *feedback(IN_USE, 40, -0.5), *feedback("gpt-x", 5, 0.25)])
            client.publish_all(feedback(IN_USE, 80, -0.5)[40:])
            client.publish_all(feedback(BEFORE, 81, 0.5)[80:])  # late: another version answers by now
            changes = stream.wait_for("model-versions", lambda found: len(found) >= 3)
            for worker in workers:
                seen = worker.wait_for_status(lambda status: told(status, BEFORE) == (81, 0.5, True))
                assert told(seen, IN_USE) == (80, -0.5, True)
                assert told(seen, "gpt-x") == (5, 0.25, False)
            assert client.version_in_use() == BEFORE
        assert [change["version"] for change in changes] == [BEFORE, IN_USE, BEFORE]
        assert changes[-1]["reason"].startswith(
            f"rolled back: {IN_USE} is judged worse than {BEFORE}, which was in use"
        )
        assert len(store.in_use(LINE).history) == 3


@pytest.mark.parametrize(
    ("reward", "kept", "reason"), [(-0.5, IN_USE, "rolled back: judged worse"), (0.5, NEXT, "promoted: not worse")]
)
def test_a_version_that_is_tried_answers_its_share_and_is_kept_or_left_by_what_people_say(
    bootstrap: str, prefix: str, tmp_path: Path, reward: float, kept: str, reason: str
) -> None:
    serving = {"candidate_share": SHARE, "candidate_judgements": 60}
    with Deployment(bootstrap, prefix, tmp_path / "d", topics={"partitions": 2}, serving=serving) as stream:
        store = registry(stream.data_dir)
        made(store, NEXT)
        put_into_use(stream.settings.serving, store, NEXT, "passed")
        workers = [stream.worker("--roles", "join") for _ in range(2)]
        begun = stream.wait_for("model-versions", lambda found: any(one.get("candidate") for one in found))
        assert begun[-1]["candidate"]["version"] == NEXT
        with Client(stream.settings) as client:
            queries = [f"how is pump {number}" for number in range(240)]
            asked = {query: client.version_in_use(query) for query in queries}
            assert {query: client.version_in_use(query) for query in queries} == asked
            answered = Counter(asked.values())
            assert 60 <= answered[NEXT] <= 1.3 * SHARE * len(queries)
            assert answered[IN_USE] + answered[NEXT] == len(queries)
            for version, count in answered.items():
                client.publish_all(experiences(version, count))
            client.publish_all(feedback(IN_USE, answered[IN_USE], 0.5))
            client.publish_all(feedback(NEXT, answered[NEXT], reward))
            changes = stream.wait_for("model-versions", lambda found: not found[-1].get("candidate"))
            judged = (answered[NEXT], reward, True)
            for worker in workers:
                assert told(worker.wait_for_status(lambda status: told(status, NEXT) == judged), NEXT) == judged
            assert {client.version_in_use(query) for query in queries} == {kept}
        assert changes[-1]["version"] == kept
        assert changes[-1]["reason"].startswith(f"{reason}: {NEXT}, tried on 30% of the queries beside {IN_USE}")
        assert len(store.in_use(LINE).history) == 4
