"""docs/imports.md run as it stands: a format of one's own is installed as a package, recognised and imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from streams.imports.registry import formats
from tests.docs.test_guides import DOCS, FENCE, commands
from tests.docs.test_serving_guide import as_it_stands

GUIDE = (DOCS / "imports.md").read_text()


def test_a_format_of_ones_own_is_installed_and_imported_as_the_guide_says(tmp_path: Path) -> None:
    site = tmp_path / "site"
    environment = {
        **os.environ,
        "DOCS": str(DOCS),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{site}{os.pathsep}{DOCS.parent}",
        # What is here is used, and nothing is fetched or installed beside the tests' own packages.
        "PIP_TARGET": str(site),
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    ran = 0
    for language, body in FENCE.findall(GUIDE):
        for command, expected, code in commands(body) if language == "console" else ():
            as_it_stands(command, expected, code, environment, tmp_path)
            ran += 1
    assert ran == 5


def test_the_guide_names_every_format() -> None:
    assert [name for name in formats() if f"| `{name}` |" not in GUIDE] == []
