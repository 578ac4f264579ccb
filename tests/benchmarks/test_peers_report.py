from __future__ import annotations

import pytest

from benchmarks.peers.engines import BARE, ENGINES, FLOOR, OURS
from benchmarks.peers.measure import Result
from benchmarks.peers.report import figures, markdown, ratios


def results(*rates: float) -> list[Result]:
    return [
        Result(rate, 1 / rate, 2**20, 2 / rate, 0.75, {200.0: {"p50": 5.0, "p99": rate, "missing": 0}})
        for rate in rates
    ]


def test_ratios_are_taken_within_each_round() -> None:
    found = {OURS: results(100, 10, 400), BARE: results(200, 10, 1600), FLOOR: results(1000, 100, 4000)}
    assert ratios(found) == pytest.approx(
        {
            f"events/s, {OURS} / best peer ({BARE})": 0.5,
            f"events/s, {OURS} / {BARE}": 0.5,
            f"events/s, {OURS} / {FLOOR}": 0.1,
            f"CPU, {OURS} / best peer ({BARE})": 2.0,
            f"CPU, {OURS} / {BARE}": 2.0,
            f"CPU, {OURS} / {FLOOR}": 10.0,
        }
    )


def test_the_best_peer_is_the_one_with_the_highest_median() -> None:
    found = {OURS: results(100, 100, 100), BARE: results(10, 20, 900), "FastStream": results(50, 60, 70)}
    assert ratios(found)[f"events/s, {OURS} / best peer (FastStream)"] == pytest.approx(100 / 60)


def test_the_table_gives_median_and_spread() -> None:
    text = markdown({OURS: results(300, 100, 200)}, (200.0,))
    cells = ["200 (100 to 300)", "0.005 (0.003 to 0.010)", "0.010 (0.007 to 0.020)", "75% (75% to 75%)", "1 (1 to 1)"]
    assert "| " + " | ".join(["Tierstream", *cells]) + " |" in text
    assert "5 (5 to 5) / 200 (100 to 300)" in text


def test_feedback_without_a_score_is_told() -> None:
    lost = Result(1.0, 0.1, 2**20, 0.2, 0.5, {200.0: {"p50": 1.0, "p99": 2.0, "missing": 3}})
    assert "3 missing" in markdown({BARE: [lost]}, (200.0,))


def test_figures_say_what_each_engine_guarantees() -> None:
    given = figures({name: results(1.0) for name in ENGINES})["guarantees"]
    assert [name for name, engine in given.items() if engine["pairs"]] == [OURS]
    assert given[BARE]["state"] == "memory"
