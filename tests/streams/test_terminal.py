"""No text that others wrote controls a terminal, whatever prints it."""

from __future__ import annotations

import ast
import importlib
import io
import json
import logging
import re
import sys
from pathlib import Path

import click
import pytest
from rich.table import Table

from streams.terminal import Console, neutral, neutral_terminal

TITLE = "\x1b]0;title\x07"
CLIPBOARD = "\x1b]52;c;ZXZpbA==\x1b\\"
HOSTILE = f"{TITLE}{CLIPBOARD}\x1bc\x9b31m\u202edlrow\ud800"
SHOWN = "\\u001b]0;title\\u0007\\u001b]52;c;ZXZpbA==\\u001b\\\\u001bc\\u009b31m\\u202edlrow\\ud800"
STREAMS = Path(__file__).parents[2] / "streams"


def test_control_characters_are_spelled_out_and_all_else_stays() -> None:
    assert neutral(HOSTILE) == SHOWN
    plain = "Größe 10\u00a0km²\t日本語 👩\u200d🔧\nnext line"
    assert neutral(plain) == plain
    assert json.loads(neutral(json.dumps("\x7f\x1b", ensure_ascii=False))) == "\x7f\x1b"


def test_whatever_prints_in_a_command_prints_neutral_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def hostile() -> None:
        click.echo(HOSTILE)
        print(HOSTILE, file=sys.stderr)
        sys.stdout.writelines([HOSTILE, "\n"])
        log = logging.getLogger("hostile")
        log.propagate = False  # half of a character cannot be told from one process of the tests to another
        log.addHandler(logging.StreamHandler())
        log.warning("%s", HOSTILE)
        raise click.ClickException(HOSTILE)

    command_line = importlib.import_module("streams.cli.main")
    monkeypatch.setattr(command_line, "cli", hostile)
    with pytest.raises(SystemExit) as ended:
        command_line.main([])
    assert ended.value.code == 1
    told = capsys.readouterr()
    assert told.out == f"{SHOWN}\n{SHOWN}\n"
    assert told.err == f"{SHOWN}\n{SHOWN}\nerror: {SHOWN}\n"


def test_a_console_keeps_its_own_styles_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    with neutral_terminal():
        console = Console(force_terminal=True, color_system="standard", width=200, highlight=False)
        table = Table("id", box=None)
        table.add_row(HOSTILE, style="red")
        console.print(table)
        console.print(HOSTILE, markup=False)
    written = shown.getvalue()
    assert "\x1b[31m" in written
    assert SHOWN.replace("\\u0007", "") in written  # Rich takes a bell out itself
    assert re.findall("\x1b(?!\\[[0-9;]*m)", written) == []
    assert not {"\x07", "\x9b", "\u202e", "\ud800"} & set(written)


def test_nothing_of_the_stream_makes_a_console_of_another_kind() -> None:
    imports = [
        path.name
        for path in STREAMS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "rich.console"
    ]
    assert imports == []
