"""Pages of a job and of a version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from schemas.settings import Settings
from schemas.versions import BASES, line_of
from streams.audit.blocks import Bar, Bars, Note, Section, Table, text
from streams.audit.collect import fields
from streams.audit.page import section_html
from streams.training.folder import END_STATES, find_job, read_job
from streams.training.job_text import job_rows, log_line, settings_rows
from streams.training.log import LOG_NAME, LogTail, flat, parse_progress
from streams.worker.charts import draw
from streams.worker.page.parts import Links, button, commands, experience_link, facts_table, preformatted, whole_page
from trainers.versions import VersionStore
from trainers.versions.store import LINEAGE

LOG_LINES = 40
MOST_EXAMPLES = 100
"""Examples that a page lists."""


def job_page(settings: Settings, name: str) -> str:
    """Return a job: its figures, curves, what became of its examples, and the end of its log.

    Raises:
        JobError: there is no such job.
        OSError: a file of it cannot be read.
    """
    view = find_job(Path(settings.data_dir), name)
    folder, job = Path(view.folder), view.job_id
    tail = LogTail(folder / LOG_NAME, from_start=True)
    lines = [line.decode("utf-8", "replace") for line in (*tail.new_lines(), *tail.rest())]
    curves = "".join(
        f'<figure role="img" aria-label="{name} by step">{draw(f"{name} by step", points, over_time=False)}</figure>'
        for name, points in _curves(lines).items()
    )
    links: Links = {view.version: f"/versions/{view.version}"} if view.version else {}
    what = [f"tierstream jobs logs {job} --follow"]
    what += [f"tierstream jobs retry {job}"] if view.state in END_STATES - {"finished"} else []
    what += [f"tierstream jobs cancel {job}"] if view.state not in END_STATES else []
    request = read_job(folder)
    asked = settings_rows(request) if request is not None else []
    figures = facts_table(row for row in job_rows(view, request) if row not in asked)
    sections = [
        section_html(
            Section("figures", "Figures", (figures, facts_table(asked, f"{len(asked)} settings", folded=True))),
            commands(*what),
        ),
        section_html(
            Section("curves", "Curves", ()), f'<div class="charts">{curves or "no step was reported yet"}</div>'
        ),
        section_html(_examples(settings, view.tier, view.version, links)),
        section_html(
            Section("log", f"Last {LOG_LINES} lines of its log", ()), preformatted(map(log_line, lines[-LOG_LINES:]))
        ),
    ]
    return whole_page(f"Job {job}", f"{view.tier}, {view.state}", sections, links)


def _curves(lines: Sequence[str]) -> dict[str, dict[str, list[tuple[float, float | None]]]]:
    found: dict[str, dict[str, list[tuple[float, float | None]]]] = {}
    for line in lines:
        told = parse_progress(line.encode())
        step = told and told.metrics.get("step")
        for title, name in (("Loss", "loss"), ("Reward margin", "margins"), ("Accuracy", "accuracies")):
            if told and isinstance(step, int) and isinstance(value := told.metrics.get(name), int | float):
                found.setdefault(title, {}).setdefault(name, []).append((step, value))
    return found


def _examples(settings: Settings, tier: str, version: str | None, links: Links) -> Section:
    """Return what became of a version's examples, and put the experiences that are named into `links`."""
    path = Path(settings.data_dir) / "models" / tier / str(version) / LINEAGE
    rows = [fields(line) for line in path.read_bytes().splitlines()] if version and path.is_file() else []
    if not rows:
        return Section("examples", "Examples", (Note("A version's lineage tells; none came of it, or not yet."),))
    counts = Counter(f"{row['use']}: {row['reason']}" if row.get("reason") else row["use"] for row in rows)
    bars = tuple(
        Bar(use.replace("_", " "), count / len(rows), text(count), kept=not use.startswith("dropped"))
        for use, count in counts.most_common()
    )
    shown = sorted(rows, key=lambda row: row["use"] != "dropped")[:MOST_EXAMPLES]
    for row in shown:
        links |= {name: experience_link(name) for name in row.get("experience_ids", ())}
    listed = tuple(
        (row["use"], row.get("reason", "-"), str(row["id"]), ", ".join(row.get("experience_ids", ())) or "-")
        for row in shown
    )
    title = f"{len(shown):,} of them, those that were dropped first"
    columns = ("use", "reason", "example", "experiences")
    return Section(
        "examples", "Examples", (Bars(f"{len(rows):,} examples", bars), Table(title, columns, listed, folded=True))
    )


def version_page(settings: Settings, name: str) -> str:
    """Return a version: the gate's figures, where it comes from, what differs from its parent, and the way back.

    Raises:
        VersionError: there is no such version.
    """
    store, line = VersionStore(settings.data_dir), line_of(name)
    record, history = store.get(name), store.in_use(line)
    known = {one.version: one for one in store.versions(line)}
    trail = [record.version]
    while (parent := known[trail[0]].parent_version) in known and parent not in trail:
        trail.insert(0, str(parent))
    children = [one.version for one in known.values() if one.parent_version == name]
    links = {other: f"/versions/{other}" for other in (*trail, *children) if other != name}
    links |= {record.job_id: f"/jobs/{record.job_id}"} if record.job_id else {}
    selections = tuple(
        (f"{s.at:%Y-%m-%d %H:%M}", s.action, s.reason, s.previous or "-") for s in history.history if s.version == name
    )
    back = store.one_before(line)
    what = [f"tierstream models promote {name}"] if history.version != name else []
    can_go_back = back is not None and history.version == name
    what += [f"tierstream models rollback {line}"] if can_go_back else []
    offer = button(f"Roll back to {back}", f"/versions/{name}/rollback") if can_go_back else ""
    facts: dict[str, Any] = {"status": record.status, "in use": history.version == name, "job": record.job_id}
    facts |= {"made": f"{record.created_at:%Y-%m-%d %H:%M}", "why": record.reason, "base model": record.base_model}
    sections = [
        section_html(
            Section("figures", "Gate", (facts_table({**facts, **flat(record.metrics)}.items()),)),
            offer,
            commands(*what),
        ),
        section_html(Section("lineage", "Lineage", ()), _picture(trail, name, children, history.version)),
        section_html(_difference(record, known.get(str(record.parent_version)))),
        section_html(_examples(settings, record.tier, name, links)),
        section_html(
            Section("use", "In use", (Table("", ("when", "what", "why", "before it"), selections),)),
            "" if selections else "<p>It never was.</p>",
        ),
    ]
    return whole_page(f"Version {name}", f"{record.tier}, {record.status}", sections, links)


def _picture(line: Sequence[str], name: str, children: Sequence[str], used: str | None) -> str:
    """Return the versions in a row, from the base model by the ancestors to the children."""

    def box(version: str) -> str:
        marks = [word for word, holds in (("this one", version == name), ("in use", version == used)) if holds]
        return f"<li>{escape(version)} <small>{', '.join(marks)}</small></li>"

    first = [BASES[line_of(name)]] if line_of(name) in BASES else []
    return f'<ol class="lineage">{"".join(map(box, [*first, *line, *children]))}</ol>'


def _difference(record: Any, parent: Any) -> Section:
    if parent is None:
        return Section("diff", "Against its parent", (Note("It continues from no version."),))
    sides = [
        flat(one.model_dump(mode="json", include={"settings", "metrics", "base_model"})) for one in (parent, record)
    ]
    rows = tuple(
        (key, *(text(side.get(key)) for side in sides))
        for key in sorted({*sides[0], *sides[1]})
        if sides[0].get(key) != sides[1].get(key) and not isinstance(sides[1].get(key, sides[0].get(key)), list)
    )
    return Section("diff", "Against its parent", (Table("", ("what", parent.version, record.version), rows),))
