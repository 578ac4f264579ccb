"""The pause switch is a file, so that it outlives every process."""

from __future__ import annotations

from pathlib import Path

from trainers.scorer.pause import PAUSED, LearningPause


def test_pause_holds_for_everyone_until_it_is_lifted(tmp_path: Path) -> None:
    one, other = LearningPause(tmp_path), LearningPause(str(tmp_path))
    assert (other.is_on, other.since()) == (False, None)
    assert one.pause()
    since = other.since()
    assert since is not None
    assert not other.pause()
    assert one.since() == since
    assert other.resume()
    assert not one.is_on
    assert not one.resume()


def test_damaged_file_still_means_paused(tmp_path: Path) -> None:
    switch = LearningPause(tmp_path)
    switch.pause()
    (tmp_path / "scorer" / PAUSED).write_text("{")
    assert (switch.is_on, switch.since()) == (True, "an unknown time")
