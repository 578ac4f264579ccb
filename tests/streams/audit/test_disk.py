"""What the data directory is said to hold."""

from __future__ import annotations

from pathlib import Path

from schemas.settings import Settings
from streams.audit.disk import look_at


def test_a_sparse_file_counts_with_what_it_takes_on_the_disk(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with (state / "hollow").open("wb") as file:
        file.truncate(1 << 30)
    (state / "full").write_bytes(b"x" * 4096)
    [found] = look_at(Settings(data_dir=str(tmp_path))).artefacts
    assert found.path == "state"
    assert 4096 <= found.size_bytes < 1 << 20
