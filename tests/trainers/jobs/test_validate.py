import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from schemas.events import Trace
from schemas.records import Answer
from schemas.settings import Settings
from trainers.jobs.accumulate import CompletedRun
from trainers.jobs.snapshot import freeze_job, write_job
from trainers.jobs.validate import main
from trainers.pairs.rules import make_pair

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SETTINGS = Settings()


def answer(name, reward):
    return Answer(
        kind="voice",
        experience_id=name,
        query="q",
        intent_type="i",
        domains=("d",),
        device_types=(),
        content=f"reply {name}",
        reward=reward,
        evaluation_confidence=0.9,
        judged_by_user=False,
    )


def pairs(count=3):
    return [make_pair(answer(f"good{n}", 0.9), answer(f"bad{n}", -0.9), SETTINGS.pairs) for n in range(count)]


def traces(count=3, **changes):
    fields = {"timestamp": NOON, "kind": "k", "prompt": "p", "thinking": "t", "response": "r", "model": "m"}
    return [Trace.model_validate({"trace_id": f"t{n}", **fields, **changes}) for n in range(count)]


def prepare(data_dir, tier, events, **changes):
    ids = tuple(getattr(event, "pair_id", None) or event.trace_id for event in events)
    run = CompletedRun(ids, tuple(event.to_json() for event in events))
    job = freeze_job(data_dir, tier, run, SETTINGS, NOON).model_copy(update=changes)
    return write_job(data_dir, job)


def result(folder):
    return json.loads((folder / "result.json").read_bytes())


@pytest.mark.parametrize(("tier", "make", "kind"), [("dpo", pairs, "voice"), ("sft", traces, "excellent")])
def test_a_dataset_that_obeys_the_rules_is_validated(tmp_path, capsys, tier, make, kind):
    folder = prepare(tmp_path, tier, make(60))
    assert main([str(folder)]) == 0
    metrics = {"examples": 60, "kinds": {kind: 60}}
    assert result(folder) == {"state": "validated", "metrics": metrics, "error": None}
    progress = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["progress"] for line in progress] == [0.4167, 0.8333, 1.0]
    assert progress[-1]["metrics"] == metrics


def spoil_dataset(folder):
    (folder / "dataset.jsonl").write_bytes((folder / "dataset.jsonl").read_bytes()[:-20])


def remove_dataset(folder):
    (folder / "dataset.jsonl").unlink()


def remove_job(folder):
    (folder / "job.json").unlink()


def spoil_job(folder):
    (folder / "job.json").write_bytes(b'{"job_id": "x"')


def reach_outside(folder):
    job = json.loads((folder / "job.json").read_bytes())
    (folder / "job.json").write_text(json.dumps(job | {"dataset_path": "../secret"}))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_dataset, "has sha256"),
        (remove_dataset, "cannot be read: No such file or directory"),
        (remove_job, "job.json cannot be read"),
        (spoil_job, "is no training job"),
        (reach_outside, "lies outside the job's folder"),
    ],
)
def test_what_is_missing_or_changed_fails_with_one_line(tmp_path, capsys, spoil, reason):
    folder = prepare(tmp_path, "dpo", pairs())
    spoil(folder)
    assert main([str(folder)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert result(folder)["state"] == "failed"
    assert reason in result(folder)["error"]


@pytest.mark.parametrize(
    ("tier", "events", "reason"),
    [
        ("dpo", [*pairs(1), *pairs(1)], "example 2 repeats"),
        ("dpo", [pairs(1)[0].model_copy(update={"shared_domains": ()})], "breaks the rule no_shared_domain"),
        ("dpo", [pairs(1)[0].model_copy(update={"evaluation_confidence": 0.1})], "chosen_low_confidence"),
        ("dpo", traces(1), "example 1 is no PreferencePair"),
        ("sft", traces(1, thinking=None), "breaks the rule no_thinking"),
        ("sft", traces(1, stop_reason="length"), "breaks the rule truncated"),
        ("sft", [*traces(1), *traces(1)], "example 2 repeats t0"),
    ],
)
def test_a_dataset_without_a_usable_example_fails_the_job_by_name(tmp_path, capsys, tier, events, reason):
    assert main([str(prepare(tmp_path, tier, events))]) == 1
    assert reason in capsys.readouterr().err


def test_an_example_that_breaks_its_rules_is_dropped_and_counted(tmp_path):
    """A rule that is made stricter, one_to_one too, while examples wait takes none of the others with it."""
    close = make_pair(answer("g9", 0.2), answer("b9", -0.15), SETTINGS.pairs).model_copy(update={"chosen_by": None})
    twice = [make_pair(answer("g", 0.9), answer(b, -0.9), SETTINGS.pairs) for b in "xy"]
    rules = {**SETTINGS.pairs.model_dump(), "min_reward_gap": 0.5}
    folder = prepare(tmp_path, "dpo", [*pairs(3), close, *twice], settings={"rules": rules})
    assert main([str(folder)]) == 0
    metrics = result(folder)["metrics"]
    assert metrics["dropped"] == {"small_gap": 1, "answer_used_twice": 1}
    assert (metrics["examples"], metrics["kinds"]) == (6, {"voice": 4})


def test_an_example_is_judged_by_the_rules_that_it_was_chosen_by(tmp_path):
    """The settings became stricter after the choice: those of the job rule them out, their own do not."""
    loose = SETTINGS.pairs.model_copy(update={"min_reward_gap": 0.1, "one_to_one": False})
    close = [make_pair(answer("g", 0.2), answer(b, -0.15), loose) for b in "xy"]
    strict = {**SETTINGS.pairs.model_dump(), "min_reward_gap": 0.5}
    folder = prepare(tmp_path, "dpo", close, settings={"rules": strict})
    assert main([str(folder)]) == 0
    assert result(folder)["metrics"] == {"examples": 2, "kinds": {"voice": 2}}
    limited = traces(2, thinking=None, chosen_by={"require_thinking": False, "max_tokens": 8192, "of_later": 1})
    assert main([str(prepare(tmp_path / "sft", "sft", limited))]) == 0


def test_a_count_that_is_not_the_jobs_fails(tmp_path, capsys):
    assert main([str(prepare(tmp_path, "dpo", pairs(), example_count=4))]) == 1
    assert "dataset has 3 examples, the job names 4" in capsys.readouterr().err


def test_rules_that_cannot_be_read_fail(tmp_path, capsys):
    assert main([str(prepare(tmp_path, "dpo", pairs(), settings={"rules": {"unknown": 1}}))]) == 1
    assert "the job's rules cannot be read: unknown" in capsys.readouterr().err


def test_the_rules_are_those_of_the_job(tmp_path):
    rules = SETTINGS.traces.model_copy(update={"require_thinking": False}).model_dump()
    assert main([str(prepare(tmp_path, "sft", traces(thinking=None), settings={"rules": rules}))]) == 0


def test_it_runs_as_a_process_of_its_own_without_a_traceback(tmp_path):
    good = prepare(tmp_path, "dpo", pairs())
    command = [sys.executable, "-m", "trainers.jobs.validate"]
    assert subprocess.run([*command, good], capture_output=True, check=False).returncode == 0
    missing = subprocess.run([*command, tmp_path / "nowhere"], capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert len(missing.stderr.splitlines()) == 1
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
