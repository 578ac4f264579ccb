import json
import time
from pathlib import Path

import pytest
import safetensors.numpy

from schemas.settings import ScorerSettings
from tests.trainers.scorer.making import SMALL, random_stream, run
from trainers.features import layout_hash
from trainers.scorer.checkpoint import CheckpointStore
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.network import ArchitectureMismatchError
from trainers.scorer.reading import FORM, encode


def learner_after(count: int, settings: ScorerSettings = SMALL) -> OnlineLearner:
    learner = OnlineLearner(settings)
    run(learner, random_stream(1, count), batch=10)
    return learner


def test_saved_state_comes_back_whole(tmp_path: Path):
    learner, store = learner_after(60), CheckpointStore(tmp_path, SMALL)
    store.save(learner.snapshot(epoch=3, log_offset=17))
    found = CheckpointStore(tmp_path, SMALL).load_latest()
    assert found is not None
    assert (found.epoch, found.step, found.next_offset, found.log_offset) == (3, learner.step, 60, 17)
    other = OnlineLearner(SMALL)
    other.restore(found)
    assert other.weights_hash() == learner.weights_hash() == found.meta["weights_hash"]
    assert {**other.status(), "process": None} == {**learner.status(), "process": None}
    applied, found_again = learner.origins.arrays(), other.origins.arrays()
    assert {name: bits.tobytes() for name, bits in found_again.items()} == {
        name: bits.tobytes() for name, bits in applied.items()
    }
    assert applied


def test_no_checkpoint_is_none(tmp_path: Path):
    assert CheckpointStore(tmp_path, SMALL).load_latest() is None
    assert CheckpointStore(tmp_path, SMALL).durable_offset() is None


def test_highest_epoch_then_highest_step_wins_and_old_ones_go(tmp_path: Path):
    store, learner = CheckpointStore(tmp_path, SMALL), learner_after(30)
    early = learner.snapshot(epoch=2, log_offset=0)
    run(learner, random_stream(1, 90)[30:], batch=10)
    late = learner.snapshot(epoch=1, log_offset=0)
    for snapshot in (late, early, learner.snapshot(epoch=2, log_offset=0), learner.snapshot(epoch=9, log_offset=0)):
        store.save(snapshot)
    assert [path.name[:15] for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        "scorer-00000002",
        "scorer-00000002",
        "scorer-00000009",
    ]
    found = CheckpointStore(tmp_path, SMALL).load_latest()
    assert found is not None
    assert found.epoch == 9
    assert CheckpointStore(tmp_path, SMALL).durable_offset() == 90


def test_checkpoint_of_another_rank_is_refused_with_both_named_and_stays(tmp_path: Path):
    eight = SMALL.model_copy(update={"rank": 8})
    path = CheckpointStore(tmp_path, eight).save(learner_after(20, eight).snapshot(1, 0))
    content = path.read_bytes()
    store = CheckpointStore(tmp_path, ScorerSettings(rank=32))
    with pytest.raises(ArchitectureMismatchError) as caught:
        store.load_latest()
    for part in ("rank 8", "parameters 7145", "rank 32", "parameters 28193", "set it back", "tierstream retrain"):
        assert part in str(caught.value)
    assert path.read_bytes() == content
    assert store.durable_offset() is None


def test_other_scales_are_another_architecture(tmp_path: Path):
    CheckpointStore(tmp_path, SMALL).save(learner_after(20).snapshot(1, 0))
    other = SMALL.model_copy(update={"embedding_scale": 1.0})
    with pytest.raises(ArchitectureMismatchError, match=r"embedding_scale 0\.3, .*embedding_scale 1\.0"):
        CheckpointStore(tmp_path, other).load_latest()


def test_checkpoint_of_another_embedder_is_refused_with_both_named(tmp_path: Path):
    CheckpointStore(tmp_path, SMALL).save(learner_after(20).snapshot(1, 0))
    other = SMALL.model_copy(update={"embedder": "minilm"})
    with pytest.raises(ArchitectureMismatchError, match=r"has embedder hash, but the settings have embedder minilm"):
        CheckpointStore(tmp_path, other).load_latest()


def test_checkpoint_of_another_feature_layout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = layout_hash()
    CheckpointStore(tmp_path, SMALL).save(learner_after(20).snapshot(1, 0))
    monkeypatch.setattr("trainers.features.LAYOUT_VERSION", 2)
    with pytest.raises(ArchitectureMismatchError, match=rf"has features {before}, .* have features {layout_hash()}"):
        CheckpointStore(tmp_path, SMALL).load_latest()


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
    learner, store = learner_after(30), CheckpointStore(tmp_path, SMALL)
    store.save(learner.snapshot(1, 0))
    good = learner.weights_hash()
    run(learner, random_stream(1, 60)[30:], batch=10)
    bad = store.save(learner.snapshot(1, 0))
    content = bad.read_bytes()
    foreign = {"x": learner.snapshot(1, 0).arrays["window"]}
    snapshot = learner.snapshot(1, 0)
    bad.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "empty": b"",
            "foreign": safetensors.numpy.save(foreign),
            "other form": safetensors.numpy.save(foreign, {"tierstream": json.dumps({"form": 99})}),
            "later form, whole": encode(snapshot.arrays, {**snapshot.meta, "form": FORM + 1}),
            "another digit in the header": content.replace(b'next_offset\\": 60', b'next_offset\\": 90'),
            "flipped bit": content[:-1] + bytes([content[-1] ^ 1]),
            "no header": b"\xff" * 200,
        }[damage]
    )
    assert bad.read_bytes() != content
    store = CheckpointStore(tmp_path, SMALL)
    found = store.load_latest()
    assert found is not None
    assert found.meta["weights_hash"] == good
    assert store.refused == [bad.name]
    assert bad.name in caplog.text
    assert store.durable_offset() == 30


def test_checkpoint_of_a_former_owner_after_a_later_claim_is_passed_over(tmp_path: Path):
    store, learner = CheckpointStore(tmp_path, SMALL), learner_after(30)
    first = store.claim_epoch()
    store.save(learner.snapshot(first, log_offset=8))
    time.sleep(0.02)  # file times are coarse, and one that is not clearly earlier is passed over
    second = CheckpointStore(tmp_path, SMALL).claim_epoch()
    assert (first, second) == (1, 2)
    run(learner, random_stream(1, 60)[30:], batch=10)
    store.save(learner.snapshot(first, log_offset=25))
    found = CheckpointStore(tmp_path, SMALL).load_latest()
    assert found is not None
    assert found.log_offset == 8
    CheckpointStore(tmp_path, SMALL).save(learner.snapshot(second, log_offset=30))
    found = CheckpointStore(tmp_path, SMALL).load_latest()
    assert found is not None
    assert found.epoch == 2


def test_log_epoch_is_kept_until_the_log_moves_on():
    learner = learner_after(30)
    learner.restore(learner.snapshot(epoch=1, log_offset=8))
    assert learner.snapshot(epoch=2, log_offset=8).log_epoch == 1
    assert learner.snapshot(epoch=2, log_offset=12).log_epoch == 2


def test_snapshot_does_not_change_when_learning_goes_on():
    learner = learner_after(30)
    snapshot = learner.snapshot(1, 0)
    before = {name: array.copy() for name, array in snapshot.arrays.items()}
    run(learner, random_stream(1, 60)[30:], batch=10)
    assert all((snapshot.arrays[name] == before[name]).all() for name in before)
    assert snapshot.next_offset == 30
