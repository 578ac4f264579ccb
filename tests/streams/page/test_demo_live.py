"""Every view on the demo's data, by two workers; the operator's twelve questions, each in two clicks and by a command.

    TIERSTREAM_TEST_SCREENSHOTS=/tmp/views python -m pytest -m slow tests/streams/page/test_demo_live.py

keeps every view at both widths and in the dark; those of `docs/images` are copied from there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from schemas.settings import DemoSettings
from tests.live import Deployment, Process
from tests.streams.page.visit import LOADED, TOKEN, WAIT_MS, Visit, aside, chromium, until
from tests.trainers.jobs.tiny import build_model
from trainers.jobs.snapshot import RESULT_NAME
from trainers.versions import VersionStore
from trainers.versions.store import LINEAGE

pytestmark = [pytest.mark.live, pytest.mark.slow]

JOBS_SECONDS = 600.0
SMALL_MODEL = {"TIERSTREAM_JOBS__DPO__MAX_LENGTH": "512", "TIERSTREAM_JOBS__SFT__MAX_LENGTH": "512"}
QUESTIONS = Path(__file__).parents[3] / "docs" / "operations.md"
NO_FEEDBACK = b'{"feedback_id": "f-1", "experience_id": "exp-1", "timestamp": 1, "source": "user", "reward": "good"}'


def table() -> dict[str, str]:
    """Return the twelve questions of the guide, each with its command."""
    rows = re.findall(r"^\| (.*\?) \|.*\| `tierstream (.*)` \|$", QUESTIONS.read_text("utf-8"), re.MULTILINE)
    return dict(rows)


def play(bootstrap: str, prefix: str, folder: Path, base: Path) -> str:
    """Run the demo, all but its base model, and return the prefix of its topics; jobs that are left go on later."""
    command = [sys.executable, "-m", "streams.cli", "demo", "--bootstrap-servers", bootstrap, "--data-dir", str(folder)]
    done = subprocess.run(
        [*command, "--json"],
        env={
            **os.environ,
            **SMALL_MODEL,
            "TIERSTREAM_JOBS__BASE_MODEL": str(base),
            "TIERSTREAM_TOPICS__PREFIX": prefix,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0 or "0 events without a score update" in done.stderr, done.stderr
    said: str = json.loads((folder / "state.json").read_text())["prefix"]
    return said


@pytest.mark.timeout(1800)
def test_every_view_of_the_demo_on_two_workers_answers_the_operators_questions(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    played = play(bootstrap, prefix, data, base := build_model(tmp_path / "base"))
    demo = DemoSettings()
    jobs = {
        "base_model": str(base),
        "dpo": {"max_length": 512, "max_steps": demo.dpo_steps},
        "sft": {"max_length": 512, "max_steps": demo.sft_steps},
        "gate": {"held_out_one_in": demo.held_out_one_in, "held_out_size": demo.held_out_size},
    }
    with Deployment(bootstrap, played, data, pairs={"patience": 0}, jobs=jobs) as stream, chromium() as browser:
        first = stream.start("worker", "--roles", "join,traces", TIERSTREAM_WEB__TOKEN=TOKEN)
        stream.worker("--roles", "scorer,pairs", TIERSTREAM_WEB__TOKEN=TOKEN)
        wait_for_jobs(stream, stream.start("trainer"))
        first.wait_until_ready()
        aside(stream.publish, "feedback", [NO_FEEDBACK, b"{"], "exp-1")
        aside(stream.wait_until_idle)
        put_into_use(stream)
        visit = Visit(browser, first, keeps=True)
        wanted = trained_on(stream)
        look_at_every_view(visit, wanted)
        ask_the_twelve_questions(visit.page, visit.url, wanted)
        assert visit.complaints == []
        run_the_twelve_commands(stream, wanted)


def wait_for_jobs(stream: Deployment, trainer: Process) -> None:
    deadline = time.monotonic() + JOBS_SECONDS
    while not all((job / RESULT_NAME).exists() for job in (stream.data_dir / "jobs").iterdir()):
        trainer.must_run()
        assert time.monotonic() < deadline, stream.logs()
        time.sleep(1)


def put_into_use(stream: Deployment) -> None:
    """The newest version, whatever its gate said of so small a model."""
    newest = VersionStore(stream.data_dir).versions("policy")[-1].version
    done = aside(stream.command, "models", "promote", newest, "--reason", "looked at by hand")
    assert done.returncode == 0, done.stderr


def trained_on(stream: Deployment) -> str:
    """Return an experience that a version of the pairs was trained on."""
    store = VersionStore(stream.data_dir)
    name = next(one for one in store.names("policy") if one.startswith("dpo-"))
    rows = map(json.loads, (store.folder(name) / LINEAGE).read_text().splitlines())
    found: str = next(row["experience_ids"][0] for row in rows if row["use"] == "training")
    return found


def overview(page: Page, url: str) -> None:
    page.goto(f"{url}/")
    expect(page.locator("#state")).to_have_text("ready", timeout=WAIT_MS)
    expect(page.locator("#findings .finding")).not_to_have_count(0, timeout=WAIT_MS)
    expect(page.locator("#roles tr")).to_have_count(5, timeout=WAIT_MS)
    until(page, LOADED)


def look_at_every_view(visit: Visit, wanted: str) -> None:
    page, url = visit.page, visit.url
    overview(page, url)
    expect(page.locator("#roles tr").last).to_contain_text("1 running", timeout=WAIT_MS)
    visit.must_fit("page")
    for chart in ("accuracy", "reward", "latency", "arrived", "lag", "wait"):
        until(page, f"async () => /series lines/.test(await (await fetch('/chart/{chart}.svg')).text())")
    page.get_by_text("By partition").click()
    visit.must_fit("partitions")
    for tier in ("dpo", "sft"):
        page.goto(f"{url}/")
        page.locator("#jobs a", has_text=f"{tier}-").first.click()
        expect(page.locator("#curves svg")).not_to_have_count(0)
        visit.must_fit("job" if tier == "dpo" else "job-sft")
    page.goto(f"{url}/")
    page.locator("#versions tr", has_text="roll back").get_by_role("link").first.click()
    expect(page.get_by_role("link", name="Roll back to")).to_be_visible()
    visit.must_fit("version")
    page.goto(f"{url}/explain?experience_id={wanted}")
    expect(page.locator("main")).to_contain_text("scored on arrival", timeout=WAIT_MS)
    visit.must_fit("experience")
    page.get_by_role("link", name="Dead letters").click()
    visit.must_fit("dead-letters")
    page.get_by_role("link", name=re.compile("^letter ")).first.click()
    visit.must_fit("dead-letter")
    page.get_by_role("link", name="Audit").click()
    visit.must_fit("audit")
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("#findings .finding")).not_to_have_count(0, timeout=WAIT_MS)
    page.get_by_role("link", name="roll back").first.click()
    expect(page.get_by_role("button")).to_contain_text("Roll back to")
    visit.must_fit("rollback")


def ask_the_twelve_questions(page: Page, url: str, wanted: str) -> None:
    """Each from the overview, in at most two clicks."""
    asked: Mapping[str, tuple[tuple[str, ...], str, str]] = {
        # question: (clicks, where the answer stands, what it says)
        "Does all of it run, and where?": ((), "#roles", "process "),
        "What is behind, how far and how long?": (("text=By partition",), "#partitions", "feedback[0]"),
        "Is it learning?": ((), "#scorer", "right on 0."),
        "What is wrong, and what do I do about it?": ((), "#findings", "dead-lettered"),
        "Why was my event not used?": (("text=Explain",), "main", "scored on arrival"),
        "Who sends bad records, and what is wrong with them?": (
            ("#letters a >> nth=0", "text=/^letter /"),
            "#letter",
            "feedback[",
        ),
        "How do I have them read again?": (("#letters a >> nth=0",), "#reasons", "tierstream dead-letters retry"),
        "When does the next job start?": ((), "#dpo-why", "more needed"),
        "What did the last job use, and was it any good?": (("#jobs a >> nth=0",), "#examples", "training"),
        "What is in use, where does it come from, and how do I go back?": (
            ("#versions tr:has-text('roll back') a >> nth=0",),
            "main",
            "Roll back to",
        ),
        "Do scores come late?": ((), "img[data-chart=latency]", ""),
        "Do people judge as they did, and each source?": ((), "img[data-chart=reward]", ""),
    }
    assert list(asked) == list(table())
    for question, (clicks, where, answer) in asked.items():
        overview(page, url)
        page.get_by_label("Experience id").fill(wanted)
        assert len(clicks) <= 2
        for click in clicks:
            page.locator(click).first.click()
        expect(page.locator(where), question).to_contain_text(answer, timeout=WAIT_MS)


def run_the_twelve_commands(stream: Deployment, wanted: str) -> None:
    """The last of them changes what is in use."""
    [job, *_] = sorted(path.name for path in (stream.data_dir / "jobs").iterdir() if path.name.startswith("dpo-"))
    names = {"EXPERIENCE_ID": wanted, "JOB_ID": job, "LINE": "policy", "NUMBER": "0"}
    exits: Mapping[str, Callable[[int], bool]] = {
        "audit": lambda code: code in (0, 1),  # 1 tells that a finding is critical
        "dead-letters retry NUMBER": lambda code: code == 1,  # it is still no JSON
    }
    for command in sorted(set(table().values()), key=lambda one: "rollback" in one):
        words = [names.get(word, word) for word in command.split()]
        done = aside(stream.command, *words)
        assert exits.get(command, lambda code: code == 0)(done.returncode), (command, done.stdout, done.stderr)
        assert done.stdout.strip() or done.stderr.strip()
    assert VersionStore(stream.data_dir).in_use("policy").history[-1].action == "rolled back"
