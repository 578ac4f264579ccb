"""A value of a settings file is changed in place, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.config import load
from schemas.settings_file import changed_file


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "[scorer]\nrank = 8\n"),
        ("[scorer] # one\nrank=4 # two\n\n[web]\nport = 1\n", "[scorer] # one\nrank=8 # two\n\n[web]\nport = 1\n"),
        ("[web]\nport = 1\n", "[web]\nport = 1\n\n[scorer]\nrank = 8\n"),
        ("[scorer]\nseed = 3\n[web]\nport = 1\n", "[scorer]\nseed = 3\nrank = 8\n[web]\nport = 1\n"),
        ("# rank = 2\n[pairs]\nthreshold = 5\n[scorer]\n", "# rank = 2\n[pairs]\nthreshold = 5\n[scorer]\nrank = 8\n"),
    ],
)
def test_the_value_is_changed_and_nothing_else(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(before)
    assert changed_file(load(path, {}, {}), {"scorer.rank": 8}) == (path, after)
    path.write_text(after)
    assert load(path, {}, {}).settings.scorer.rank == 8


def test_text_and_nested_sections_are_written_as_toml(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text("[jobs]\nbase_model = 'a#b'\n")
    _, text = changed_file(load(path, {}, {}), {"jobs.base_model": 'c"d', "jobs.dpo.lora_rank": 4})
    assert text == '[jobs]\nbase_model = "c\\"d"\n\n[jobs.dpo]\nlora_rank = 4\n'


def test_every_form_of_a_value_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    forms = (
        ("scorer.rank = 4\n", "scorer.rank = 8\n"),
        ("[scorer]\nrank = 0x4\n", "[scorer]\nrank = 8\n"),
        ("scorer = { rank = 4 } # one\n", "scorer = { rank = 8 } # one\n"),
    )
    for before, after in forms:
        path.write_text(before)
        assert changed_file(load(path, {}, {}), {"scorer.rank": 8}) == (path, after)
        assert path.read_text() == before
