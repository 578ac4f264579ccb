from __future__ import annotations

import pytest

from benchmarks.peers.effects import Outcome
from benchmarks.peers.engines import BARE, ENGINES, FLOOR, GROUPS, OUR_JOIN, OURS, STREAMS, UNPAIRED
from benchmarks.peers.measure import Result
from benchmarks.peers.report import Found, figures, markdown, ratios, sections

MEMORY = GROUPS["memory"]


def results(*rates: float) -> list[Result]:
    return [
        Result(rate, 1 / rate, 2**20, 2 / rate, 0.75, {200.0: {"p50": 5.0, "p99": rate, "missing": 0}})
        for rate in rates
    ]


def test_ratios_are_taken_within_each_round() -> None:
    found = {OURS: results(100, 10, 400), BARE: results(200, 10, 1600), FLOOR: results(1000, 100, 4000)}
    assert ratios(found, MEMORY) == pytest.approx(
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
    assert ratios(found, MEMORY)[f"events/s, {OURS} / best peer (FastStream)"] == pytest.approx(100 / 60)


def tables(found: Found, outcomes: dict[str, Outcome] | None = None) -> str:
    return "\n".join(markdown(title, cells) for title, cells in sections(found, outcomes or {}, (200.0,)))


def test_the_table_gives_median_and_spread() -> None:
    text = tables({OURS: results(300, 100, 200)})
    cells = ["200 (100 to 300)", "0.005 (0.003 to 0.010)", "0.010 (0.007 to 0.020)", "75% (75% to 75%)", "1 (1 to 1)"]
    assert "| " + " | ".join(["Tierstream", *cells]) + " |" in text
    assert "5 (5 to 5) / 200 (100 to 300)" in text


def test_feedback_without_a_score_is_told() -> None:
    lost = Result(1.0, 0.1, 2**20, 0.2, 0.5, {200.0: {"p50": 1.0, "p99": 2.0, "missing": 3}})
    assert "3 missing" in tables({BARE: [lost]})


def test_each_group_has_its_ratios_to_its_own_best_peer() -> None:
    found = {
        OURS: results(100),
        BARE: results(400),
        "Bytewax, durable": results(50),
        "Quix Streams, durable": results(80),
    }
    assert ratios(found, GROUPS["durable"])[f"events/s, {OURS} / best peer (Quix Streams, durable)"] == 1.25
    given = figures(found, {})["ratios"]
    assert given["memory"][f"events/s, {OURS} / {BARE}"] == 0.25
    assert given["durable"][f"CPU, {OURS} / best peer (Quix Streams, durable)"] == 0.8
    assert set(given) == {"memory", "durable"}


def test_the_join_is_compared_with_the_join() -> None:
    found = {OUR_JOIN: results(100), STREAMS: results(200), OURS: results(1)}
    assert list(ratios(found, GROUPS["join"])) == [
        f"{of}, {OUR_JOIN} / best peer ({STREAMS})" for of in ("events/s", "CPU")
    ]


def test_what_kills_led_to_stands_in_the_table_of_its_group() -> None:
    outcome = Outcome(5_000, 3, lost=1, twice=2, forgotten=1_500, joined=3_999, to_join=4_000, deaths=1)
    text = tables({}, {"Bytewax, durable": outcome})
    assert "## With durable state: after SIGKILLs" in text
    assert "| Bytewax, durable | 3 | 5,000 | 1 | 2 | 1,500 | 3,999 of 4,000 | 1 |" in text
    assert figures({}, {"Bytewax, durable": outcome})["kills"]["Bytewax, durable"]["lost"] == 1


def test_figures_say_what_each_engine_guarantees() -> None:
    given = figures({name: results(1.0) for name in ENGINES}, {})["guarantees"]
    assert [name for name, engine in given.items() if engine["pairs"]] == [OURS]
    assert given[BARE]["state"] == "memory"
    assert "RocksDB" in given[f"{BARE}, durable"]["state"]


def test_every_engine_is_in_a_group() -> None:
    assert {name for group in GROUPS.values() for name in group.names} == set(ENGINES)
    assert UNPAIRED not in GROUPS["durable"].names
