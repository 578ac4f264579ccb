"""What a demo changes of the settings: a folder, ports and topics of its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.config import load
from schemas.errors import TierstreamError
from schemas.settings import Settings
from streams.demo.play import demo_settings

NOW = datetime(2026, 2, 8, 9, 30, 5, tzinfo=UTC)


def effective(environ: Mapping[str, str] | None = None, **flags: object) -> Settings:
    loaded = load(None, environ or {}, {key.replace("__", "."): value for key, value in flags.items()})
    return demo_settings(loaded.settings, loaded, NOW)


def test_without_flags_folder_and_ports_are_fresh() -> None:
    settings = effective()
    assert settings.data_dir == "data/demo-20260208-093005"
    assert (settings.broker.port, settings.web.port) == (0, 0)


def test_a_folder_from_the_environment_holds_many_demos(tmp_path: Path) -> None:
    settings = effective({"TIERSTREAM_DATA_DIR": str(tmp_path)})
    assert settings.data_dir == str(tmp_path / "demo-20260208-093005")


def test_flags_are_taken_as_they_are(tmp_path: Path) -> None:
    settings = effective(data_dir=str(tmp_path / "mine"), broker__port=19092, web__port=18321)
    assert settings.data_dir == str(tmp_path / "mine")
    assert (settings.broker.port, settings.web.port) == (19092, 18321)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scorer").mkdir()
    with pytest.raises(TierstreamError, match=r"is not empty, and a demo starts anew; name another --data-dir"):
        effective(data_dir=str(tmp_path))


def test_on_the_demos_own_broker_topics_keep_their_names() -> None:
    assert effective().topics.prefix == ""


def test_on_a_broker_that_is_there_topics_get_names_of_their_own() -> None:
    settings = effective({"TIERSTREAM_TOPICS__PREFIX": "site-"}, kafka__bootstrap_servers="kafka:9092")
    assert settings.topics.prefix == "site-demo-20260208-093005-"


def test_training_is_cut_short_as_the_demo_says() -> None:
    demo = {"DPO_STEPS": "3", "SFT_STEPS": "4", "HELD_OUT_ONE_IN": "7", "HELD_OUT_SIZE": "9"}
    settings = effective({f"TIERSTREAM_DEMO__{name}": value for name, value in demo.items()})
    assert (settings.jobs.dpo.max_steps, settings.jobs.sft.max_steps) == (3, 4)
    assert (settings.jobs.gate.held_out_one_in, settings.jobs.gate.held_out_size) == (7, 9)


def test_its_answers_wait_for_the_same_query_as_long_as_the_demo_says() -> None:
    assert effective().pairs.patience == 0
    assert effective({"TIERSTREAM_DEMO__PATIENCE": "60"}).pairs.patience == 60


def test_nothing_else_is_changed() -> None:
    plain, changed = Settings(), effective()
    apart = {"data_dir", "broker", "web", "topics", "jobs", "pairs"}
    assert changed.model_dump(exclude=apart) == plain.model_dump(exclude=apart)
    assert changed.pairs.model_dump(exclude={"patience"}) == plain.pairs.model_dump(exclude={"patience"})
    steps = {"dpo": {"max_steps"}, "sft": {"max_steps"}, "gate": {"held_out_one_in", "held_out_size"}}
    assert changed.jobs.model_dump(exclude=steps) == plain.jobs.model_dump(exclude=steps)
