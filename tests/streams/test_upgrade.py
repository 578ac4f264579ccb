import base64
import gzip
import json
from hashlib import blake2b

import numpy as np
import orjson
import pytest

from schemas.events import Experience
from schemas.records import FEATURES_PER_ITEM
from schemas.vectors import EMBEDDING_SIZE
from streams.history.upgrade import LAYOUT_OF_BEFORE, in_this_layout
from tests.streams.test_upgrade_live import RECORDED
from trainers.embedding import HashEmbedder
from trainers.features import FEATURES
from trainers.prepare import prepare

TOPICS = json.loads(gzip.decompress(RECORDED.read_bytes()))["topics"]


def values(topic: str) -> list[bytes]:
    """Return what the release before wrote to one of its topics."""
    return [base64.b64decode(value) for _, _, _, _, value, _ in TOPICS[topic]["records"]]


def test_the_layout_of_before_is_the_one_that_its_checkpoints_name():
    assert blake2b("\n".join(LAYOUT_OF_BEFORE).encode(), digest_size=4).hexdigest() == "4f4b4c6c"


def test_recorded_features_become_those_that_this_program_makes_of_the_same_answers():
    answers = {e.experience_id: e for e in (Experience.model_validate(orjson.loads(v)) for v in values("experiences"))}
    arrived = [
        (orjson.loads(head), features) for head, _, features in (v.partition(b"\n") for v in values("scorer-entries"))
    ]
    arrived = [(head, features) for head, features in arrived if head["kind"] == "arrived"]
    assert len(arrived) == len(answers) == 24
    for head, features in arrived:
        expected = prepare(answers[head["experience_id"]], HashEmbedder()).features
        assert np.frombuffer(in_this_layout(features), "<f4") == pytest.approx(np.frombuffer(expected, "<f4"))


def test_a_length_that_was_not_counted_to_its_end_is_the_longest_that_was():
    vector = np.zeros(EMBEDDING_SIZE + FEATURES_PER_ITEM, "<f4")
    vector[2 * EMBEDDING_SIZE + LAYOUT_OF_BEFORE.index("item_length")] = 1.0
    vector[2 * EMBEDDING_SIZE + LAYOUT_OF_BEFORE.index("item_lines")] = 0.25
    found = dict(
        zip([f.name for f in FEATURES], np.frombuffer(in_this_layout(vector.tobytes()), "<f4")[768:], strict=True)
    )
    assert found["item_length_log"] == pytest.approx(np.log(65) / np.log(2000))
    assert found["item_lines_log"] == pytest.approx(np.log(3) / np.log(2000))
    assert found["item_length"] == 1.0
    assert in_this_layout(b"") == b""
