"""Charts over time, as SVG made here: what each shows of a deployment's account, and how it is drawn. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import leather

from streams.topics import EXPERIENCES, FEEDBACK, TRACES

WIDTH, HEIGHT = 480, 230
"""In the SVG's own units; it is as wide as there is room."""
MOST_POINTS = 200
MINUTES_FROM = 240.0
"""Over more seconds, times of day are told to the minute."""
GAP_SECONDS = 60.0
"""A line is broken where nothing was sampled for so long, or for three points."""

Series = Mapping[str, float | None]
Lines = Mapping[str, Sequence[tuple[float, float | None]]]
"""By name: places (epoch seconds, or steps) and values."""

_LAST_LABEL = 16
"""Room for the last time of day, which reaches out to the right."""
_COLOURS = ("#2563a8", "#c2410c", "#1d7f4e", "#8b5cf6", "#b08900")
STYLE = (
    "<style>text{font-family:system-ui,sans-serif;fill:#5c6b7a}svg>g>rect{fill:none}.tick line{stroke:#dfe5ea}"
    "@media(prefers-color-scheme:dark){text{fill:#9aa8b5}.tick line{stroke:#2b3742}}</style>"
)


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart of the page."""

    title: str
    of: Callable[[Mapping[str, Any]], Series]
    """What it shows of an account at one moment."""
    top: float | None = None
    """Highest value, where that is known."""
    is_rate: bool = False
    """Whether the values are counts, of which the growth in a second is shown."""


def _of_scorer(**names: str) -> Callable[[Mapping[str, Any]], Series]:
    return lambda account: {name: (account.get("scorer") or {}).get(key) for name, key in names.items()}


def _latency(account: Mapping[str, Any]) -> Series:
    return {name: 1000 * value for name, value in (account.get("latency") or {}).items()}


def _rewards(account: Mapping[str, Any]) -> Series:
    rewards: Series = ((account.get("observed") or {}).get("drift") or {}).get("rewards") or {}
    return rewards


def _of_lag(name: str, together: Callable[[Iterable[float]], float]) -> Callable[[Mapping[str, Any]], Series]:
    def of(account: Mapping[str, Any]) -> Series:
        by_role: dict[str, list[float]] = {}
        for row in (account.get("observed") or {}).get("lag") or ():
            by_role.setdefault(row["group"].rpartition("-")[2], []).append(row[name])
        return {role: together(values) for role, values in by_role.items()}

    return of


def _arrived(account: Mapping[str, Any]) -> Series:
    ends: dict[str, dict[int, int]] = {}
    for row in (account.get("observed") or {}).get("lag") or ():
        for topic in (EXPERIENCES, FEEDBACK, TRACES):
            if row["topic"].endswith(topic):
                ends.setdefault(topic, {})[row["partition"]] = row["end"]
    return {topic: sum(of.values()) for topic, of in ends.items()}


CHARTS: Mapping[str, Chart] = {
    "accuracy": Chart(
        "Accuracy, share of pairs in the right order",
        _of_scorer(progressive="progressive_accuracy", learned="learned_accuracy", held_out="held_out_accuracy"),
        top=1.0,
    ),
    "loss": Chart("Validation loss", _of_scorer(validation="validation_loss")),
    "latency": Chart("Feedback to score, milliseconds", _latency),
    "reward": Chart("Reward by source, mean of the newest 200", _rewards, top=1.0),
    "arrived": Chart("Events arrived, a second", _arrived, is_rate=True),
    "lag": Chart("Lag, records that wait", _of_lag("lag", sum)),
    "wait": Chart(
        "Lag, age of the oldest that waits, seconds", _of_lag("lag_seconds", lambda of: max(of, default=0.0))
    ),
}


def sample_of(account: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the history keeps of an account, by chart and series."""
    return {"at": account["at"], **{name: dict(chart.of(account)) for name, chart in CHARTS.items()}}


def lines_of(name: str, samples: Sequence[Mapping[str, Any]]) -> Lines:
    """Return a chart's series over time, thinned to `MOST_POINTS`: the mean of each span, None where a line breaks."""
    if not samples:
        return {}
    chart, first = CHARTS[name], samples[0]["at"]
    step = max((samples[-1]["at"] - first) / MOST_POINTS, 1.0)
    spans: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for sample in samples:
        for series, value in (sample.get(name) or {}).items():
            if value is not None and math.isfinite(value):
                place = int((sample["at"] - first) / step)
                spans.setdefault(series, {}).setdefault(place, []).append((sample["at"], value))
    means = {series: [_mean(points) for points in of.values()] for series, of in spans.items()}
    if chart.is_rate:
        means = {series: _growth(points) for series, points in means.items()}
    return {series.replace("_", "-"): _broken(points, max(GAP_SECONDS, 3 * step)) for series, points in means.items()}


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(at for at, _ in points) / len(points), sum(value for _, value in points) / len(points)


def _growth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the growth in a second; where a count is less than before, its topic was made anew."""
    pairs = pairwise(points)
    return [(at, (value - was) / (at - then)) for (then, was), (at, value) in pairs if at > then and value >= was]


def _broken(points: Sequence[tuple[float, float]], gap: float) -> list[tuple[float, float | None]]:
    found: list[tuple[float, float | None]] = []
    for at, value in points:
        if found and at - found[-1][0] > gap:
            found.append((at - 1.0, None))
        found.append((at, value))
    return found


def draw(
    title: str,
    lines: Lines,
    *,
    top: float | None = None,
    over_time: bool = True,
    within: tuple[float, float] | None = None,
) -> str:
    """Return a chart as SVG with axes, ticks and a legend.

    Args:
        title: what it shows, with the unit.
        lines: what is drawn; values that are None break a line.
        top: highest value of the axis, where that is known.
        over_time: whether places are epoch seconds; steps otherwise.
        within: first and last place of the axis, so that charts can be laid beside one another; those drawn otherwise.
    """
    values = [value for points in lines.values() for _, value in points if value is not None]
    places = {at for points in lines.values() for at, value in points if value is not None}
    if len(places) < 2:
        return _empty(title, "one sample so far" if places else "nothing was measured yet")
    chart = leather.Chart(title)
    chart.add_y_scale(min(0.0, *values), max(top if top is not None else 0.0, *values) or 1.0)
    for (name, points), colour in zip(lines.items(), _COLOURS, strict=False):
        placed = [(_time(at) if over_time else at, value) for at, value in points]
        chart.add_line(placed, name=name, stroke_color=colour)
    if over_time:
        first, last = within or (min(places), max(places))
        clock = "%H:%M" if last - first > MINUTES_FROM else "%H:%M:%S"
        chart.add_x_scale(_time(first), _time(last))
        chart.add_x_axis(tick_formatter=lambda at, *_: at.strftime(clock))
    svg: str = chart.to_svg(width=WIDTH, height=HEIGHT)
    return svg.replace(
        f'width="{WIDTH}" height="{HEIGHT}"', f'viewBox="0 0 {WIDTH + _LAST_LABEL} {HEIGHT}"', 1
    ).replace(">", f">{STYLE}", 1)


def _time(at: float) -> datetime:
    """Return the time in UTC, without saying so: leather compares it with times of its own that do not."""
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None)


def draw_history(name: str, samples: Sequence[Mapping[str, Any]]) -> str:
    """Return the chart of `CHARTS` with that name."""
    chart = CHARTS[name]
    within = (samples[0]["at"], samples[-1]["at"]) if samples else None
    return draw(chart.title, lines_of(name, samples), top=chart.top, within=within)


def _empty(title: str, why: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" xmlns="http://www.w3.org/2000/svg">{STYLE}'
        f'<text x="24" y="34">{title}</text><text x="24" y="70">{why}</text></svg>'
    )
