"""What a run with jobs says of each example, and what is found where its records disagree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ends import counted_ends, failed_ends
from tests.trainers.jobs import tiny
from tests.trainers.jobs.running import read_lines, run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a job of each tier that has run; one example of each is too long."""
    folder = tmp_path_factory.mktemp("ends")
    wanted = tiny.settings(tiny.build_model(folder / "base"), max_length=128)
    pairs, traces = tiny.pairs(12), tiny.traces(12)
    pairs[1] = pairs[1].model_copy(update={"chosen": "many words " * 200})
    traces[0] = traces[0].model_copy(update={"response": "many words " * 200})
    for tier, examples in (("dpo", pairs), ("sft", traces)):
        assert run(tiny.job(folder / "data", tier, examples, wanted))[0] == 0
    return folder / "data"


def names(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "jobs").iterdir())


def test_every_example_of_every_job_has_one_end_that_all_records_agree_on(trained: Path) -> None:
    assert failed_ends(trained, names(trained)) == []
    ends = counted_ends(trained, names(trained))
    assert (ends["too_long"], ends.total()) == (2, 24)


def without_the_last(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return lines[:-1]


def trained_on_what_was_held_out(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**line, "use": "training"} if line["use"] == "held_out" else line for line in lines]


def repeated(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*lines, lines[0]]


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (without_the_last, "11 ends of 12 examples"),
        (repeated, "13 ends of 12 examples"),
        (trained_on_what_was_held_out, "the lineage has 0"),
    ],
)
def test_a_record_that_says_otherwise_is_named(
    trained: Path, tmp_path: Path, fault: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], what: str
) -> None:
    data = shutil.copytree(trained, tmp_path / "data")
    lineage = next(data.glob("models/dpo/*/lineage.jsonl"))
    lineage.chmod(0o644)
    lineage.write_text("".join(json.dumps(line) + "\n" for line in fault(read_lines(lineage))))
    failed = failed_ends(data, names(data))
    assert any(what in line for line in failed)
    assert all(line.startswith("dpo-") for line in failed)


def test_steps_that_the_examples_cannot_make_and_a_job_without_an_end_are_named(trained: Path, tmp_path: Path) -> None:
    data = shutil.copytree(trained, tmp_path / "data")
    result = next(data.glob("jobs/sft-*/result.json"))
    content = json.loads(result.read_bytes())
    content["metrics"]["steps"] += 1
    result.write_text(json.dumps(content))
    (failed,) = failed_ends(data, names(data))
    assert "steps" in failed
    result.unlink()
    assert failed_ends(data, names(data)) == [f"jobs without an end: ['{result.parent.name}']"]
