"""Lines of progress are told from other lines, and whole lines from torn ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.training.log import LogTail, Progress, describe, last_words, parse_progress


@pytest.mark.parametrize("line", [b"", b"epoch 1", b"[1]", b'{"progress": "half"}', b"\xff", b'{"metrics": {}}'])
def test_other_lines_of_the_log_are_no_progress(line: bytes) -> None:
    assert parse_progress(line) is None


def test_tail_waits_for_whole_lines_and_takes_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text('{"progress": 0.9}\n')
    tail = LogTail(path)
    assert tail.newest_progress() is None
    with path.open("a") as file:
        file.write('{"progress": 0.1}\n{"progress": 0.2}\nnoise\n{"progress": 0.')
    assert tail.newest_progress() == Progress(0.2)
    with path.open("a") as file:
        file.write('3}\n{"progress": 7}\n')
    assert tail.newest_progress() == Progress(1.0)


def test_tail_of_a_log_that_is_not_there_yet_has_no_lines(tmp_path: Path) -> None:
    tail = LogTail(tmp_path / "log.txt")
    assert tail.new_lines() == []
    (tmp_path / "log.txt").write_text("one\ntwo")
    assert tail.new_lines() == [b"one"]


def test_last_words_are_no_progress_and_no_heading(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    assert last_words(path) is None
    path.write_text('--- attempt 1 at noon: x\n{"progress": 0.1}\n')
    assert last_words(path) is None
    path.write_text('--- attempt 1 at noon: x\nTraceback\nMemoryError: no room\n\n{"progress": 0.1}\n')
    assert last_words(path) == "MemoryError: no room"


def test_figures_are_said_as_far_as_they_are_there() -> None:
    assert describe({}) == ""
    assert describe({"stage": "train", "step": 3, "steps": 8, "loss": 0.693147}) == "train, step 3/8, loss 0.6931"
    assert describe({"step": 3, "loss": None}) == "step 3"


def test_last_words_are_those_of_the_newest_attempt(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("--- attempt 1 at noon: x\nMemoryError\n--- attempt 2 at one: x\n")
    assert last_words(path) is None
