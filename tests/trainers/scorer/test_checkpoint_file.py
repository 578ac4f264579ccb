"""A checkpoint as reports see it."""

from pathlib import Path

from tests.trainers.scorer.making import SMALL, random_stream, run, scorer_after
from trainers.scorer.architecture import expected_parameters
from trainers.scorer.checkpoint import CheckpointStore
from trainers.scorer.checkpoint_file import newest_file


def test_report_describes_the_newest_readable_file_and_names_the_damaged_one(tmp_path: Path):
    fold, store = scorer_after(30), CheckpointStore(tmp_path, SMALL)
    good = store.save(fold.snapshot())
    run(fold, random_stream(1, 60)[30:], batch=10)
    bad = store.save(fold.snapshot())
    bad.write_bytes(bad.read_bytes()[:100])
    found, refused = newest_file(tmp_path)
    assert found is not None
    assert (found.path, found.meta["next_offset"], found.size_bytes) == (good, 4, good.stat().st_size)
    assert (found.rank, found.parameters) == (SMALL.rank, expected_parameters(SMALL.rank))
    assert refused == [bad.name]


def test_no_checkpoint_is_none(tmp_path: Path):
    assert newest_file(tmp_path) == (None, [])
