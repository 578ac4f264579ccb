"""State that was written under other settings is recognised, and refused by name with the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import StateError
from schemas.settings import Settings
from streams.cli.main import main
from streams.state.manifest import MANIFEST_NAME, check_state
from streams.worker import service as worker


def settings(folder: Path, **sections: Any) -> Settings:
    return Settings.model_validate({"data_dir": str(folder / "data"), "state_dir": str(folder / "state"), **sections})


def test_the_first_start_notes_what_later_ones_must_agree_with(tmp_path: Path) -> None:
    check_state(settings(tmp_path), local=True)
    for folder in ("data", "state"):
        assert json.loads((tmp_path / folder / MANIFEST_NAME).read_bytes()) == {
            "form": 1,
            "schema_version": 1,
            "prefix": "",
            "app_id": "tierstream",
            "partitions": 4,
        }
    check_state(settings(tmp_path), local=True)


CHANGES = [
    ({"topics": {"partitions": 8}}, "topics.partitions = 4, and the settings say 8; set it back, or see"),
    ({"topics": {"prefix": "b-"}}, "topics.prefix = '', and the settings say 'b-'; set it back, or see"),
    ({"kafka": {"app_id": "b"}}, "kafka.app_id = 'tierstream', and the settings say 'b'; set it back, or see"),
]


@pytest.mark.parametrize(("changes", "words"), CHANGES)
@pytest.mark.parametrize("folder", ["data", "state"])
def test_other_settings_are_refused_in_either_folder(
    tmp_path: Path, changes: dict[str, Any], words: str, folder: str
) -> None:
    check_state(settings(tmp_path), local=True)
    other = "state" if folder == "data" else "data"
    (tmp_path / other / MANIFEST_NAME).unlink()
    with pytest.raises(StateError) as refused:
        check_state(settings(tmp_path, **changes), local=True)
    assert str(refused.value).startswith(f"{tmp_path / folder} was written under {words}")
    assert "docs/operations.md" in str(refused.value)


@pytest.mark.parametrize(("name", "value"), [("form", 2), ("schema_version", 2), ("form", 0)])
def test_another_version_of_the_program_is_recognised(tmp_path: Path, name: str, value: int) -> None:
    check_state(settings(tmp_path))
    path = tmp_path / "data" / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_bytes()), name: value}))
    with pytest.raises(StateError, match=r"was written by another version of the program: form .*; run the version"):
        check_state(settings(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[1]", b'{"form": "x"}'])
def test_a_note_that_cannot_be_read_is_not_written_over(tmp_path: Path, content: bytes) -> None:
    check_state(settings(tmp_path))
    path = tmp_path / "data" / MANIFEST_NAME
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"state\.json is not as it was written; restore it from a backup"):
        check_state(settings(tmp_path))
    assert path.read_bytes() == content


def test_nothing_is_made_on_the_broker_before_the_state_is_found_to_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mode.loop.use", lambda _: None)
    check_state(settings(tmp_path))
    with pytest.raises(StateError):
        worker.run(settings(tmp_path, topics={"prefix": "typo-"}, kafka={"bootstrap_servers": "127.0.0.1:1"}))


def test_doctor_tells_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def verdict(*arguments: str) -> tuple[str, str]:
        with pytest.raises(SystemExit):
            main(["doctor", "--json", "--data-dir", str(tmp_path / "data"), "--bootstrap-servers", "127.0.0.1:1"])
        [check] = [one for one in json.loads(capsys.readouterr().out)["checks"] if one["name"] == "state"]
        return check["verdict"], check["detail"]

    assert verdict()[0] == "ok"
    assert not (tmp_path / "data").exists()
    check_state(Settings.model_validate({"data_dir": str(tmp_path / "data"), "topics": {"partitions": 9}}))
    assert verdict() == (
        "failed",
        f"{tmp_path / 'data'} was written under topics.partitions = 9, and the settings say 4; "
        "set it back, or see 'Changing topics.partitions' in docs/operations.md",
    )
