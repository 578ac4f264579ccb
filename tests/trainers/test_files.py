"""How processes share a data directory: whole files, and numbers that only one of them gets."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from trainers.files import claim_number, is_temporary, temporary_path, write_atomically
from trainers.traces.store import TraceStore


def test_a_file_holds_what_was_written_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "of" / "mine"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_content_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_those_who_write_at_once_under_one_process_id_do_not_mix(tmp_path: Path) -> None:
    """As containers that share a folder do, where each worker is process 1."""
    path, contents = tmp_path / "in-use.json", [bytes([65 + n]) * 50_000 for n in range(4)]

    def write(content: bytes) -> set[bytes]:
        seen = set()
        for _ in range(10):
            write_atomically(path, content)
            seen.add(path.read_bytes())
        return seen

    with ThreadPoolExecutor(4) as pool:
        seen = set().union(*pool.map(write, contents))
    assert seen <= set(contents)
    assert list(tmp_path.iterdir()) == [path]


def test_temporary_files_are_known_by_their_name(tmp_path: Path) -> None:
    assert is_temporary(temporary_path(tmp_path / "a.json"))
    assert not is_temporary(tmp_path / "a.json")
    assert temporary_path(tmp_path / "a") != temporary_path(tmp_path / "a")


def test_numbers_go_on_where_they_ended_whatever_else_is_there(tmp_path: Path) -> None:
    for name in ("epoch-2", "epoch-10", "epoch-x", "epoch-11.txt", "other-99"):
        (tmp_path / name).touch()
    assert claim_number(tmp_path, "epoch-{}") == (11, tmp_path / "epoch-11")
    assert claim_number(tmp_path / "new", "traces-3-{}.jsonl") == (1, tmp_path / "new" / "traces-3-1.jsonl")


def test_a_number_that_another_takes_in_the_last_moment_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, rivals = os.open, iter([1, 2])

    def late(path: Path, *arguments: int) -> int:
        if number := next(rivals, None):
            (tmp_path / f"epoch-{number}").write_text("a rival's")
        return create(path, *arguments)

    monkeypatch.setattr("os.open", late)
    assert claim_number(tmp_path, "epoch-{}")[0] == 3
    assert [(tmp_path / f"epoch-{n}").read_text() for n in (1, 2)] == ["a rival's", "a rival's"]


def test_claimants_that_race_get_different_numbers(tmp_path: Path) -> None:
    rivals, rounds = 4, 15
    barrier = Barrier(rivals)

    def claim(_: int) -> list[int]:
        numbers = []
        for _ in range(rounds):
            barrier.wait()
            numbers.append(claim_number(tmp_path, "epoch-{}")[0])
        return numbers

    with ThreadPoolExecutor(rivals) as pool:
        claimed = [number for numbers in pool.map(claim, range(rivals)) for number in numbers]
    assert sorted(claimed) == list(range(1, rivals * rounds + 1))


def test_writers_that_race_for_a_partition_of_traces_get_files_of_their_own(tmp_path: Path) -> None:
    barrier = Barrier(2)

    def claim(_: int) -> list[str]:
        names = []
        for _ in range(8):
            barrier.wait()
            writer = TraceStore(tmp_path).open_writer(0)
            names.append(str(writer.path))
            writer.close()
        return names

    with ThreadPoolExecutor(2) as pool:
        claimed = [name for names in pool.map(claim, range(2)) for name in names]
    assert len(claimed) == len(set(claimed)) == 16
