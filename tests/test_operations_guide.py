"""The commands of docs/operations.md, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
from importlib import resources
from pathlib import Path

import click

from schemas.settings import ScorerSettings, Settings
from streams.cli.main import cli
from streams.state.manifest import check_state
from streams.worker.charts import CHARTS
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


def questions() -> list[tuple[str, str, str]]:
    rows = re.findall(r"^\| ([^|]+\?) \| ([^|]+) \| `([^`]+)` \|$", GUIDE, re.MULTILINE)
    return [(question, place, command) for question, place, command in rows]


def test_each_of_the_twelve_questions_is_answered_by_a_command_that_takes_what_is_said() -> None:
    assert len(questions()) == 12
    for question, _, line in questions():
        command: click.Command = cli
        words = line.split()
        assert words.pop(0) == "tierstream", question
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        # Names in capitals stand for what the operator fills in.
        filled = [{"NUMBER": "7", "LINE": "scorer"}.get(word, word) for word in words]
        command.make_context(line, filled)


def test_each_of_the_twelve_questions_is_answered_on_the_page_in_two_clicks() -> None:
    page = resources.files("streams.worker.page").joinpath("index.html").read_text("utf-8")
    titles = {
        re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", title))
        for title in re.findall(r"<h2.*?</h2>|<summary.*?</summary>", page, re.DOTALL)
    }
    titles |= {chart.title for chart in CHARTS.values()}
    for question, place, _ in questions():
        clicks = re.split(r"[;,] |\band\b", place)
        assert len(clicks) <= 3, question
        named = (
            place.replace("the charts ", "").replace("the chart ", "").split("; ")[0].split(", ")[0].split(" and ")[0]
        )
        assert any(named.lower() in title.lower() for title in titles), (question, named)
