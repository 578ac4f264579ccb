"""The guides' commands and programs, run as they stand, one after the other, against a running worker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.reference import reference
from streams.cli.main import cli
from tests.live import Deployment

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted([str(path.relative_to(DOCS.parent)) for path in DOCS.rglob("*.md")] + ["README.md"])
GUIDES = ("quickstart", "producers", "consumers", "operations")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SLEEP = re.compile(r"sleep \d+; ")
WAIT_SECONDS = 60.0
EXIT = re.compile(r"\s+# exit (\d)$")


def test_configuration_reference_is_the_settings() -> None:
    remedy = "python -m schemas.reference > docs/configuration.md"
    assert (DOCS / "configuration.md").read_text() == reference(), remedy


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_names_exists(page: str) -> None:
    text = (DOCS.parent / page).read_text()
    named = set(re.findall(r"tierstream ([a-z][a-z-]+)", text.replace("`tierstream` is", "")))
    assert named <= set(cli.commands), named - set(cli.commands)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (DOCS.parent / page).read_text())
    assert [link for link in links if "://" not in link and not ((DOCS.parent / page).parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_heading_that_a_page_links_to_is_there(page: str) -> None:
    path = DOCS.parent / page
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text())
    assert [(to, heading) for to, heading in links if heading not in headings(path.parent / to if to else path)] == []


def headings(page: Path) -> set[str]:
    """Return what a page's headings are linked by: in lower case, with hyphens for blanks and without punctuation."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower() for heading in found)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def test_the_index_of_decisions_has_each_with_its_status() -> None:
    records = {path.name: path.read_text().splitlines() for path in DOCS.glob("decisions/0*.md")}
    index = (DOCS / "decisions" / "README.md").read_text()
    assert set(re.findall(r"\]\((0[^)]+)\) \|", index)) == set(records)
    for name, (title, _, status, *_) in records.items():
        assert title.startswith(f"# {int(name[:4])}. "), name
        assert re.match(r"Status: (accepted|superseded)", status), name


@pytest.fixture(scope="module")
def deployment(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Deployment(broker.bootstrap, f"guides-{os.getpid()}-", tmp_path_factory.mktemp("guides") / "data") as running:
        running.worker()
        yield running


@pytest.fixture
def environment(deployment: Deployment) -> dict[str, str]:
    bin_folder = str(Path(sys.executable).parent)
    return {
        **os.environ,
        **deployment.variables(),
        "TIERSTREAM_DATA_DIR": str(deployment.data_dir),
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(DOCS.parent),
        "ENABLE_TIER3_CAPTURE": "true",
        "WEB": deployment.processes[0].url,
    }


@pytest.mark.long
@pytest.mark.live
@pytest.mark.timeout(240)
@pytest.mark.parametrize("guide", GUIDES)
def test_guide_runs_as_it_stands(guide: str, environment: dict[str, str], tmp_path: Path) -> None:
    blocks = FENCE.findall((DOCS / f"{guide}.md").read_text())
    ran = 0
    for language, body in blocks:
        if language == "console":
            for command, expected, code in commands(body):
                waits, began = SLEEP.match(command), time.monotonic()
                command = command[waits.end() :] if waits else command
                # Where a reader is told to wait a few seconds, what should then be there is waited for.
                while not behaves(done := run(["bash", "-c", command], environment, tmp_path), expected, code):
                    assert waits, (command, expected, done)
                    assert time.monotonic() - began < WAIT_SECONDS, (command, expected, done)
                ran += 1
        elif language == "python":
            done = run([sys.executable, "-W", "error", "-c", body], environment, tmp_path)
            assert (done.returncode, done.stderr) == (0, ""), (body, done.stderr)
            ran += 1
    assert ran > 0
    if guide == "quickstart":
        check_what_the_quick_start_says((tmp_path / "score-updates.jsonl").read_text())


def commands(body: str) -> list[tuple[str, str, int]]:
    """Return each command of a console block, with the output that stands below it and its exit code."""
    found: list[tuple[str, str, int]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            told = EXIT.search(line)
            found.append((EXIT.sub("", line[2:]), "", int(told[1]) if told else 0))
        else:
            command, expected, code = found.pop()
            if line.startswith("> "):
                found.append((f"{command}\n{line[2:]}", expected, code))
            else:
                found.append((command, f"{expected}{line}\n", code))
    return found


def behaves(done: subprocess.CompletedProcess[str], expected: str, code: int) -> bool:
    """Whether a command ended as its guide says, printed what stands below it, and complained of nothing."""
    shown = (done.stdout + done.stderr).splitlines()
    quiet = code != 0 or not done.stderr.strip()
    return done.returncode == code and quiet and set(expected.splitlines()) <= set(shown)


def run(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def check_what_the_quick_start_says(lines: str) -> None:
    arrived, learned = (json.loads(line) for line in lines.splitlines())
    assert (arrived["reason"], learned["reason"]) == ("experience_arrived", "feedback_learned")
    change = {item["item_id"]: item["score"] - item["previous_score"] for item in learned["items"]}
    assert change["w1"] > 0 > change["w2"]
