"""A disk that takes nothing is told in one line with the remedy, by commands and by a worker that ends over it."""

from __future__ import annotations

import logging
import os
from errno import EACCES, EIO, ENOSPC, EROFS

import pytest

from schemas.errors import disk_failure
from streams.cli.main import cli, main
from streams.worker import role_app


def full(name: str | None = None) -> OSError:
    return OSError(ENOSPC, os.strerror(ENOSPC), name)


@pytest.mark.parametrize("number", [ENOSPC, EROFS, EIO])
def test_the_line_names_reason_file_and_remedy(number: int) -> None:
    line = disk_failure(OSError(number, os.strerror(number), "/data/x"))
    assert line is not None
    assert line.startswith(f"{os.strerror(number)} (/data/x); ")
    assert "data_dir" in line


@pytest.mark.parametrize("error", [ValueError("x"), OSError(EACCES, "no"), OSError("plain")])
def test_anything_else_is_no_disk_failure(error: BaseException) -> None:
    assert disk_failure(error) is None


def test_a_command_on_a_full_disk_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(*_: object) -> None:
        raise full("/data/jobs/x")

    monkeypatch.setattr(cli, "main", lambda *a, **k: write())
    with pytest.raises(SystemExit) as ended:
        main(["trainer"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "error: No space left on device (/data/jobs/x); free room where data_dir and state_dir are\n"
    )


def test_a_worker_ends_unacknowledged_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(role_app.os, "_exit", codes.append)
    monkeypatch.setattr(role_app.logging, "shutdown", lambda: None)
    with caplog.at_level(logging.CRITICAL):
        role_app.crash_without_ack("store-traces on claude-traces[2]", full())
    [record] = caplog.records
    assert codes == [role_app.EXIT_UNRECOVERABLE]
    assert record.exc_info is None
    assert "store-traces on claude-traces[2] failed" in record.getMessage()
    assert record.getMessage().endswith(": No space left on device; free room where data_dir and state_dir are")
