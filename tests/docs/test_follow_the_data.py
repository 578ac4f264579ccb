"""The paths of docs/architecture.md: functions that are there, each file once, six files at most."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| (Experience|Feedback|Trace|TrainingJob) \| (.*) \|$", PAGE, re.MULTILINE))


def functions(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{one.name}"
                for one in node.body
                if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
    return found


@pytest.mark.parametrize("event", ["Experience", "Feedback", "Trace", "TrainingJob"])
def test_each_step_is_a_function_and_each_file_is_visited_once(event: str) -> None:
    steps = re.findall(r"`([\w/]+\.py):([\w.]+)`", ROWS[event])
    files = [file for file, _ in steps]
    assert len(files) == len(set(files)) <= 6
    for file, function in steps:
        assert function in functions(ROOT / file), f"{file}:{function}"
