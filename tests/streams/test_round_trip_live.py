"""Export, then import into a second deployment: what is the same there, and under which settings the weights are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live import Deployment
from tests.streams.test_stream_live import checkpointed, distinct, experience, feedback, trace

pytestmark = [pytest.mark.live, pytest.mark.long]

ROUNDS, OF_A_ROUND = 4, 30
IN_ORDER = {"topics": {"partitions": 1}, "scorer": {"groups_per_step": 1}}
"""What makes the order of the feedback all that the weights follow from: where partitions are read side by side, or a
step takes what came together, the moment of arrival counts too, and no export tells that."""


def judged(stream: Deployment) -> set[tuple[str, str]]:
    """Return every feedback with whether it was learned or held out."""
    return {
        (update["feedback_id"], update["reason"])
        for update in stream.read("score-updates")
        if update.get("feedback_id")
    }


def events(folder: Path) -> dict[str, list[bytes]]:
    return {path.name: sorted(path.read_bytes().splitlines()) for path in folder.glob("*.jsonl")}


def exported(stream: Deployment, folder: Path) -> Path:
    done = stream.command("export", "experiences", "feedback", "claude-traces", "--to", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def imported(stream: Deployment, *files: Path) -> None:
    """Import each by itself, once what came before is taken in."""
    for file in files:
        done = stream.command("import", "tierstream", str(file))
        assert (done.returncode, done.stderr) == (0, ""), done
        stream.wait_until_idle()


@pytest.mark.timeout(900)
def test_an_export_gives_another_deployment_the_same_pairs_and_the_same_weights(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    names = ("experiences.jsonl", "feedback.jsonl", "claude-traces.jsonl")
    with (
        Deployment(bootstrap, f"{prefix}a-", tmp_path / "a" / "d", **IN_ORDER) as one,
        Deployment(bootstrap, f"{prefix}b-", tmp_path / "b" / "d", **IN_ORDER) as other,
        Deployment(bootstrap, f"{prefix}c-", tmp_path / "c" / "d") as default,
    ):
        worker = one.worker()
        for first in range(0, ROUNDS * OF_A_ROUND, OF_A_ROUND):
            numbers = range(first, first + OF_A_ROUND)
            one.publish("experiences", [experience(number) for number in numbers])
            one.wait_until_idle()
            one.publish("feedback", [feedback(number) for number in numbers])
            one.publish("claude-traces", [trace(number) for number in numbers])
            one.wait_until_idle()
        assert worker.end(120) == 0
        files = exported(one, tmp_path / "of-a")

        worker = other.worker()
        imported(other, *(files / name for name in names))
        assert worker.end(120) == 0
        assert events(exported(other, tmp_path / "of-b")) == events(files)
        assert judged(other) == judged(one)
        assert distinct(other.read("preference-pairs"), "pair_id") == distinct(one.read("preference-pairs"), "pair_id")
        assert len(one.read("preference-pairs")) >= OF_A_ROUND
        learner, again = checkpointed(one), checkpointed(other)
        assert (again.weights_hash(), again.step) == (learner.weights_hash(), learner.step)

        # All at once into one as it comes: the same is learned, in another order.
        worker = default.worker()
        imported(default, files)
        assert worker.end(120) == 0
        assert events(exported(default, tmp_path / "of-c")) == events(files)
        assert judged(default) == judged(one)
