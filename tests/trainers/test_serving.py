"""A version is put into use once the server answers from it, and not otherwise; nothing is left half switched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ServingError
from schemas.serving_settings import ServingSettings
from schemas.settings import Settings
from streams.broker.launch import free_port
from tests.serving_peer import ServingPeer
from tests.streams.cli.test_models import add, run
from trainers import promotion
from trainers.serving import job_variables, keep_up, refusals, settings_of, take_up
from trainers.versions import VersionStore

LOAD, ASK, UNLOAD, LIST = "/v1/load_lora_adapter", "/v1/chat/completions", "/v1/unload_lora_adapter", "/v1/models"


@pytest.fixture
def peer() -> Iterator[ServingPeer]:
    with ServingPeer("policy-base") as running:
        yield running


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    for name in ("dpo-a1", "dpo-b2"):
        add(tmp_path, name)
    return tmp_path


def settings(data_dir: Path, peer: ServingPeer, **serving: Any) -> Settings:
    return Settings.model_validate({"data_dir": str(data_dir), "serving": {"url": peer.url, **serving}})


def used(data_dir: Path) -> str | None:
    return VersionStore(data_dir).in_use("policy").version


def test_a_promotion_loads_asks_and_then_switches_and_a_rollback_does_the_same_backwards(
    data_dir: Path, peer: ServingPeer
) -> None:
    has = settings(data_dir, peer)
    promotion.promote(has, "dpo-a1", "better")
    assert peer.asked == [(LOAD, "dpo-a1"), (ASK, "dpo-a1")]
    assert peer.loaded == {"dpo-a1": str(data_dir / "models" / "dpo" / "dpo-a1")}
    assert used(data_dir) == "dpo-a1"
    promotion.promote(has, "dpo-b2", "better")
    assert list(peer.loaded) == ["dpo-a1", "dpo-b2"]  # whoever still asks for the one before is answered
    peer.asked.clear()
    assert promotion.rollback(has, "policy").version == "dpo-a1"
    assert peer.asked == [(LOAD, "dpo-a1"), (LIST, ""), (ASK, "dpo-a1")]  # that it is loaded already is no failure
    peer.asked.clear()
    assert promotion.rollback(has, "policy").version == "policy-base"
    assert peer.asked == [(ASK, "policy-base")]


def failing(peer: ServingPeer, path: str) -> str:
    peer.fail[path] = (500, "no room for\nanother adapter")
    return f"{peer.url} answers 500 at {path}: no room for another adapter"


def answering_from_another(peer: ServingPeer, _: str) -> str:
    peer.answer_as = "policy-base"
    return f"{peer.url} answers from model policy-base where dpo-b2 is asked"


@pytest.mark.parametrize(("fault", "path"), [(failing, LOAD), (failing, ASK), (answering_from_another, ASK)])
def test_a_refusal_leaves_the_old_one_in_use_and_says_why_until_one_is_taken(
    data_dir: Path, peer: ServingPeer, fault: Any, path: str
) -> None:
    has = settings(data_dir, peer)
    promotion.promote(has, "dpo-a1", "better")
    reason = fault(peer, path)
    before = VersionStore(data_dir).in_use("policy")
    for _ in range(2):
        with pytest.raises(ServingError, match="what was in use stays so") as refused:
            promotion.promote(has, "dpo-b2", "better")
        assert str(refused.value).startswith(f"the server at {reason}; ")
        assert "\n" not in str(refused.value)
    assert VersionStore(data_dir).in_use("policy") == before
    assert list(peer.loaded) == ["dpo-a1"]  # what was loaded and does not answer is not kept there
    note = refusals(data_dir)["policy"]
    assert (note.version, note.reason) == ("dpo-b2", f"the server at {reason}")

    peer.fail.clear()
    peer.answer_as = None
    promotion.promote(has, "dpo-b2", "better")
    assert (used(data_dir), refusals(data_dir)) == ("dpo-b2", {})


def test_a_refusal_is_told_no_longer_once_the_line_goes_on_without_a_server(data_dir: Path, peer: ServingPeer) -> None:
    failing(peer, LOAD)
    with pytest.raises(ServingError):
        promotion.promote(settings(data_dir, peer), "dpo-b2", "better")
    assert refusals(data_dir)["policy"].version == "dpo-b2"
    promotion.promote(Settings(data_dir=str(data_dir)), "dpo-b2", "by hand")
    assert (used(data_dir), refusals(data_dir)) == ("dpo-b2", {})


def test_a_server_that_is_away_refuses_a_rollback_too(data_dir: Path, peer: ServingPeer) -> None:
    promotion.promote(settings(data_dir, peer), "dpo-a1", "better")
    away = Settings.model_validate({"data_dir": str(data_dir), "serving": {"url": f"http://127.0.0.1:{free_port()}"}})
    with pytest.raises(ServingError, match=r"cannot be asked at /v1/chat/completions: .*refused"):
        promotion.rollback(away, "policy")
    assert used(data_dir) == "dpo-a1"
    promotion.rollback(Settings(data_dir=str(data_dir)), "policy")  # without a server there is nothing to wait for
    assert used(data_dir) is None


def test_a_server_that_was_started_again_gets_what_is_in_use_once_more(data_dir: Path, peer: ServingPeer) -> None:
    has, store = settings(data_dir, peer), VersionStore(data_dir)
    keep_up(has.serving, store)
    assert peer.asked == []  # nothing but the base model is in use
    promotion.promote(has, "dpo-a1", "better")
    peer.loaded.clear()
    peer.fail[LIST] = (503, "starting")
    with pytest.raises(ServingError, match="answers 503 at /v1/models: starting"):
        keep_up(has.serving, store)
    assert refusals(data_dir)["policy"].version == "dpo-a1"
    peer.fail.clear()
    keep_up(has.serving, store)
    assert (list(peer.loaded), refusals(data_dir)) == (["dpo-a1"], {})
    failing(peer, LOAD)
    with pytest.raises(ServingError):
        promotion.promote(has, "dpo-b2", "better")
    keep_up(has.serving, store)
    assert refusals(data_dir)["policy"].version == "dpo-b2"  # that the old one is served is no excuse


def test_the_command_says_why_in_one_line(
    data_dir: Path, peer: ServingPeer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIERSTREAM_SERVING__URL", f"{peer.url}/v1/")
    monkeypatch.setenv("TIERSTREAM_SERVING__API_KEY", "open sesame")
    reason = failing(peer, LOAD)
    assert run("models", "promote", "dpo-a1", "--data-dir", str(data_dir)) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: the server at {reason}; ")
    assert len(told.splitlines()) == 1
    assert peer.keys == {"Bearer open sesame"}
    assert used(data_dir) is None


def test_the_scorer_is_served_by_the_worker_and_asks_nobody(data_dir: Path, peer: ServingPeer) -> None:
    take_up(settings(data_dir, peer).serving, VersionStore(data_dir), "scorer-a1")
    assert peer.asked == []


@pytest.mark.parametrize(
    "given",
    [{}, {"url": "https://gpu:8000/v1", "api_key": "secret", "timeout": 2.5}, {"url": "http://127.0.0.1:8000"}],
)
def test_a_jobs_process_has_the_trainers_settings(given: dict[str, Any]) -> None:
    has = ServingSettings.model_validate(given)
    assert settings_of({**job_variables(has), "TIERSTREAM_NO_SUCH": "setting"}) == has


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://a", "http://", "http://a:b", "http://a?b", "http://u:p@a"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no address of a server"):
        ServingSettings(url=url)


def test_bodies_are_json(data_dir: Path, peer: ServingPeer) -> None:
    peer.fail[ASK] = (200, "")
    with pytest.raises(ServingError, match="answers from model None"):
        promotion.promote(settings(data_dir, peer), "dpo-a1", "better")
    assert json.loads((data_dir / "models" / "policy" / "not-served.json").read_bytes())["version"] == "dpo-a1"


def test_what_is_no_list_of_models_is_said_in_one_line(peer: ServingPeer, data_dir: Path) -> None:
    peer.respond = lambda path, body: (200, '{"object": "list"}')  # type: ignore[method-assign]
    VersionStore(data_dir).promote("dpo-a1", "passed")
    with pytest.raises(ServingError, match=f"lists no models at {LIST}"):
        keep_up(settings(data_dir, peer).serving, VersionStore(data_dir))
