from __future__ import annotations

from benchmarks.report import markdown_table, table_lines

RUNS = {"true labels": {"pairs": 1852, "loss": 0.12345}, "shuffled labels": {"pairs": 7, "killed": [10, 2000]}}


def test_every_figure_of_any_run_is_one_line() -> None:
    assert table_lines(RUNS) == [
        ("pairs", ["1,852", "7"]),
        ("loss", ["0.123", "-"]),
        ("killed", ["-", "10, 2,000"]),
    ]


def test_markdown_has_a_column_a_run() -> None:
    assert markdown_table(RUNS).splitlines()[:3] == [
        "| figure | true labels | shuffled labels |",
        "|---|---:|---:|",
        "| pairs | 1,852 | 7 |",
    ]
