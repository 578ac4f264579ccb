"""`tierstream models`, as its user sees it, without a broker."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.settings import ScorerSettings
from schemas.versions import VersionRecord
from streams.cli.main import main
from trainers.scorer import kept
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.snapshot import Snapshot
from trainers.versions import VersionStore
from trainers.versions.store import LINEAGE

NOWHERE = "127.0.0.1:1"


def add(data_dir: Path, version: str, **fields: Any) -> None:
    store, tier = VersionStore(data_dir), version.partition("-")[0]
    values = {"tier": tier, "version": version, "created_at": datetime(2026, 1, 1, tzinfo=UTC), "reason": "better"}
    record = VersionRecord.model_validate({**values, **fields})
    with store.staging(version) as folder:
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
    VersionStore(folder).promote("dpo-a1", "first")
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
        ("policy-base", False, "base"),
        ("dpo-a1", True, "promoted"),
        ("dpo-b2", False, "rejected"),
    ]
    assert run("models", "list", "--line", "policy") == 0
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
    assert VersionStore(data_dir).in_use("policy").version == "dpo-b2"


def add_scorer(data_dir: Path, rank: int) -> str:
    learner = OnlineLearner(ScorerSettings(rank=rank))
    snapshot = Snapshot.of(learner)
    return kept.add_scorer(VersionStore(data_dir), snapshot.arrays, snapshot.meta, reason="by hand")


def test_a_scorer_of_another_rank_is_put_into_use_together_with_the_setting_alone(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version, store = add_scorer(data_dir, 8), VersionStore(data_dir)
    config = data_dir.parent / "tierstream.toml"
    config.write_text("[scorer]\nrank = 32  # as on the plant\n")
    arguments = ("models", "promote", version, "--bootstrap-servers", NOWHERE, "--config", str(config))
    assert run(*arguments) == 1
    told = capsys.readouterr().err
    assert f"{version} needs scorer.rank = 8, and the settings have otherwise; add --change-settings" in told
    assert store.in_use("scorer").history == ()

    run(*arguments, "--change-settings")
    assert store.in_use("scorer").version == version
    assert config.read_text() == "[scorer]\nrank = 8  # as on the plant\n"
    assert run("models", "rollback", "scorer", *arguments[3:]) == 1
    assert "needs scorer.rank = 32" in capsys.readouterr().err
    run("models", "rollback", "scorer", *arguments[3:], "--change-settings")
    assert store.in_use("scorer").version == store.in_use("scorer").history[0].version != version
    assert config.read_text() == "[scorer]\nrank = 32  # as on the plant\n"


@pytest.mark.parametrize(
    ("set_by", "message"),
    [
        ({}, "there is no settings file to set scorer.rank = 8 in; give the workers and this command --config FILE"),
        ({"TIERSTREAM_SCORER__RANK": "32"}, "scorer.rank is set by environment TIERSTREAM_SCORER__RANK"),
    ],
)
def test_settings_that_cannot_be_changed_leave_the_version_in_use(
    data_dir: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    set_by: dict[str, str],
    message: str,
) -> None:
    for name, value in set_by.items():
        monkeypatch.setenv(name, value)
    version = add_scorer(data_dir, 8)
    assert run("models", "promote", version, "--change-settings", "--bootstrap-servers", NOWHERE) == 1
    assert message in capsys.readouterr().err
    assert VersionStore(data_dir).in_use("scorer").history == ()


def test_an_adapter_of_another_form_or_base_needs_its_settings(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(data_dir, "dpo-d4", settings={"training": {"lora_rank": 4, "lora_alpha": 16}}, base_model="owner/other")
    assert run("models", "promote", "dpo-d4", "--bootstrap-servers", NOWHERE) == 1
    needed = "needs jobs.dpo.lora_rank = 4 and jobs.sft.lora_rank = 4 and jobs.base_model = owner/other"
    assert needed in capsys.readouterr().err
    assert VersionStore(data_dir).in_use("policy").version == "dpo-a1"


def test_a_rollback_of_the_first_version_goes_back_to_the_base_model(data_dir: Path) -> None:
    run("models", "rollback", "policy", "--bootstrap-servers", NOWHERE)
    assert VersionStore(data_dir).in_use("policy").version is None
    run("models", "promote", "dpo-a1", "--bootstrap-servers", NOWHERE)
    run("models", "promote", "policy-base", "--bootstrap-servers", NOWHERE)
    assert [s.version for s in VersionStore(data_dir).in_use("policy").history] == ["dpo-a1", "policy-base"] * 2


def test_two_lines_of_release_0_1_are_told_by_list_and_either_is_a_start(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data_dir / "models" / "policy").rename(data_dir / "models" / "before")
    (data_dir / "models" / "before" / "in-use.json").rename(data_dir / "models" / "dpo" / "in-use.json")
    assert run("models", "list", "--json") == 0
    told = capsys.readouterr()
    assert not any(row["in_use"] for row in json.loads(told.out))
    assert "dpo and sft are one line now, and this data directory has dpo-a1 in use of the two before" in told.err
    run("models", "promote", "dpo-a1", "--bootstrap-servers", NOWHERE)
    capsys.readouterr()
    assert run("models", "list", "--json") == 0
    told = capsys.readouterr()
    assert [row["version"] for row in json.loads(told.out) if row["in_use"]] == ["dpo-a1"]
    assert told.err == ""


def test_a_rank_that_is_not_set_is_not_promoted_before_anything_is_relearned(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("retrain", "--rank", "8", "--promote", "--bootstrap-servers", NOWHERE) == 1
    told = capsys.readouterr().err
    assert "a scorer of rank 8 is not put into use while scorer.rank = 32 is set; add --change-settings" in told


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "dpo-none"], 1, "there is no version dpo-none; `tierstream models list` has them"),
        (["show", "../../etc"], 1, "'../../etc' is no name of a version"),
        (["promote", "dpo-../x"], 1, "'dpo-../x' is no name of a version"),
        (["rollback", "scorer"], 1, "no version of scorer was in use before"),
        (["rollback", "sft"], 2, "'sft' is not one of 'scorer', 'policy'"),
        (["promote", "sft-base"], 1, "there is no version sft-base"),
        (["show", "policy-base"], 1, "there is no version policy-base"),
        (["promote", "scorer-c3"], 1, "scorer-c3/scorer.safetensors is truncated or foreign"),
        (["rollback", "policy", "--to", "dpo-b2"], 1, "dpo-b2 has never been in use"),
        (["rollback", "everything"], 2, "'everything' is not one of"),
        (["list", "--line", "x"], 2, "'x' is not one of"),
    ],
)
def test_mistakes_are_one_line(
    data_dir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert run("models", *arguments) == code
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("name", ["list", "show", "promote", "rollback", "diff", "export"])
def test_every_subcommand_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", name, "--help") == 0
    assert f"Example: tierstream models {name}" in capsys.readouterr().out
