"""The web pages in headless Chromium, on a deployment of two workers that learns while somebody looks."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from streams.broker.launch import free_port
from tests.live import Deployment, Process
from tests.scenarios.audit_day import AuditDay, audit_day, write_legacy_traces
from tests.streams.page.made import add_job, add_version, dead_letter
from tests.streams.page.visit import LOADED, TOKEN, WAIT_MS, WIDTHS, Visit, aside, chromium, until

pytestmark = pytest.mark.live


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_page_shows_the_whole_deployment_at_every_width(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    day, data = audit_day(1), tmp_path / "data"
    write_legacy_traces(data / "traces")
    with Deployment(bootstrap, prefix, data, traces={"max_tokens": 16384}, pairs={"patience": 0}) as stream:
        first = stream.start("worker", "--roles", "join,traces", TIERSTREAM_WEB__TOKEN=TOKEN)
        second = stream.worker("--roles", "scorer,pairs", TIERSTREAM_WEB__TOKEN=TOKEN)
        first.wait_until_ready()
        assert stream.command("import", "tierstream", str(data / "traces")).returncode == 0
        with chromium() as browser:
            visit = Visit(browser, first)
            see_it_learn(visit, stream, day)
            look_around(visit, stream, day)
            send_a_dead_letter_again(visit, stream, day)
            see_that_the_server_refuses(visit, stream)
            roll_back(visit, browser, first)
            see_a_worker_fall_silent(visit, second)
            assert visit.complaints == []
            # An open event stream does not hold up a worker that is told to stop.
            assert first.end(20) == 0
            expect(visit.page.locator("#state")).to_have_text("the worker does not answer", timeout=WAIT_MS)


def see_it_learn(visit: Visit, stream: Deployment, day: AuditDay) -> None:
    """The worker that is asked has neither scorer nor pairs."""
    page, half = visit.page, len(day.experiences) // 2
    expect(page.locator("#state")).to_have_text("ready", timeout=WAIT_MS)
    expect(page.locator("#seen")).to_contain_text("2 workers,")
    aside(stream.publish, "feedback", [b"{", *day.feedbacks], "k")
    aside(stream.publish, "experiences", day.experiences[:half])
    expect(page.locator("#learned")).not_to_have_text("-", timeout=WAIT_MS)
    before = int(page.locator("#learned").inner_text().replace(",", ""))
    aside(stream.publish, "experiences", day.experiences[half:])
    expect(page.locator("#dpo-have")).to_have_text("15", timeout=WAIT_MS)
    expect(page.locator("#dpo-why")).to_contain_text("65 more needed")
    assert int(page.locator("#learned").inner_text().replace(",", "")) > before
    for place, name in enumerate(("join", "scorer", "pairs", "traces")):
        cells = page.locator("#roles tr").nth(place).locator("td")
        expect(cells.nth(0)).to_have_text(name, timeout=WAIT_MS)
        expect(cells.nth(1)).to_contain_text("process ")
        expect(cells.nth(2)).to_have_text("ready")
    expect(page.locator("#roles tr").nth(4)).to_contain_text("runs nowhere")
    processes = {page.locator("#roles tr").nth(place).locator("td").nth(1).inner_text() for place in range(4)}
    assert len(processes) == 2
    aside(stream.wait_until_idle)


def look_around(visit: Visit, stream: Deployment, day: AuditDay) -> None:
    """Every view, each reached from the one before."""
    page, wanted = visit.page, day.experiences[0].experience_id
    add_version(stream.data_dir, "sft-v1")
    add_version(stream.data_dir, "sft-v2", "sft-v1", metrics={"accuracy": 0.75}, job_id="sft-1")
    add_job(stream.data_dir)
    page.get_by_role("button", name="Look again").click()
    expect(page.locator("#findings")).to_contain_text("15 of 80 pairs are there", timeout=WAIT_MS)
    expect(page.locator("#versions a")).to_have_text(["sft-v1", "sft-v2", "roll back"])
    expect(page.locator("#jobs a")).to_have_count(1, timeout=WAIT_MS)
    # What was sampled before a page is opened is on it.
    until(page, "async () => /series lines/.test(await (await fetch('/chart/arrived.svg')).text())")
    page.reload()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    expect(page.locator("#dpo-have")).to_have_text("15", timeout=WAIT_MS)
    expect(page.locator("#findings")).to_contain_text("15 of 80 pairs are there", timeout=WAIT_MS)
    page.get_by_text("By partition").click()
    assert page.locator("#partitions tr").count() >= 8
    until(page, LOADED)
    visit.must_fit("partitions")
    page.get_by_text("By partition").click()
    visit.must_fit("page")

    page.get_by_label("Experience id").focus()
    page.keyboard.type(wanted)
    page.keyboard.press("Enter")
    page.wait_for_url("**/explain?**")
    expect(page.locator("main")).to_contain_text("scored on arrival", timeout=WAIT_MS)
    visit.must_fit("experience")
    page.locator("main").get_by_role("link", name="Dead letters").click()
    page.get_by_role("link", name="letter 0").click()
    expect(page.locator("#record")).to_contain_text("{")
    visit.must_fit("dead-letter")
    page.go_back()
    expect(page.locator("code")).to_contain_text("tierstream dead-letters retry --reason")
    visit.must_fit("dead-letters")
    page.get_by_role("link", name="Overview").click()
    page.locator("#jobs a").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#curves svg")).to_have_count(2)
    visit.must_fit("job")
    page.get_by_role("link", name="sft-v2").first.click()
    expect(page.locator("code")).to_contain_text("tierstream models rollback policy")
    visit.must_fit("version")
    page.get_by_role("link", name="Audit").click()
    visit.must_fit("audit")
    page.goto(f"{visit.url}/")


def send_a_dead_letter_again(visit: Visit, stream: Deployment, day: AuditDay) -> None:
    """One that is valid by now; by keyboard."""
    page, feedback = visit.page, day.feedbacks[0].model_copy(update={"feedback_id": "sent-again"})
    content = dead_letter(1, feedback.to_json(), topic=stream.settings.topic("feedback"), key=feedback.experience_id)
    aside(stream.publish, "dead-letters", [content.to_json()], feedback.experience_id)
    page.goto(f"{visit.url}/dead-letters")
    page.get_by_role("link", name="letter 1").click()
    page.get_by_role("link", name="Send it again").focus()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("again, as attempt 2.")
    visit.must_fit("retry")
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text(re.compile("letter 1 was sent to .*feedback again"))
    sent = [record.value for record in aside(stream.records, stream.settings.topic("feedback"))]
    assert feedback.to_json() in sent


def see_that_the_server_refuses(visit: Visit, stream: Deployment) -> None:
    """A promotion that the server did not take is on the page and in the metrics, until one is taken."""
    page, away = visit.page, f"http://127.0.0.1:{free_port()}"
    page.goto(f"{visit.url}/")
    expect(page.locator("#not-served")).to_have_text("")
    done = aside(stream.command, "models", "promote", "sft-v1", TIERSTREAM_SERVING__URL=away)
    assert (done.returncode, "cannot be asked" in done.stderr) == (1, True)
    told = page.locator("#not-served")
    expect(told).to_contain_text(f"policy: sft-v1 is not put into use: the server at {away}", timeout=WAIT_MS)
    metrics = "async () => (await (await fetch('/metrics')).text()).includes('%s')"
    until(page, metrics % 'tierstream_version_not_served{line="policy"} 1.0')  # the other worker may look first
    page.get_by_role("button", name="Look again").click()
    finding = page.locator("#findings .critical", has_text="sft-v1 is not put into use")
    expect(finding).to_have_count(1, timeout=WAIT_MS)
    visit.must_fit("not-served")
    assert aside(stream.command, "models", "promote", "sft-v2").returncode == 0
    expect(told).to_have_text("", timeout=WAIT_MS)
    until(page, metrics % 'tierstream_version_not_served{line="policy"} 0.0')


def roll_back(visit: Visit, browser: Browser, worker: Process) -> None:
    """Asked first, with the token, at both widths; on the phone without JavaScript."""
    page = visit.page
    page.goto(f"{visit.url}/")
    page.get_by_role("link", name="roll back").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Roll back sft-v2?")
    visit.must_fit("rollback")
    page.get_by_label("Token").fill("not the token")
    page.get_by_role("button", name="Roll back to sft-v1").click()
    expect(page.get_by_role("alert")).to_contain_text("nothing was changed")
    assert visit.complaints.pop().endswith("401 (Unauthorized)")  # which a browser logs
    page.go_back()
    page.get_by_label("Why").fill("worse at night")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Roll back to sft-v1").click()
    expect(page.get_by_role("status")).to_have_text("sft-v1 is in use: rolled back: worse at night")
    visit.must_fit("rolled-back")
    page.get_by_role("link", name="sft-v1").click()
    expect(page.locator("#use")).to_contain_text("worse at night")

    phone = {"width": WIDTHS["-phone"], "height": 844}
    small = Visit(browser, worker, java_script_enabled=False, viewport=phone)
    small.page.goto(f"{visit.url}/versions/sft-v1")
    small.page.get_by_role("link", name="Roll back to policy-base").click()
    small.must_fit("rollback-without-script")
    small.page.set_viewport_size(phone)
    small.page.get_by_label("Token").fill(TOKEN)
    small.page.get_by_role("button", name="Roll back to policy-base").click()
    expect(small.page.get_by_role("status")).to_contain_text("policy-base is in use: rolled back")
    assert small.complaints == []
    small.page.goto(f"{visit.url}/versions/policy-base/rollback")
    expect(small.page.get_by_role("alert")).to_contain_text("no version of policy was in use before")
    small.page.close()
    page.goto(f"{visit.url}/")


def see_a_worker_fall_silent(visit: Visit, worker: Process) -> None:
    """What it told last stays, with its age."""
    row = visit.page.locator("#roles tr").nth(1)
    expect(row).to_contain_text("ready", timeout=WAIT_MS)
    worker.popen.send_signal(signal.SIGSTOP)
    try:
        expect(row.locator("td").nth(3)).to_have_text(re.compile(r"^([5-9]|\d\d)(\.\d)? s ago"), timeout=WAIT_MS)
        expect(visit.page.locator("#scorer")).to_contain_text("(told ")
        expect(row).to_contain_text("silent", timeout=WAIT_MS)
        expect(visit.page.locator("#state")).to_contain_text("has said nothing for", timeout=WAIT_MS)
    finally:
        worker.popen.send_signal(signal.SIGCONT)
    expect(visit.page.locator("#state")).to_have_text("ready", timeout=WAIT_MS)
