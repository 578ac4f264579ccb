"""The registry on disk."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas.errors import VersionError
from schemas.versions import InUse, Selection, VersionRecord
from trainers.versions import VersionStore, version_name
from trainers.versions.store import MANIFEST

START = datetime(2026, 1, 1, tzinfo=UTC)


def record(version: str, **fields: object) -> VersionRecord:
    minute, tier = int(version[-1], 16), version.partition("-")[0]
    values = {"tier": tier, "version": version, "created_at": START + timedelta(minutes=minute), "reason": "a test"}
    return VersionRecord.model_validate({**values, **fields})


def add(store: VersionStore, version: str, content: str = "weights", **fields: object) -> VersionRecord:
    with store.staging(version) as folder:
        (folder / "adapter").mkdir()
        (folder / "adapter" / "weights.bin").write_text(content)
        return store.add(record(version, **fields), folder)


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path)


def test_added_version_has_its_files_hashes_and_nothing_else_is_left(store: VersionStore, tmp_path: Path) -> None:
    added = add(store, "dpo-a1", metrics={"accuracy": 0.75})
    assert added.files == {"adapter/weights.bin": hashlib.sha256(b"weights").hexdigest()}
    assert store.get("dpo-a1") == added
    assert store.verified("dpo-a1") == tmp_path / "models" / "dpo" / "dpo-a1"
    assert [path.name for path in (tmp_path / "models" / "dpo").iterdir()] == ["dpo-a1"]


def test_adding_again_changes_nothing(store: VersionStore) -> None:
    first = add(store, "dpo-a1", "weights")
    again = add(store, "dpo-a1", "other weights", reason="another")
    assert again == first
    assert (store.verified("dpo-a1") / "adapter" / "weights.bin").read_text() == "weights"


def _fail_in_staging(store: VersionStore) -> None:
    with store.staging("dpo-a1") as folder:
        (folder / "half").write_text("x")
        raise OSError("disk is full")


def test_staging_that_fails_leaves_nothing(store: VersionStore, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk is full"):
        _fail_in_staging(store)
    assert list((tmp_path / "models" / "dpo").iterdir()) == []
    assert store.versions("policy") == []


def test_folder_without_a_manifest_is_no_version(store: VersionStore, tmp_path: Path) -> None:
    (tmp_path / "models" / "dpo" / "dpo-a1").mkdir(parents=True)
    assert store.versions("policy") == []
    with pytest.raises(VersionError, match="there is no version dpo-a1"):
        store.get("dpo-a1")


@pytest.mark.parametrize(
    "name",
    ["../dpo-a1", "dpo-../../x", "dpo-", "dpo-a/b", "/etc/passwd", "dpo-a\x00", "dpo-a\n", "in-use.json", "", "."],
)
def test_hostile_names_are_refused(store: VersionStore, name: str) -> None:
    with pytest.raises(VersionError, match="no name of a version"):
        store.get(name)
    with pytest.raises(VersionError, match="no name of a version"), store.staging(name):
        pass
    with pytest.raises(VersionError, match="no name of a version"):
        store.promote(name, "try")


def test_promotion_is_told_and_remembered(store: VersionStore) -> None:
    add(store, "dpo-a1", metrics={"accuracy": 0.75})
    add(store, "dpo-a2", parent_version="dpo-a1", status="rejected")
    assert store.in_use("policy").version is None
    event = store.promote("dpo-a1", "better by 0.1")
    assert (event.line, event.tier, event.version, event.path) == ("policy", "dpo", "dpo-a1", "models/dpo/dpo-a1")
    assert (event.metrics, event.reason) == ({"accuracy": 0.75}, "promoted: better by 0.1")
    assert [(v.version, v.status) for v in store.versions("policy")] == [("dpo-a1", "promoted"), ("dpo-a2", "rejected")]
    assert store.promote("dpo-a2", "by hand").parent_version == "dpo-a1"
    history = store.in_use("policy").history
    assert [(s.version, s.action, s.previous) for s in history] == [
        ("dpo-a1", "promoted", None),
        ("dpo-a2", "promoted", "dpo-a1"),
    ]


def test_promoting_what_is_in_use_adds_no_line(store: VersionStore) -> None:
    add(store, "dpo-a1")
    first = store.promote("dpo-a1", "better")
    assert store.promote("dpo-a1", "again") == first
    assert len(store.in_use("policy").history) == 1


def test_rollback_goes_back_step_by_step_and_never_forth(store: VersionStore) -> None:
    for name in ("dpo-a1", "dpo-a2", "dpo-a3"):
        add(store, name)
        store.promote(name, "better")
    assert store.rollback("policy").version == "dpo-a2"
    assert store.rollback("policy", reason="worse").reason == "rolled back: worse"
    assert store.in_use("policy").version == "dpo-a1"
    assert store.promote("dpo-a3", "again").version == "dpo-a3"
    assert store.rollback("policy").version == "dpo-a1"
    assert store.rollback("policy", to="dpo-a2").version == "dpo-a2"
    assert [s.version[-1] for s in store.in_use("policy").history] == ["1", "2", "3", "2", "1", "3", "1", "2"]


def test_a_rollback_from_a_version_that_is_in_use_no_longer_changes_nothing(store: VersionStore) -> None:
    for name in ("dpo-a1", "dpo-a2", "dpo-a3"):
        add(store, name)
        store.promote(name, "better")
    with pytest.raises(VersionError, match="dpo-a3 is in use by now, not dpo-a2"):
        store.rollback("policy", "dpo-a1", only_from="dpo-a2")
    assert store.in_use("policy").version == "dpo-a3"
    assert store.rollback("policy", "dpo-a2", only_from="dpo-a3").version == "dpo-a2"


def test_the_base_model_is_what_a_rollback_of_the_first_version_goes_back_to(store: VersionStore) -> None:
    add(store, "dpo-a1")
    store.promote("dpo-a1", "better")
    event = store.rollback("policy")
    assert (event.line, event.tier, event.version, event.path) == ("policy", None, "policy-base", "")
    assert event.reason == "rolled back: back from dpo-a1"
    assert store.in_use("policy").version is None
    with pytest.raises(VersionError, match="no version of policy was in use before"):
        store.rollback("policy")
    assert store.promote("dpo-a1", "again").version == "dpo-a1"
    for _ in range(2):
        assert store.rollback("policy", to="policy-base").version == "policy-base"
    assert [s.version for s in store.in_use("policy").history] == ["dpo-a1", "policy-base", "dpo-a1", "policy-base"]
    with pytest.raises(VersionError, match="no version of scorer was in use before"):
        store.rollback("scorer")


def test_versions_of_both_tiers_are_one_line_and_the_scorers_another(store: VersionStore) -> None:
    for name in ("sft-a1", "dpo-a2", "scorer-a3"):
        add(store, name)
        store.promote(name, "better")
    assert [one.version for one in store.versions("policy")] == ["sft-a1", "dpo-a2"]
    assert [one.previous for one in store.in_use("policy").history] == [None, "sft-a1"]
    assert store.rollback("policy").version == "sft-a1"
    assert store.rollback("policy").version == "policy-base"
    assert store.in_use("scorer").version == "scorer-a3"


def test_the_base_model_that_is_promoted_can_be_rolled_back(store: VersionStore) -> None:
    add(store, "sft-a1")
    store.promote("sft-a1", "better")
    assert (store.promote("policy-base", "by hand").version, store.in_use("policy").version) == ("policy-base", None)
    assert store.rollback("policy").version == "sft-a1"


def of_release_0_1(store: VersionStore, tmp_path: Path, *in_use: str) -> None:
    """Leave what that release did: a line for each tier."""
    for version in in_use:
        add(store, version)
        change = Selection(version=version, action="promoted", reason="better", at=START)
        (store.folder(version).parent / "in-use.json").write_bytes(InUse(history=(change,)).to_json())


@pytest.mark.parametrize("start", ["dpo-a1", "sft-a2", "policy-base"])
def test_two_lines_of_release_0_1_become_one_that_begins_with_what_is_promoted(
    store: VersionStore, tmp_path: Path, start: str
) -> None:
    of_release_0_1(store, tmp_path, "dpo-a1", "sft-a2")
    undecided = store.missing_start()
    assert undecided is not None
    assert "has dpo-a1 and sft-a2 in use of the two before" in undecided.message
    assert "`tierstream models promote policy-base`" in str(undecided.remedy)
    assert [one.status for one in store.versions("policy")] == ["promoted", "promoted"]
    assert store.promote(start, "by hand").version == start
    assert store.missing_start() is None
    assert store.in_use("policy").version == (None if start == "policy-base" else start)
    assert [one.status for one in store.versions("policy")] == ["promoted", "promoted"]


def test_without_a_version_in_use_of_release_0_1_the_line_begins_by_itself(store: VersionStore) -> None:
    assert store.missing_start() is None
    add(store, "dpo-a1", status="rejected")
    assert store.missing_start() is None


def test_rollback_to_what_was_never_in_use_is_refused(store: VersionStore) -> None:
    add(store, "dpo-a1")
    add(store, "dpo-a2")
    store.promote("dpo-a1", "better")
    with pytest.raises(VersionError, match="dpo-a2 has never been in use; put it into use with"):
        store.rollback("policy", to="dpo-a2")


@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_harmed_version_is_neither_loaded_nor_promoted(store: VersionStore, harm: str) -> None:
    add(store, "dpo-a1")
    file = store.folder("dpo-a1") / "adapter" / "weights.bin"
    file.unlink()
    if harm == "changed":
        file.write_text("weightz")
    for use in (store.verified, lambda name: store.promote(name, "try")):
        with pytest.raises(VersionError, match=r"weights.bin (has changed since it was added|is missing)"):
            use("dpo-a1")
    assert store.in_use("policy").history == ()


def test_damaged_records_are_named(store: VersionStore, tmp_path: Path) -> None:
    add(store, "dpo-a1")
    (tmp_path / "models" / "dpo" / "dpo-a1" / MANIFEST).write_text("{")
    with pytest.raises(VersionError, match=r"version\.json cannot be read"):
        store.versions("policy")
    (tmp_path / "models" / "policy").mkdir()
    (tmp_path / "models" / "policy" / "in-use.json").write_text("[]")
    with pytest.raises(VersionError, match=r"in-use\.json cannot be read"):
        store.in_use("policy")


def test_history_is_as_it_was_where_it_cannot_be_written(
    store: VersionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, "dpo-a1")
    add(store, "dpo-a2")
    store.promote("dpo-a1", "better")

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainers.versions.store.write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        store.promote("dpo-a2", "better")
    assert store.in_use("policy").version == "dpo-a1"


def _promote_many(data_dir: str, name: str, times: int) -> None:
    store = VersionStore(data_dir)
    for number in range(times):
        store.promote(name, f"{name} {number}")
        store.add(record("dpo-c9"), _stage(store))


def _stage(store: VersionStore) -> Path:
    with store.staging("dpo-c9") as folder:
        pass
    folder.mkdir()
    (folder / "file").write_text("the same")
    return folder


def test_two_processes_that_promote_at_once_lose_no_change(store: VersionStore, tmp_path: Path) -> None:
    add(store, "dpo-a1")
    add(store, "dpo-a2")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_promote_many, args=(str(tmp_path), name, 30)) for name in ("dpo-a1", "dpo-a2")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    history = store.in_use("policy").history
    assert [s.previous for s in history] == [None, *(s.version for s in history[:-1])]
    assert all(s.previous != s.version for s in history)
    assert store.verified("dpo-c9").name == "dpo-c9"


def test_names_follow_from_what_a_version_is_made_of() -> None:
    assert version_name("sft", "a", b"b") == version_name("sft", b"a", "b")
    assert version_name("sft", "a", "b") != version_name("sft", "ab")
    assert version_name("sft", "a") != version_name("dpo", "a")
    assert len(version_name("scorer", "a")) == len("scorer-") + 12


def test_manifest_on_disk_is_plain_json(store: VersionStore) -> None:
    add(store, "dpo-a1")
    content = json.loads((store.folder("dpo-a1") / MANIFEST).read_text())
    assert (content["schema_version"], content["tier"], content["version"]) == (1, "dpo", "dpo-a1")
