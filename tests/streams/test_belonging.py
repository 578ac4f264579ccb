"""What the folders know of the broker: another topic under a name, or forgotten commits, stop the start by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from schemas.errors import StateError, TopicsError
from schemas.settings import Settings
from streams.kafka.lag import PartitionLag
from streams.state.belonging import (
    COMMITTED_NAME,
    TOPICS_NAME,
    check_belonging,
    check_committed,
    note_committed,
    offsets_held,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"data_dir": str(tmp_path), "topics": {"prefix": "p-"}, "kafka": {"app_id": "app"}})


class Cluster:
    """An admin client."""

    async def describe_cluster(self) -> dict[str, str]:
        """Return who it is."""
        return {"cluster_id": "c"}


@pytest.fixture
def ids(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The ids of the broker's topics, for a test to change."""
    known: dict[str, str] = {}

    @asynccontextmanager
    async def client(_: Settings) -> AsyncIterator[Cluster]:
        yield Cluster()

    async def topic_ids(_: Any) -> Mapping[str, str]:
        return known

    monkeypatch.setattr("streams.state.belonging.admin_client", client)
    monkeypatch.setattr("streams.state.belonging.topic_ids", topic_ids)
    return known


def test_another_topic_under_a_name_is_refused_with_both_remedies(
    settings: Settings, tmp_path: Path, ids: dict[str, str]
) -> None:
    ids |= {"p-feedback": "1", "p-score-updates": "1", "foreign": "1"}
    asyncio.run(check_belonging(settings))
    assert json.loads((tmp_path / TOPICS_NAME).read_bytes()) == {"p-feedback": "1"}
    ids |= {"p-score-updates": "2", "foreign": "2", "p-experiences": "7"}
    asyncio.run(check_belonging(settings))
    ids["p-feedback"] = "2"
    with pytest.raises(TopicsError) as refused:
        asyncio.run(check_belonging(settings))
    said = str(refused.value)
    assert f"topic p-feedback was deleted and made again: {tmp_path} holds offsets of the one before" in said
    assert "a new deployment" in said
    assert "'Topics that were made again' in docs/operations.md" in said
    assert json.loads((tmp_path / TOPICS_NAME).read_bytes()) == {"p-feedback": "1", "p-experiences": "7"}


def test_every_folder_is_asked(settings: Settings, tmp_path: Path, ids: dict[str, str]) -> None:
    state = tmp_path / "state"
    state.mkdir()
    ids["p-feedback"] = "1"
    asyncio.run(check_belonging(settings, state))
    (tmp_path / TOPICS_NAME).unlink()
    ids["p-feedback"] = "2"
    with pytest.raises(TopicsError, match=f"{state} holds offsets"):
        asyncio.run(check_belonging(settings, state))


def test_a_broker_without_ids_is_as_good(settings: Settings, ids: dict[str, str]) -> None:
    ids["p-feedback"] = "1"
    asyncio.run(check_belonging(settings))
    ids.clear()
    asyncio.run(check_belonging(settings))


def test_what_is_read_and_kept_is_known_by_id(settings: Settings) -> None:
    assert offsets_held(settings) == {
        *(f"p-{n}" for n in ("experiences", "feedback", "scorer-log", "answers", "preference-pairs", "claude-traces")),
        *(f"p-{n}" for n in ("eligible-traces", "unpaired-answers", "training-jobs")),
        *(
            f"p-app-{n}-changelog"
            for n in ("experiences", "judgements", "answers", "dpo-examples", "kto-examples", "sft-examples")
        ),
    }


def row(group: str, partition: int, committed: int | None) -> PartitionLag:
    return PartitionLag(group, "p-feedback", partition, committed, end=9, lag=0, lag_seconds=0.0)


@pytest.mark.parametrize(("told", "refused"), [((5, None), False), ((None, None), True)])
def test_commits_that_were_there_and_are_gone_are_refused(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: tuple[int | None, ...],
    refused: bool,
) -> None:
    async def committed(_: Settings, group: str, topics: set[str]) -> dict[TopicPartition, int | None]:
        assert (group, topics) == ("p-app-join", {"p-feedback"})
        return {TopicPartition("p-feedback", p): offset for p, offset in enumerate(told)}

    monkeypatch.setattr("streams.state.belonging.committed_offsets", committed)
    asyncio.run(check_committed(settings))  # nothing is known yet
    note_committed(settings, [row("p-app-join", 0, 4), row("p-app-join", 1, None)])
    note_committed(settings, [row("p-app-join", 0, 5), row("p-app-trainer", 0, 1)])
    assert (tmp_path / COMMITTED_NAME).read_text() == "p-app-join,p-feedback,0,5\np-app-trainer,p-feedback,0,1\n"
    if refused:
        with pytest.raises(StateError, match=r"forgotten what group p-app-join had read.*'Offsets that expired'"):
            asyncio.run(check_committed(settings))
    else:
        asyncio.run(check_committed(settings))
    note_committed(settings, [row("p-app-join", 0, None)])  # what the broker forgets stays
    assert "p-app-join,p-feedback,0,5" in (tmp_path / COMMITTED_NAME).read_text()


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"group,topic\n", b"group,topic,0,five\n"])
def test_a_file_that_cannot_be_read_is_named_with_the_remedy(
    settings: Settings, tmp_path: Path, ids: dict[str, str], content: bytes
) -> None:
    ids["p-feedback"] = "1"
    (tmp_path / TOPICS_NAME).write_bytes(content)
    with pytest.raises(StateError, match=f"{TOPICS_NAME} cannot be read; put it back from a backup, or delete it"):
        asyncio.run(check_belonging(settings))
    (tmp_path / TOPICS_NAME).unlink()
    if not content:
        return  # no group has committed
    (tmp_path / COMMITTED_NAME).write_bytes(content)
    for read in (lambda: asyncio.run(check_committed(settings)), lambda: note_committed(settings, [])):
        with pytest.raises(StateError, match=f"{COMMITTED_NAME} cannot be read; put it back from a backup"):
            read()
