"""The day that a deployment remembers, and the charts of it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from streams.state.history import FOLDER, KEPT_SECONDS, History
from streams.worker.charts import CHARTS, MOST_POINTS, draw, draw_history, lines_of, sample_of

NOW = 1_000_000.0


def test_samples_come_back_in_order_and_those_of_the_day_before_do_not(tmp_path: Path) -> None:
    history, now = History(tmp_path), time.time()
    assert history.read() == []
    for age in (KEPT_SECONDS + 5, 7200.0, 30.0, 3600.0):
        history.append({"at": now - age, "lag": {"join": age}})
    assert [round(now - sample["at"]) for sample in history.read()] == [7200, 3600, 30]
    assert [sample["lag"]["join"] for sample in history.read(1000)] == [30.0]


def test_a_line_that_a_crash_has_cut_is_left_out(tmp_path: Path) -> None:
    history, now = History(tmp_path), time.time()
    history.append({"at": now - 1})
    [path] = (tmp_path / FOLDER).iterdir()
    path.write_bytes(path.read_bytes() + b'{"at": 12\n[]\n{"no": 1}\n')
    history.append({"at": now})
    assert [sample["at"] for sample in history.read()] == [now - 1, now]


def test_files_of_more_than_a_day_go(tmp_path: Path) -> None:
    history, now = History(tmp_path), time.time()
    for hours in range(40, -1, -1):
        history.append({"at": now - 3600 * hours})
    assert len(list((tmp_path / FOLDER).iterdir())) == 26
    assert len(history.read()) in (24, 25)


def lag(role: str, topic: str, partition: int, end: int, waits: int, seconds: float) -> dict[str, Any]:
    return {
        "group": f"app-{role}",
        "topic": f"p-{topic}",
        "partition": partition,
        "committed": end - waits,
        "end": end,
        "lag": waits,
        "lag_seconds": seconds,
    }


def test_a_sample_has_every_chart_of_the_account() -> None:
    rows = [
        lag("join", "feedback", 0, 7, 2, 3.0),
        lag("join", "feedback", 1, 5, 1, 9.0),
        lag("pairs", "answers", 0, 4, 0, 0.0),
    ]
    account = {
        "at": NOW,
        "scorer": {
            "progressive_accuracy": 0.7,
            "held_out_accuracy": 0.6,
            "learned_accuracy": 0.9,
            "validation_loss": 0.2,
        },
        "latency": {"p50": 0.012, "p99": 0.08},
        "observed": {"lag": rows, "drift": {"rewards": {"user": 0.25}}},
    }
    assert sample_of(account) == {
        "at": NOW,
        "accuracy": {"progressive": 0.7, "learned": 0.9, "held_out": 0.6},
        "loss": {"validation": 0.2},
        "latency": {"p50": 12.0, "p99": 80.0},
        "reward": {"user": 0.25},
        "arrived": {"feedback": 12},
        "lag": {"join": 3, "pairs": 0},
        "wait": {"join": 9.0, "pairs": 0.0},
    }


def test_an_account_that_tells_of_nothing_is_a_sample_all_the_same() -> None:
    nothing = sample_of({"at": NOW, "scorer": None, "latency": None, "observed": None})
    assert nothing["accuracy"] == {"progressive": None, "learned": None, "held_out": None}
    assert nothing["lag"] == {}
    assert [lines_of(name, [nothing]) for name in CHARTS] == [{}] * len(CHARTS)


def test_a_day_is_thinned_to_the_means_of_spans() -> None:
    samples = [{"at": NOW + 10 * n, "loss": {"validation": float(n % 2)}} for n in range(8640)]
    [line] = lines_of("loss", samples).values()
    assert MOST_POINTS / 2 < len(line) <= MOST_POINTS + 1
    assert all(value is not None and 0.4 < value < 0.6 for _, value in line[:-1])


def test_a_line_breaks_where_nothing_was_sampled() -> None:
    samples = [{"at": NOW + at, "loss": {"validation": 1.0}} for at in (0, 10, 20, 500, 510)]
    assert [value for _, value in lines_of("loss", samples)["validation"]] == [1.0, 1.0, 1.0, None, 1.0, 1.0]


def test_counts_are_shown_as_their_growth_in_a_second_and_not_where_they_begin_anew() -> None:
    samples = [{"at": NOW + 10 * n, "arrived": {"feedback": count}} for n, count in enumerate((100, 150, 150, 3, 23))]
    assert [value for _, value in lines_of("arrived", samples)["feedback"]] == [5.0, 0.0, 2.0]


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_is_drawn_with_axes_a_legend_and_a_line_a_series(name: str) -> None:
    samples = [{"at": NOW + 60 * n, name: {"one_of": n, "two": 2 * n}} for n in range(20)]
    svg = ElementTree.fromstring(draw_history(name, samples))
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in svg.iter(f"{space}text")]
    assert {CHARTS[name].title, "one-of", "two"} <= set(texts)
    assert len(list(svg.iter(f"{space}path"))) == 2
    assert len([group for group in svg.iter(f"{space}g") if group.get("class") == "tick"]) >= 6
    assert any(text and text[2:3] == ":" for text in texts), "times of day"


def test_without_any_value_a_chart_says_so() -> None:
    assert "nothing was measured yet" in draw_history("loss", [])
    assert "nothing was measured yet" in draw("x", {"a": [(1.0, None)]})
    assert "one sample so far" in draw("x", {"a": [(1.0, 2.0)], "b": [(1.0, 3.0)]})
    assert "nothing was measured yet" not in draw("x", {"a": [(1.0, 0.0), (2.0, 0.0)]}, over_time=False)


def test_charts_of_one_look_share_their_axis_of_time() -> None:
    samples = [{"at": NOW + 10 * n, "loss": {"validation": 0.1}, "lag": {"join": 1.0}} for n in range(20)]
    for sample in samples[5:]:
        del sample["lag"]
    names = [re.findall(r">(\d\d:\d\d:\d\d)<", draw_history(name, samples)) for name in ("loss", "lag")]
    assert len(names[0]) >= 4
    assert names[0] == names[1]
