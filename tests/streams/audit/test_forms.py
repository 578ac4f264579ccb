"""The audit's four forms say the same, and let nothing that was read turn into markup."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from schemas.events import Trace
from streams.audit.document import became_of, lay_out
from streams.audit.figures import make_report
from streams.audit.markdown import to_markdown
from streams.audit.page import to_html
from streams.audit.terminal import show
from streams.cli.main import main
from tests.streams.audit.collecting import collected
from trainers.pairs.funnel import empty_funnel
from trainers.traces.store import StoredTrace


def forms(folder: Path, **changes: object) -> dict[str, str]:
    document = lay_out(make_report(collected(folder, **changes)))  # type: ignore[arg-type]
    console = Console(file=io.StringIO(), width=200)
    show(document, console)
    return {"terminal": console.file.getvalue(), "markdown": to_markdown(document), "html": to_html(document)}  # type: ignore[attr-defined]


def test_every_form_says_what_the_hand_written_audit_said(tmp_path: Path) -> None:
    for name, shown in forms(tmp_path, rank=8).items():
        plain = re.sub(r"\s+", " ", re.sub(r"<[^>]+>|\\", "", shown))
        for said in (
            "15/80 pairs, 65 more needed",
            "rank 8 (7,145 parameters)",
            "rank 32 (28,193 parameters) is configured",
            "52,104",
            "40,560 (43.77%)",
            "297 (mean 0.930)",
            "167 (23%)",
            "What are the current vibration levels for pump 001?",
            "12,837 / 679",
            "COMPLETED",
            "SKIPPED",
        ):
            assert said in plain, (name, said)


def test_without_a_broker_nobody_knows_what_waits(tmp_path: Path) -> None:
    for shown in forms(tmp_path, broker=None, broker_error="broker x cannot be reached", worker=None).values():
        assert "Not known: no broker could be asked." in shown
        assert "Nothing waits" not in shown


def test_what_was_read_is_no_markup(tmp_path: Path) -> None:
    evil = Trace.model_validate(
        {
            "trace_id": "t",
            "timestamp": "2026-02-01T00:00:00Z",
            "kind": "user_query",
            "prompt": "<script>alert(1)</script> | [red]x[/red] `code`",
            "response": "ok",
            "model": "m",
        }
    )
    found = collected(tmp_path, few=True)
    found = replace(found, disk=replace(found.disk, traces=(StoredTrace(evil, "f"),)))
    document = lay_out(make_report(found))
    assert "<script>" not in to_html(document)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in to_html(document)
    assert "\\<script\\>" in to_markdown(document)
    console = Console(file=io.StringIO(), width=200)
    show(document, console)
    assert "[red]x[/red]" in console.file.getvalue()  # type: ignore[attr-defined]


class Outline(HTMLParser):
    """Which elements are open at the end, and what the page asks of elsewhere."""

    VOID = frozenset({"link", "meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids |= {value for name, value in attrs if name == "id" and value}
        asked = [value for name, value in attrs if name in ("src", "href") and value]
        self.asked += [value for value in asked if not value.startswith("data:")]  # the page's own, icon included

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    page = forms(tmp_path)["html"]
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert {f"#{name}" for name in outline.ids} >= set(outline.asked)
    assert "url(" not in page
    assert "<script" not in page


def test_the_funnel_names_only_what_happened(tmp_path: Path) -> None:
    funnel = empty_funnel()
    funnel["widget"]["answers"] = 7
    funnel["widget"]["dropped"]["chosen_no_confidence"] = 3
    report = replace(make_report(collected(tmp_path, few=True)), funnel=funnel)
    text = to_markdown(lay_out(report))
    assert "dropped: chosen no confidence" in text
    assert "chosen low confidence" not in text


def test_two_forms_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["audit", "--json", "--html"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: choose one of --json, --markdown, --html")


def test_a_jobs_examples_are_told_by_what_became_of_them() -> None:
    metrics = {"trained_on": 38, "held_out_of_job": 6, "dropped": {"too_long": 3, "not_reached": 1}, "cut": 2}
    assert became_of(metrics) == "38 trained on (2 shortened), 6 held out, dropped: 3 too_long, 1 not_reached"
    assert became_of({"to_train_on": 4, "held_out_of_job": 1, "dropped": {}, "cut": 0}) == "4 trained on, 1 held out"
    assert became_of({"trained_on": 22}) == "-"  # of an earlier release
