"""Dead letters as an operator handles them: which are meant, and which cannot be tried again, and why."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from schemas.events import DeadLetter, Feedback
from schemas.settings import Settings
from streams.agents.decoding import decode_batch
from streams.cli.dead_letters import dead_letters
from streams.history import dead_letter_queue as letter_box
from streams.history.dead_letter_queue import Filter, Letter, RetriedLog, obstacle
from streams.kafka.dead_letters import ATTEMPT_HEADER, MAX_VALUE_BYTES, attempt_of, dead_letter
from streams.transport.batch import RecordBatch
from tests.streams.offline import record

FEEDBACK = {"feedback_id": "f", "experience_id": "e", "timestamp": 1, "source": "user", "reward": 1.0}
GOOD = json.dumps(FEEDBACK).encode()
SETTINGS = Settings.model_validate({"topics": {"prefix": "p-", "partitions": 1}})


def letter(value: bytes | None = GOOD, offset: int = 0, topic: str = "p-feedback", **changes: Any) -> Letter:
    content = dead_letter(topic, 3, 17, b"e", value, changes.pop("reason", "invalid_event"), "why")
    return Letter(offset, content.model_copy(update=changes))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (letter(), None),
        (letter(b"anything", topic="p-answers"), None),
        (letter(b"{}"), "still no Feedback: feedback_id: Field required (and 3 more)"),
        (letter(None), "it had no value"),
        (letter(b"x" * (MAX_VALUE_BYTES + 1)), "its value of 262,145 bytes was cut at 256 KiB: publish it again from"),
        (letter(topic="other-feedback"), "topic 'other-feedback' is none of this deployment"),
        (letter(topic="p-dead-letters"), "topic 'p-dead-letters' is none of this deployment"),
        (letter(value_sha256="0"), "its value is not the one whose hash it holds"),
        (Letter(0, letter().content.model_copy(update={"value": "no base64!"})), "its value is no base64"),
        (letter(key="no base64!"), "its value is no base64"),
    ],
)
def test_what_stands_in_the_way_of_another_try_is_said(found: Letter, words: str | None) -> None:
    said = obstacle(found, SETTINGS)
    assert (said or "").startswith(words or "")
    assert (said is None) == (words is None)


def test_filters_hold_all_together() -> None:
    now = datetime.now(UTC)
    letters = [
        letter(offset=0, timestamp=now - timedelta(hours=3)),
        letter(offset=1, timestamp=now),
        letter(offset=2, timestamp=now, reason="orphan_feedback"),
        letter(offset=3, timestamp=now, topic="p-experiences"),
    ]

    def meant(**fields: Any) -> list[int]:
        return [one.offset for one in letters if Filter(**fields).takes(one, SETTINGS)]

    assert meant() == [0, 1, 2, 3]
    assert meant(reason="invalid_event") == [0, 1, 3]
    assert meant(topic="feedback") == [0, 1, 2]
    assert meant(since=now - timedelta(hours=1)) == [1, 2, 3]
    assert meant(offsets=[1, 9]) == [1]
    assert meant(reason="invalid_event", topic="feedback", since=now - timedelta(hours=1)) == [1]


def test_what_was_sent_again_is_remembered_by_place_and_content(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"data_dir": str(tmp_path)})
    RetriedLog(settings).add(letter(offset=4))
    [file] = (tmp_path / "dead-letters").iterdir()
    file.write_bytes(file.read_bytes() + b'[5, "to')
    log = RetriedLog(settings)
    assert letter(offset=4) in log
    assert letter(offset=5) not in log
    assert letter(b"of a new topic", offset=4) not in log


@pytest.mark.parametrize(
    ("header", "attempt"),
    [
        (b"2", 2),
        (b"10", 10),
        (b"0", 1),
        (b"", 1),
        (b"-3", 1),
        (b"x", 1),
        (b"9" * 5000, 1),
        (b"9" * 19, 1_000_000),
        (b"\xb2", 1),
    ],
)
def test_the_attempt_is_the_headers(header: bytes, attempt: int) -> None:
    assert attempt_of([("other", b"7"), (ATTEMPT_HEADER, header)]) == attempt
    assert attempt_of([]) == 1


def test_a_record_that_fails_again_or_is_sent_on_keeps_its_attempt() -> None:
    again = ((ATTEMPT_HEADER, b"3"),)
    batch = RecordBatch("feedback", 0, [record(b"{}", 0, headers=again), record(b"{}", 1)])
    intake = decode_batch(batch, Feedback, lambda event: event.experience_id, 1)
    assert [one.attempt for one in intake.letters] == [3, 1]
    batch = RecordBatch("feedback", 5, [record(GOOD, 0, headers=again)])
    [forward] = decode_batch(batch, Feedback, lambda event: event.experience_id, 4).forwards
    assert attempt_of(forward.headers) == 3


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> list[DeadLetter]:
    """The topic of dead letters, as a list."""
    letters: list[DeadLetter] = []

    class Records:
        offsets = 0

        def __init__(self, *_: object) -> None:
            pass

        async def __aenter__(self) -> Records:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def __aiter__(self) -> AsyncIterator[SimpleNamespace]:
            for offset, content in enumerate(letters):
                yield SimpleNamespace(offset=offset, value=content.to_json())
            yield SimpleNamespace(offset=len(letters), value=b"no letter")

    monkeypatch.setattr(letter_box, "LogRange", Records)
    return letters


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(dead_letters, [*arguments])
    return done.exit_code, done.output


def test_the_list_counts_by_reason_and_moves_no_cursor(
    box: list[DeadLetter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    box += [letter(reason="a\x1b[2J").content, letter().content, letter().content]
    code, output = run("list", "--json", "--limit", "2")
    found = json.loads(output)
    assert code == 0
    assert found["counts"] == [
        {"reason": "invalid_event", "letters": 2, "not_retried": 2},
        {"reason": "a\\x1b[2J", "letters": 1, "not_retried": 1},
    ]
    assert [row["number"] for row in found["letters"]] == [1, 2]
    assert "\x1b" not in run("list")[1]
    assert run("list", "--reason", "none")[1] == "no dead letters\n"


def test_one_letter_is_shown_whole(box: list[DeadLetter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    box += [letter(b'{"\xff": "\x1b"}').content]
    code, output = run("show", "0")
    assert code == 0
    assert 'value: {"\\xff": "\\x1b"}' in output
    assert "key: e\n" in output
    assert "source: p-feedback[3]@17\n" in output


@pytest.mark.parametrize("since", ["yesterday", "forever ago", "-", "9" * 400])
def test_a_time_that_is_none_is_refused(since: str) -> None:
    code, output = run("list", "--since", since)
    assert (code, "is neither a duration such as 2h nor a time" in output) == (2, True)


def test_retry_wants_to_know_which() -> None:
    code, output = run("retry")
    assert (code, "say which: NUMBERS, --reason, --topic, --since or --all" in output) == (2, True)


def test_the_value_of_a_letter_survives_as_it_was() -> None:
    raw = bytes(range(256))
    assert letter_box.value_of(letter(raw)) == raw
    assert base64.b64decode(letter(raw).content.value or "") == raw
