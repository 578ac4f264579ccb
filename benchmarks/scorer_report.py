"""The scorer's figures as Markdown tables, and the learning curves as a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

matplotlib.use("Agg")
from matplotlib import pyplot

from benchmarks.machine import in_words

MOST_NAMED = 10
"""Queries that are named one by one."""


def report(found: Mapping[str, Any]) -> str:
    """Return the tables of the parts that were measured."""
    parts: dict[str, Callable[[Any], Iterator[str]]] = {
        "home_assistant": _learning,
        "hh_rlhf": _learning,
        "room": _room,
        "speed": _speed,
        "growth": _growth,
    }
    lines = [line for name, write in parts.items() if name in found for line in (*write(found[name]), "")]
    return "\n".join([*lines, f"Machine: {in_words(found['machine'])}."])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|---" + "|---:" * (len(head) - 1) + "|",
        *("| " + " | ".join(r) + " |" for r in rows),
    ]


def _row(name: str, of: Mapping[str, Any], over: str) -> list[str]:
    return [name, f"{of['accuracy']:.3f}", over, " ".join(f"{value:.2f}" for value in of["folds"])]


def _learning(of: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {of['data']}: within-query accuracy over {of['queries']} queries in 5 folds, one online pass"
    yield ""
    rows = [
        _row(name, one, "-" if one["over_seeds"] is None else f"{one['over_seeds']:.3f} ({one['seeds']})")
        for name, one in of["scorer"].items()
    ]
    rows += [_row(f"{name}, learning rate {one['learning_rate']}", one, "-") for name, one in of["others"].items()]
    yield from _table(("learner", "accuracy", "deviation over seeds", "folds"), rows)
    yield ""
    rows = [
        [name, f"{d['mean']:+.3f}", f"{d['low']:+.3f} to {d['high']:+.3f}"] for name, d in of["differences"].items()
    ]
    yield from _table(("paired difference over queries", "mean", "95 % interval"), rows)
    yield ""
    ceiling, lost = of["ceiling"]["accuracy"], of["ceiling"]["lost"]
    yield f"With the best learner of each query, chosen afterwards: {ceiling:.3f}. No learner is above a half on"
    yield f"{len(lost)} queries{': ' + '; '.join(lost) if len(lost) <= MOST_NAMED else ''}."
    yield ""
    shares = [f"{share:.0%}" for share in of["shares"]]
    rows = [[name, *(f"{value:.3f}" for value in values)] for name, values in of["curve"].items()]
    yield from _table(("after this share of the stream", *shares), rows)


def _room(of: Mapping[str, Any]) -> Iterator[str]:
    yield f"### Control room: hidden order of a plan's widgets, {of['plans']} plans never judged, {of['rooms']} rooms"
    yield ""
    rows = [["accuracy", *(f"{value:.3f}" for value in of["accuracy"])]]
    rows += [["deviation over rooms", *("-" if value is None else f"{value:.3f}" for value in of["over_rooms"])]]
    yield from _table(("judgements so far", *map(str, of["judgements"])), rows)


def _speed(of: Mapping[str, Any]) -> Iterator[str]:
    yield f"### Speed on one core (matrix product {of['matmul_gflops']:.0f} GFLOP/s)"
    yield ""
    rows = []
    for name, title in (("one_feedback_a_step", "one feedback a step"), ("saturated", "32 feedbacks a step")):
        one = of[name]
        step = one["step_us"]
        rows.append(
            [
                title,
                f"{step['p10']:.0f} / {step['p50']:.0f} / {step['p99']:.0f}",
                f"{one['floor_us']:.0f}",
                f"{one['pairs_per_second']:,.0f}",
                f"{one['feedbacks_per_second']:,.0f}",
            ]
        )
    yield from _table(("", "step, µs: p10 / p50 / p99", "matmul floor, µs", "pairs/s", "feedbacks/s"), rows)
    yield ""
    yield from _table(
        ("", "µs an item"),
        [
            ["scoring, inputs at hand", f"{of['score_one_item_us']:.1f}"],
            ["Vowpal Wabbit, learning (text in)", f"{of['vowpal_wabbit_us_per_item']:.0f}"],
            ["River, learning", f"{of['river_us_per_item']:.0f}"],
        ],
    )


def _growth(of: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "### Cost growth, 32 feedbacks a step"
    yield ""
    rows = [
        [
            f"{one['samples']:,}",
            f"{one['us_per_feedback']:.0f}",
            f"{one['rss_mib']:.0f}",
            f"{one['checkpoint_ms']:.0f}",
            f"{one['checkpoint_mib']:.1f}",
        ]
        for one in of
    ]
    yield from _table(("samples learned", "µs a feedback", "RSS, MiB", "checkpoint, ms", "checkpoint, MiB"), rows)


def draw_curves(found: Mapping[str, Any], path: Path) -> None:
    """Write the learning curves that were measured, side by side, as a small PNG."""
    drawn = (("home_assistant", _draw_learning), ("hh_rlhf", _draw_learning), ("room", _draw_room))
    parts = {name: draw for name, draw in drawn if name in found}
    figure, axes = pyplot.subplots(1, len(parts), figsize=(5.5 * len(parts), 5.2), squeeze=False, layout="constrained")
    for (name, draw), axis in zip(parts.items(), axes[0], strict=True):
        draw(axis, found[name])
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_learning(axis: Axes, of: Mapping[str, Any]) -> None:
    """Draw a line a learner, and a level for each of the others at the end of the stream."""
    shares = [100 * share for share in of["shares"]]
    for title, values in of["curve"].items():
        axis.plot(shares, values, marker="o", markersize=3, label=title)
    for (title, other), dashes in zip(of["others"].items(), cycle((":", "--", "-.", (0, (6, 1)))), strict=False):
        axis.axhline(other["accuracy"], linestyle=dashes, linewidth=1, color="grey", label=f"{title}, 100 %")
    axis.set(xlabel="share of the stream", ylabel="within-query accuracy", xscale="log")
    axis.set_xticks(shares, [f"{share:.0f} %" for share in shares])
    axis.minorticks_off()
    axis.set_title(f"{of['data']}, queries never learned", fontsize=9)
    axis.legend(fontsize=6, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))


def _draw_room(axis: Axes, of: Mapping[str, Any]) -> None:
    """Draw the mean over rooms, with one deviation over them to each side."""
    middle, spread = np.array(of["accuracy"]), np.array([value or 0.0 for value in of["over_rooms"]])
    axis.plot(of["judgements"], middle, marker="o", markersize=3)
    axis.fill_between(of["judgements"], middle - spread, middle + spread, alpha=0.15)
    axis.set(xlabel="judgements", ylabel="within-plan accuracy")
    axis.set_xscale("symlog", linthresh=10)
    axis.set_xticks(of["judgements"], [str(count) for count in of["judgements"]])
    axis.minorticks_off()
    axis.set_title(f"control room, plans never judged, {of['rooms']} rooms", fontsize=9)
