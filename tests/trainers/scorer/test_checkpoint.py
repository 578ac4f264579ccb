import json
from pathlib import Path

import pytest
import safetensors.numpy

from schemas.errors import ArchitectureMismatchError
from schemas.settings import ScorerSettings
from tests.trainers.scorer.making import SMALL, random_stream, run, scorer_after
from trainers.features import layout_hash
from trainers.scorer.checkpoint import CheckpointStore, check_start, version_name_of
from trainers.scorer.fold import ScorerFold
from trainers.scorer.reading import BEFORE, FORM, checkpoints_of_before, encode


def start_with(data_dir: Path, settings: ScorerSettings) -> None:
    """Look at the newest checkpoint as a scorer that starts does."""
    snapshot = CheckpointStore(data_dir / "scorer", settings).load()
    assert snapshot is not None
    check_start(snapshot, data_dir, settings)


def test_saved_state_comes_back_whole(tmp_path: Path):
    fold, store = scorer_after(60), CheckpointStore(tmp_path, SMALL)
    fold.epoch, fold.base, fold.changes = 3, "scorer-x", 2
    fold.paused_since, fold.refused = 1700000000.5, ("scorer-y", "it is of rank 8")
    store.save(fold.snapshot())
    found = CheckpointStore(tmp_path, SMALL).load()
    assert found is not None
    assert (found.epoch, found.base, found.step, found.next_offset) == (3, "scorer-x", fold.learner.step, 7)
    other = ScorerFold.restored(found)
    assert other.learner.weights_hash() == fold.learner.weights_hash() == found.meta["weights_hash"]
    assert without_process(other) == without_process(fold)
    assert (other.learning, other.changes) == (fold.learning, 2)
    assert (other.paused_since, other.refused) == (1700000000.5, ("scorer-y", "it is of rank 8"))
    applied, found_again = fold.learner.origins.arrays(), other.learner.origins.arrays()
    assert {name: bits.tobytes() for name, bits in found_again.items()} == {
        name: bits.tobytes() for name, bits in applied.items()
    }
    assert applied


def without_process(fold: ScorerFold) -> dict[str, object]:
    return {**fold.status(), "process": None}


def test_no_checkpoint_is_none(tmp_path: Path):
    assert CheckpointStore(tmp_path, SMALL).load() is None


def test_a_checkpoint_is_named_by_its_offset_in_the_log_the_furthest_wins_and_old_ones_go(tmp_path: Path):
    store, fold = CheckpointStore(tmp_path, SMALL), scorer_after(30)
    snapshots = [fold.snapshot()]
    for start in range(30, 120, 30):
        run(fold, random_stream(1, start + 30)[start:], batch=10)
        snapshots.append(fold.snapshot())
    for snapshot in (snapshots[3], *snapshots[:3]):
        path = store.save(snapshot)
        assert path.name == f"scorer-{snapshot.next_offset:012d}.safetensors"
    kept = [f"scorer-{offset:012d}.safetensors" for offset in (7, 10, 13)]
    assert SMALL.checkpoints_kept == 3
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == kept
    found = CheckpointStore(tmp_path, SMALL).load()
    assert found is not None
    assert found.next_offset == 13


def test_a_file_says_the_same_whoever_wrote_it(tmp_path: Path):
    one, other = CheckpointStore(tmp_path / "one", SMALL), CheckpointStore(tmp_path / "other", SMALL)
    snapshots = [scorer_after(50).snapshot() for _ in range(2)]
    found = [store.save(snapshot) for store, snapshot in zip((one, other), snapshots, strict=True)]
    assert found[0].name == found[1].name
    assert [found[0].stat().st_size] * 2 == [path.stat().st_size for path in found]
    assert snapshots[0].meta == snapshots[1].meta
    assert all(array.tobytes() == snapshots[1].arrays[name].tobytes() for name, array in snapshots[0].arrays.items())


def test_checkpoints_of_the_release_before_are_not_taken_for_ones_of_this(tmp_path: Path):
    store = CheckpointStore(tmp_path, SMALL)
    path = store.save(scorer_after(20).snapshot())
    old = path.with_name("scorer-00000003-000000000017.safetensors")
    path.rename(old)
    assert store.load() is None
    assert checkpoints_of_before(tmp_path / "checkpoints") == [old]
    assert BEFORE < FORM


def test_an_architecture_has_a_name_of_its_own():
    names = {
        version_name_of(settings)
        for settings in (
            SMALL,
            *(SMALL.model_copy(update=change) for change in ({"rank": 8}, {"embedding_scale": 1.0})),
        )
    }
    assert len(names) == 3
    assert version_name_of(SMALL.model_copy(update={"seed": 5, "learning_rate": 0.1})) in names
    assert all(name.startswith(("online-r4-", "online-r8-")) for name in names)


def test_checkpoint_of_another_rank_is_refused_with_both_named_and_stays(tmp_path: Path):
    eight = SMALL.model_copy(update={"rank": 8})
    path = CheckpointStore(tmp_path / "scorer", eight).save(scorer_after(20, eight).snapshot())
    content = path.read_bytes()
    with pytest.raises(ArchitectureMismatchError) as caught:
        start_with(tmp_path, ScorerSettings(rank=32))
    for part in (
        path.name.removesuffix(".safetensors"),
        "rank 8",
        "parameters 7145",
        "rank 32",
        "parameters 28193",
        "set it back",
        "tierstream retrain",
    ):
        assert part in str(caught.value)
    assert path.read_bytes() == content
    start_with(tmp_path, eight)


def test_other_scales_are_another_architecture(tmp_path: Path):
    CheckpointStore(tmp_path / "scorer", SMALL).save(scorer_after(20).snapshot())
    other = SMALL.model_copy(update={"embedding_scale": 1.0})
    with pytest.raises(ArchitectureMismatchError, match=r"embedding_scale 0\.3, .*embedding_scale 1\.0"):
        start_with(tmp_path, other)


def test_checkpoint_of_another_embedder_is_refused_with_both_named(tmp_path: Path):
    CheckpointStore(tmp_path / "scorer", SMALL).save(scorer_after(20).snapshot())
    other = SMALL.model_copy(update={"embedder": "minilm"})
    with pytest.raises(ArchitectureMismatchError, match=r"has embedder hash, but the settings have embedder minilm"):
        start_with(tmp_path, other)


def test_checkpoint_of_another_feature_layout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = layout_hash()
    CheckpointStore(tmp_path / "scorer", SMALL).save(scorer_after(20).snapshot())
    monkeypatch.setattr("trainers.features.LAYOUT_VERSION", 3)
    with pytest.raises(ArchitectureMismatchError, match=rf"has features {before}, .* have features {layout_hash()}"):
        start_with(tmp_path, SMALL)


DAMAGES = (
    "truncated",
    "empty",
    "foreign",
    "other form",
    "later form, whole",
    "flipped bit",
    "another digit in the header",
    "no header",
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_unreadable_checkpoint_is_refused_by_name_and_the_one_before_used(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
):
    fold, store = scorer_after(30), CheckpointStore(tmp_path, SMALL)
    store.save(fold.snapshot())
    good = fold.learner.weights_hash()
    run(fold, random_stream(1, 60)[30:], batch=10)
    snapshot = fold.snapshot()
    bad = store.save(snapshot)
    content = bad.read_bytes()
    foreign = {"x": snapshot.arrays["window"]}
    bad.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "empty": b"",
            "foreign": safetensors.numpy.save(foreign),
            "other form": safetensors.numpy.save(foreign, {"tierstream": json.dumps({"form": 99})}),
            "later form, whole": encode(snapshot.arrays, {**snapshot.meta, "form": FORM + 1}),
            "another digit in the header": content.replace(b'next_offset\\": 7', b'next_offset\\": 9'),
            "flipped bit": content[:-1] + bytes([content[-1] ^ 1]),
            "no header": b"\xff" * 200,
        }[damage]
    )
    assert bad.read_bytes() != content
    store = CheckpointStore(tmp_path, SMALL)
    found = store.load()
    assert found is not None
    assert (found.next_offset, found.meta["weights_hash"]) == (4, good)
    assert store.refused == [bad.name]
    assert bad.name in caplog.text
    store.load()
    assert store.refused == [bad.name]


def test_snapshot_does_not_change_when_learning_goes_on():
    fold = scorer_after(30)
    snapshot = fold.snapshot()
    before = {name: array.copy() for name, array in snapshot.arrays.items()}
    meta = json.dumps(snapshot.meta)
    run(fold, random_stream(1, 60)[30:], batch=10)
    assert all((snapshot.arrays[name] == before[name]).all() for name in before)
    assert json.dumps(snapshot.meta) == meta
    assert snapshot.next_offset == 4
