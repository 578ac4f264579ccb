"""What the doctor finds in a data directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.config import LoadedSettings, load
from streams.audit.doctor import examine
from tests.serving_peer import ServingPeer
from tests.streams.cli.test_models import add
from tests.trainers.scorer.making import begun
from trainers.scorer.checkpoint import CheckpointStore
from trainers.versions import VersionStore


def loaded(data_dir: Path, **overrides: Any) -> LoadedSettings:
    nowhere = {"kafka.bootstrap_servers": "127.0.0.1:1"}
    return load(None, {}, {"data_dir": str(data_dir), **nowhere, **overrides})


def check(report: dict[str, Any], name: str) -> tuple[str, str]:
    return next((found.verdict, found.detail) for found in report["checks"] if found.name == name)


def save_checkpoint(data_dir: Path, paused_since: float | None = None) -> Path:
    settings = loaded(data_dir, **{"scorer.rank": 8}).settings.scorer
    fold = begun(settings)
    fold.paused_since = paused_since
    return CheckpointStore(data_dir / "scorer", settings).save(fold.snapshot())


@pytest.mark.parametrize(("rank", "parameters"), [(1, 1006), (8, 7145), (32, 28193)])
def test_parameters_are_those_of_the_built_network(tmp_path: Path, rank: int, parameters: int) -> None:
    assert examine(loaded(tmp_path, **{"scorer.rank": rank}))["scorer_parameters"] == parameters


def test_checkpoint_is_compared_with_the_settings(tmp_path: Path) -> None:
    assert check(examine(loaded(tmp_path)), "checkpoint")[0] == "ok"
    save_checkpoint(tmp_path)
    assert check(examine(loaded(tmp_path, **{"scorer.rank": 8})), "checkpoint") == (
        "ok",
        "epoch 1, step 0 fits the settings",
    )
    verdict, detail = check(examine(loaded(tmp_path)), "checkpoint")
    assert verdict == "failed"
    assert "rank" in detail
    assert "8" in detail
    assert "32" in detail


def test_damaged_checkpoint_is_a_warning(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path)
    path.write_bytes(path.read_bytes()[:50])
    assert check(examine(loaded(tmp_path)), "checkpoint") == ("warning", f"unreadable and passed over: {path.name}")


def test_a_pause_is_a_warning_that_says_since_when(tmp_path: Path) -> None:
    assert check(examine(loaded(tmp_path)), "learning")[0] == "ok"
    save_checkpoint(tmp_path, paused_since=0.0 + 86_400)
    assert check(examine(loaded(tmp_path, **{"scorer.rank": 8})), "learning") == (
        "warning",
        "paused since 1970-01-02T00:00:00+00:00: tierstream train --resume lets it go on",
    )


def test_a_server_that_does_not_know_what_is_in_use_or_is_away_is_a_warning(tmp_path: Path) -> None:
    assert check(examine(loaded(tmp_path)), "server")[0] == "ok"
    with ServingPeer("policy-base") as peer:
        serving = {"serving.url": peer.url}
        found = check(examine(loaded(tmp_path, **serving)), "server")
        assert found == ("ok", f"{peer.url} knows policy-base, which is in use")
        add(tmp_path, "dpo-a1")
        VersionStore(tmp_path).promote("dpo-a1", "passed")
        assert check(examine(loaded(tmp_path, **serving)), "server") == (
            "warning",
            f"{peer.url} does not know dpo-a1, which is in use: a trainer has it load that",
        )
    verdict, detail = check(examine(loaded(tmp_path, **serving)), "server")
    assert verdict == "warning"
    assert "cannot be asked at /v1/models" in detail


def test_folder_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    verdict, detail = check(examine(loaded(tmp_path / "file" / "data")), "data directory")
    assert verdict == "failed"
    assert detail.endswith("cannot be written: give another one with --data-dir")


def test_nothing_is_written_by_looking(tmp_path: Path) -> None:
    examine(loaded(tmp_path / "data"))
    assert not (tmp_path / "data").exists()
