"""`tierstream score`, as its user sees it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from streams.cli.main import main
from tests.trainers.scorer.making import SMALL
from tests.trainers.scorer.test_serving import REQUEST, learned
from trainers.scorer.checkpoint import CheckpointStore


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    scorer = learned(SMALL)
    scorer.epoch = 2
    CheckpointStore(tmp_path / "data" / "scorer", SMALL).save(scorer.snapshot())
    (tmp_path / "request.json").write_text(json.dumps(REQUEST, indent=2))
    answer = {"query": "q", "intent": {"type": "status"}, "voice_reply": "yes"}
    (tmp_path / "many.jsonl").write_text(f"{json.dumps(REQUEST)}\n\n{json.dumps(answer)}\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bad.jsonl").write_text(json.dumps(REQUEST) + "\nnonsense\n")
    (tmp_path / "less.json").write_text('{"query": "q"}')
    twice = {**REQUEST, "candidates": [REQUEST["candidates"][0]] * 2}  # type: ignore[index]
    (tmp_path / "twice.json").write_text(json.dumps(twice))
    return tmp_path


def test_file_is_scored_best_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("score", "request.json", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    scores = [item["score"] for item in told["items"]]
    assert sorted(scores, reverse=True) == scores
    assert len(scores) == 3
    assert (told["query"], told["scorer"]["epoch"], told["scorer"]["rank"]) == ("show pump 3 pressure", 2, 4)
    assert run("score", "request.json") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("show pump 3 pressure  (scorer of epoch 2, step ")
    assert shown[1].split() == ["item_id", "item_type", "score"]


def test_standard_input_and_whole_answers_are_scored(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((folder / "many.jsonl").read_bytes())))
    assert run("score", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(line["items"]) for line in lines] == [3, 1]
    assert lines[1]["items"][0]["item_type"] == "voice"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.json"], "absent.json cannot be read: No such file"),
        (["."], ". cannot be read: Is a directory"),
        (["empty"], "empty is empty; a request is"),
        (["bad.jsonl"], "request 2 of bad.jsonl is no JSON"),
        (["less.json"], "request 1 of less.json cannot be used: intent: Field required"),
        (["twice.json"], "two candidates have the same item_id"),
        (["request.json", "--data-dir", "other"], "other/scorer holds no scorer yet; let a worker learn first"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run("score", *arguments) == 1
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
