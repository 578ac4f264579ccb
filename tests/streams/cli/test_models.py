"""`tierstream models`, as its user sees it, without a broker."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.versions import VersionRecord
from streams.cli.main import main
from trainers.versions import VersionStore
from trainers.versions.store import LINEAGE

NOWHERE = "127.0.0.1:1"


def add(data_dir: Path, version: str, **fields: Any) -> None:
    store, tier = VersionStore(data_dir), version.split("-")[0]
    values = {"tier": tier, "version": version, "created_at": datetime(2026, 1, 1, tzinfo=UTC), "reason": "better"}
    record = VersionRecord.model_validate({**values, **fields})
    with store.staging(record.tier, version) as folder:
        (folder / "weights").write_text(version)
        (folder / LINEAGE).write_text('{"pair_id": "p1", "experience_ids": ["e1", "e2"]}\n')
        store.add(record, folder)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    add(folder, "dpo-a1", metrics={"gate": {"accuracy": 0.5}}, settings={"beta": 0.1})
    add(folder, "dpo-b2", metrics={"gate": {"accuracy": 0.75}}, settings={"beta": 0.1}, status="rejected")
    add(folder, "scorer-c3")
    VersionStore(folder).promote("dpo", "dpo-a1", "first")
    return folder


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_list_marks_the_version_in_use(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["version"], row["in_use"], row["status"]) for row in rows] == [
        ("scorer-c3", False, "candidate"),
        ("dpo-a1", True, "promoted"),
        ("dpo-b2", False, "rejected"),
    ]
    assert run("models", "list", "--tier", "dpo") == 0
    assert "scorer-c3" not in capsys.readouterr().out


def test_list_of_nothing_says_where_versions_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("models", "list") == 0
    assert "no versions yet" in capsys.readouterr().out


def test_show_tells_what_it_is_made_of_and_its_lineage(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "show", "dpo-a1", "--lineage", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metrics"] == {"gate": {"accuracy": 0.5}}
    assert [use["reason"] for use in told["history"]] == ["first"]
    assert told["lineage"] == [{"pair_id": "p1", "experience_ids": ["e1", "e2"]}]
    assert run("models", "show", "dpo-a1", "--lineage") == 0
    assert "lineage: 1 examples" in capsys.readouterr().out


def test_diff_shows_only_what_differs(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "diff", "dpo-a1", "dpo-b2", "--json") == 0
    rows = {row["field"]: (row["dpo-a1"], row["dpo-b2"]) for row in json.loads(capsys.readouterr().out)}
    assert rows["metrics.gate.accuracy"] == (0.5, 0.75)
    assert "settings.beta" not in rows
    assert run("models", "diff", "dpo-a1", "dpo-a1") == 0
    assert "they do not differ" in capsys.readouterr().out


def test_change_stands_where_the_broker_is_away_and_says_so(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "promote", "dpo-b2", "--bootstrap-servers", NOWHERE) == 1
    told = capsys.readouterr().err
    assert "dpo-b2 is in use now, but its event is not published yet" in told
    assert "the next worker or trainer that starts publishes it" in told
    assert len(told.splitlines()) == 1
    assert VersionStore(data_dir).in_use("dpo").version == "dpo-b2"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "dpo-none"], 1, "there is no version dpo-none; `tierstream models list --tier dpo` has them"),
        (["show", "../../etc"], 1, "'../../etc' is no name of a version"),
        (["promote", "dpo-../x"], 1, "'dpo-../x' is no name of a version"),
        (["rollback", "sft"], 1, "no version of sft was in use before"),
        (["rollback", "dpo", "--to", "dpo-b2"], 1, "dpo-b2 has never been in use"),
        (["rollback", "everything"], 2, "'everything' is not one of"),
        (["list", "--tier", "x"], 2, "'x' is not one of"),
    ],
)
def test_mistakes_are_one_line(
    data_dir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert run("models", *arguments) == code
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("name", ["list", "show", "promote", "rollback", "diff"])
def test_every_subcommand_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", name, "--help") == 0
    assert f"Example: tierstream models {name}" in capsys.readouterr().out
