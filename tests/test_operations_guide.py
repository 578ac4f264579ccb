"""The commands of docs/operations.md, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from schemas.settings import ScorerSettings, Settings
from streams.state.manifest import check_state
from tests.trainers.scorer.making import begun
from trainers.scorer.checkpoint import CheckpointStore

GUIDE = (Path(__file__).parents[1] / "docs" / "operations.md").read_text("utf-8")


def run(name: str, **variables: str) -> None:
    [commands] = re.findall(rf"```sh {name}\n(.*?)```", GUIDE, re.DOTALL)
    subprocess.run(["sh", "-euc", commands], env={**os.environ, **variables}, check=True, timeout=60)


def test_what_is_backed_up_is_what_is_restored(tmp_path: Path) -> None:
    data, backup, scorer = tmp_path / "data", str(tmp_path / "backup.tgz"), ScorerSettings(rank=2)
    settings = Settings(data_dir=str(data))
    check_state(settings, local=True)
    CheckpointStore(data / "scorer", scorer).save(begun(scorer).snapshot())
    run("backup", DATA_DIR=str(data), BACKUP=backup)
    before = {path.relative_to(data): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    data.rename(tmp_path / "lost")
    run("restore", DATA_DIR=str(data), BACKUP=backup)
    after = {path.relative_to(data): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert after == {path: content for path, content in before.items() if path.parts[0] != "state"}
    snapshot = CheckpointStore(data / "scorer", scorer).load()
    assert snapshot is not None
    check_state(settings, local=True)


def test_every_remedy_that_names_a_chapter_leads_to_one(tmp_path: Path) -> None:
    source = (Path(__file__).parents[1] / "streams" / "state" / "manifest.py").read_text("utf-8")
    assert "'Changing {key}'" in source
    for key in ("topics.prefix", "kafka.app_id", "topics.partitions"):
        assert f"\n## Changing {key}\n" in GUIDE
    assert "\n## Upgrades\n" in GUIDE
