from datetime import UTC, datetime
from hashlib import md5

import numpy as np
import pytest

from schemas.events import Experience, Intent, Widget
from trainers.embedding import HashEmbedder, MissingEmbeddingError, SuppliedOnly
from trainers.features import structured_features
from trainers.items import items_of
from trainers.prepare import is_held_out, prepare, query_hash


def experience(**changes: object) -> Experience:
    fields = {
        "experience_id": "e",
        "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
        "query": "show the pumps",
        "intent": Intent(type="status"),
        "widget_plan": (Widget(widget_id="a", widget_type="table", text="pumps"),),
        "voice_reply": "Three pumps run.",
    }
    return Experience.model_validate({**fields, **changes})


def vector(start: float) -> np.ndarray:
    return np.arange(start, start + 384, dtype="<f4") / 16  # of a length that is allowed


def test_items_are_the_widgets_then_the_reply():
    prepared = prepare(experience(), HashEmbedder())
    assert prepared.item_ids == ("a", "voice")
    assert prepared.item_types == ("widget", "voice")


def test_vectors_stand_in_the_order_of_scorer_entries():
    event = experience()
    found = np.frombuffer(prepare(event, HashEmbedder()).features, "<f4")
    items = items_of(event)
    query, widget, reply = HashEmbedder().embed([event.query, *(item.text for item in items)])
    expected = [query, widget, structured_features(event, items[0]), reply, structured_features(event, items[1])]
    assert (found == np.concatenate(expected)).all()


def test_supplied_embeddings_are_used_as_they_are():
    supplied = {"a": vector(1).tobytes(), "voice": vector(2).tobytes()}
    event = experience(query_embedding=vector(0).tobytes(), item_embeddings=supplied)
    found = np.frombuffer(prepare(event, SuppliedOnly()).features, "<f4")
    assert (found[:384] == vector(0)).all()
    rows = found[384:].reshape(2, 429)
    assert (rows[:, :384] == [vector(1), vector(2)]).all()


def test_only_missing_embeddings_are_made():
    event = experience(item_embeddings={"a": vector(1).tobytes()})
    rows = np.frombuffer(prepare(event, HashEmbedder()).features, "<f4")[384:].reshape(2, 429)
    assert (rows[0, :384] == vector(1)).all()
    assert (rows[1, :384] == HashEmbedder().embed(["Three pumps run."])[0]).all()


def test_missing_embedding_is_refused_where_events_must_bring_them():
    with pytest.raises(MissingEmbeddingError):
        prepare(experience(query_embedding=vector(0).tobytes()), SuppliedOnly())


def test_answer_of_nothing_has_no_items():
    prepared = prepare(experience(widget_plan=(), voice_reply=None), HashEmbedder())
    assert prepared.item_ids == ()
    assert len(prepared.features) == 1536


def test_query_hash_is_16_hex_digits_of_blake2b():
    assert query_hash("a") == "40f89e395b66422f"


def test_held_out_queries_are_one_in_six_whatever_their_md5_is():
    texts = [f"question {n}" for n in range(6000)]
    held = [is_held_out(query_hash(text), 6) for text in texts]
    fifth = [int(md5(text.encode(), usedforsecurity=False).hexdigest(), 16) % 5 == 0 for text in texts]
    assert 900 < sum(held) < 1100
    both = sum(h and f for h, f in zip(held, fifth, strict=True))
    assert 150 < both < 250
