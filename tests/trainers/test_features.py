from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Device, Experience, Intent, Widget
from trainers.features import FEATURES, layout_page, structured_features
from trainers.items import items_of

NAMES = [feature.name for feature in FEATURES]


def experience(query: str = "Turn on both kitchen lights", **changes: object) -> Experience:
    fields = {
        "experience_id": "e",
        "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
        "query": query,
        "intent": Intent(type="light", domains=("light",), devices=(Device(type="light"),)),
        "widget_plan": (
            Widget(widget_id="a", widget_type="HassTurnOn", text="name: Kitchen Light", params={"area": "Kitchen"}),
            Widget(widget_id="b", widget_type="HassTurnOff", size="small"),
        ),
        "voice_reply": "Sorry, I am unable to find 2 lights. Which one?",
    }
    return Experience.model_validate({**fields, **changes})


def named(event: Experience, place: int) -> dict[str, float]:
    return dict(zip(NAMES, structured_features(event, items_of(event)[place]).tolist(), strict=True))


def test_there_are_45_features_with_one_name_each():
    assert len(FEATURES) == len(set(NAMES)) == 45


def test_documented_table_is_up_to_date():
    page = Path(__file__).parents[2] / "docs" / "features.md"
    assert page.read_text() == layout_page(), "run: python -m trainers.features > docs/features.md"


def test_features_of_a_widget():
    found = named(experience(), 0)
    expected = {"item_is_voice": 0, "query_means_all": 1, "item_contradicts": 0, "item_confirms": 1, "has_arguments": 1}
    expected |= {"plan_size": 0.25, "answer_has_voice": 1, "position": 0, "argument_count": 0.125}
    expected |= {"domain_in_query": 1, "domain_in_item": 1, "devices_in_item": 1}
    assert {name: found[name] for name in expected} == expected
    # turn, on, kitchen, light of turn, on, both, kitchen, light.
    assert found["query_in_item"] == pytest.approx(0.8)


def test_opposite_of_the_query_is_a_contradiction():
    found = named(experience(), 1)
    assert (found["item_contradicts"], found["item_confirms"]) == (1, 0)


def test_features_of_a_reply_that_asks_back():
    found = named(experience(), 2)
    for name in ("item_is_voice", "item_apologises", "item_fails", "item_asks", "item_asks_back", "item_has_number"):
        assert found[name] == 1.0, name
    assert found["position"] == 0.25


def test_kind_of_item_and_intent_fill_one_bucket_each():
    for place in range(3):
        found = named(experience(), place)
        assert sum(value for name, value in found.items() if name.startswith("type_bucket")) == 1
        assert sum(value for name, value in found.items() if name.startswith("intent_bucket")) == 1


def test_long_texts_of_different_length_and_lines_are_told_apart():
    long, longer = (experience(voice_reply="word\n" * count) for count in (100, 400))
    one, other = named(long, 2), named(longer, 2)
    assert one["item_length"] == other["item_length"] == one["item_lines"] == other["item_lines"] == 1.0
    for name in ("item_length_log", "item_lines_log"):
        assert one[name] == pytest.approx(np.log(101) / np.log(2000))
        assert other[name] == pytest.approx(np.log(401) / np.log(2000))


def test_unknown_intent_without_devices_and_empty_texts():
    event = experience(
        "", intent=Intent(type="never seen"), widget_plan=(Widget(widget_id="a", widget_type="?"),), voice_reply=""
    )
    for place in range(2):
        found = named(event, place)
        assert all(np.isfinite(list(found.values())))
        for name in ("query_length", "query_in_item", "device_count", "devices_in_item", "domain_in_query"):
            assert found[name] == 0.0
        assert found["item_is_empty"] == 1.0


def test_the_model_that_answered_is_no_feature():
    one, other = (experience(source_model=name, confidence=c) for name, c in (("x", 0.1), ("y", 0.9)))
    for place, item in enumerate(items_of(one)):
        assert (structured_features(one, item) == structured_features(other, items_of(other)[place])).all()


anything = st.text(max_size=60)
names = st.text(min_size=1, max_size=12).filter(lambda text: "\x00" not in text)


@given(
    query=anything,
    reply=st.none() | anything,
    intent=names,
    domains=st.lists(names, max_size=12),
    devices=st.lists(names, max_size=12),
    texts=st.lists(anything, max_size=12),
)
def test_every_feature_is_in_0_to_1_and_deterministic(query, reply, intent, domains, devices, texts):
    event = experience(
        query,
        intent=Intent(type=intent, domains=tuple(domains), devices=tuple(Device(type=d) for d in devices)),
        widget_plan=tuple(
            Widget(
                widget_id=f"w{n}", widget_type=f"t{n % 3}", text=text, params={"a": [text, None, 1], "b": {"c": text}}
            )
            for n, text in enumerate(texts)
        ),
        voice_reply=reply,
    )
    for item in items_of(event):
        found = structured_features(event, item)
        assert found.shape == (45,)
        assert found.dtype == np.float32
        assert ((found >= 0) & (found <= 1)).all()
        assert (found == structured_features(event, item)).all()
