"""Roles as processes: a standby scorer takes over, a zombie contradicts nobody, a slow cadence holds up no other."""

from __future__ import annotations

import json
import signal
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.live import Deployment, Process
from tests.streams.test_stream_live import checkpointed, experience, feedback, folded_weights, of_feedback

pytestmark = [pytest.mark.live, pytest.mark.long]


def said_of_feedback(stream: Deployment) -> dict[str, set[tuple[int, int]]]:
    """Return the epochs and steps that updates of each feedback name."""
    said: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
    for update in stream.read("score-updates"):
        if update.get("feedback_id"):
            said[update["feedback_id"]].add((update["scorer_epoch"], update["scorer_step"]))
    return said


def active(*workers: Process) -> Process:
    """Return the worker whose scorer publishes."""
    deadline = time.monotonic() + 60
    while True:
        for worker in workers:
            if worker.status()["roles"]["scorer"]["active"]:
                return worker
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_standby_scorer_publishes_on_and_a_zombie_contradicts_nobody(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d", scorer={"groups_per_step": 4}) as stream:
        one = stream.worker()
        other = stream.worker("--roles", "scorer")
        assert active(one, other) is one
        stream.publish("experiences", [experience(n) for n in range(120)])
        stream.publish("feedback", [feedback(n) for n in range(60)])
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 60)

        # A zombie: stopped for longer than its session, with feedback under way; the standby goes on.
        zombie = one.role("scorer")
        zombie.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        stream.publish("feedback", [feedback(n) for n in range(60, 90)])
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 90)
        print(f"stopped: the standby had said all of it after {time.monotonic() - stopped:.1f} s")
        assert active(other) is other
        zombie.send_signal(signal.SIGCONT)
        stream.publish("feedback", [feedback(n) for n in range(90, 100)])
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 100)

        # The active one is killed: whoever stands by goes on, its worker starts it again, and no other role ends.
        pids = {name: one.role(name).pid for name in ("join", "pairs", "traces")}
        last = active(one, other)
        last.role("scorer").kill()
        killed = time.monotonic()
        stream.publish("feedback", [feedback(n) for n in range(100, 120)])
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 120)
        print(f"killed: the standby had said all of it after {time.monotonic() - killed:.1f} s")
        assert {name: one.role(name).pid for name in pids} == pids
        said = said_of_feedback(stream)
        assert {len(steps) for steps in said.values()} == {1}
        assert len(said) == 120
        assert one.end() == 0
        assert other.end() == 0
        learner = checkpointed(stream)
        assert (learner.weights_hash(), learner.step) == folded_weights(stream)


def test_scores_go_on_while_pairs_and_traces_stand_still(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d", pairs={"patience": 0}) as stream:
        worker = stream.worker()
        for name in ("pairs", "traces"):
            worker.role(name).send_signal(signal.SIGSTOP)
        stream.publish("experiences", [experience(n) for n in range(40)])
        stream.publish("feedback", [feedback(n) for n in range(40)])
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 40)
        status = worker.status()
        assert not status["ready"]
        assert not status["roles"]["pairs"]["ready"]
        assert status["roles"]["scorer"]["ready"]
        assert stream.read("preference-pairs") == []
        for name in ("pairs", "traces"):
            worker.role(name).send_signal(signal.SIGCONT)
        stream.wait_for("preference-pairs", lambda values: len(values) >= 10)
        lag = {row["group"].rsplit("-", 1)[1] for row in json.loads(stream.command("lag", "--json").stdout)}
        assert lag == {"join", "scorer", "pairs", "traces", "trainer"}
        assert worker.end() == 0
