"""Arbitrary, nearly right and once fatal bytes for everything that reads bytes from outside."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.events import Trace
from tests.fuzz.mutate import mutate_json
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import EVENTS, TARGETS, a_checkpoint

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file())
WORDS = sorted({name for event in EVENTS for name in event.model_fields} | {"kind", "partition", "scorer", "pairs"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("2026-01-01T00:00:00Z"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=8),
    max_leaves=12,
)
BYTES = st.one_of(
    st.binary(max_size=300),
    JSON.map(lambda value: b"\x01" + json.dumps(value).encode()),
    st.lists(JSON, max_size=4).map(lambda values: b"\n".join(json.dumps(value).encode() for value in values)),
)


@pytest.mark.parametrize("target", TARGETS)
@given(data=BYTES)
@example(data=b"")
@example(data=b"\x00" * 64)
@example(data=b"[" * 5000)
@example(data=b"\xff\xfe\n{}")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_bytes_make_a_reader_fail(target: str, data: bytes) -> None:
    TARGETS[target](data)


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_inputs_that_were_found_stay_harmless(file: Path) -> None:
    TARGETS[file.parent.name](file.read_bytes())


def test_the_corpus_is_small_and_of_known_targets() -> None:
    assert {file.parent.name for file in FILES} <= set(TARGETS)
    assert sum(file.stat().st_size for file in FILES) < 64 * 1024


WHOLE = a_checkpoint()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep what the reader of checkpoints says of each input out of the report."""
    caplog.set_level("ERROR", "trainers.scorer.checkpoint")


@given(place=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255), end=st.integers(0, len(WHOLE)))
@settings(max_examples=40, deadline=None)
def test_no_damage_to_a_checkpoint_makes_its_reader_fail(place: int, byte: int, end: int) -> None:
    TARGETS["checkpoints"](WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :])
    TARGETS["checkpoints"](WHOLE[:end])


@pytest.mark.parametrize("target", TARGETS)
def test_the_guided_run_begins_with_inputs_that_are_right(target: str) -> None:
    for seed in seeds(target):
        TARGETS[target](seed)


def test_json_is_changed_as_json_and_stays_nearly_right() -> None:
    read = Counter[bool]()
    for number in range(400):
        line = next(line for line in seeds("events") if EVENTS[line[0]] is Trace)
        changed = mutate_json(line, random.Random(number))
        assert changed is not None
        assert changed[0] == line[0]
        json.loads(changed[1:])
        try:
            Trace.from_json(changed[1:])
        except ValidationError:
            read[False] += 1
        else:
            read[True] += 1
    assert min(read.values()) > 40
    assert mutate_json(b"\x01no json", random.Random(1)) is None
