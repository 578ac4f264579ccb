"""The web server's token from a file, and the one that is made where there is none."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.errors import SettingsError
from schemas.settings import WebSettings
from streams.state.web_token import web_token


def test_a_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    web = WebSettings(token_file=str(tmp_path / "of" / "mine"))
    token = web_token(web)
    assert token == web_token(web)
    assert len(token or "") >= 43
    assert stat.S_IMODE((tmp_path / "of" / "mine").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "of").iterdir()] == ["mine"]
    assert web_token(WebSettings(token_file=str(tmp_path / "another"))) != token


def test_those_who_start_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100))
    monkeypatch.setattr("os.getpid", lambda: next(numbers))
    web = WebSettings(token_file=str(tmp_path / "token"))
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: web_token(web), range(8)))
    assert tokens == {(tmp_path / "token").read_text().strip()}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"web\.token_file = .* cannot be made: .*; name a file"):
        web_token(WebSettings(token_file=str(tmp_path / "file" / "token")))
