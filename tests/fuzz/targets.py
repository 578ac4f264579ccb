"""What reads bytes from outside, as functions of bytes: each raises only where the program would be wrong.

`test_fuzz` gives them Hypothesis' inputs and the corpus, `run` the coverage-guided ones of atheris (`make fuzz`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec import DecodeError
from pydantic import ValidationError

from schemas.config import load
from schemas.errors import ArchitectureMismatchError, LogError, SettingsError
from schemas.events import Trace
from schemas.records import Answer, Configure, Joined, decode_log, encode_joined, encode_log
from schemas.settings import ScorerSettings
from streams.agents.decoding import decode_batch
from streams.contract import CONTRACTS
from streams.history.legacy import old_traces
from streams.kafka.dead_letters import ATTEMPT_HEADER, attempt_of, explain
from streams.training.log import parse_progress
from streams.transport.batch import RecordBatch
from tests.streams.offline import record
from tests.trainers.scorer.making import begun
from trainers.scorer.checkpoint import CheckpointStore, check_start
from trainers.scorer.fold import ScorerFold
from trainers.traces.store import TraceStore

EVENTS = tuple(sorted({contract.event for contract in CONTRACTS.values()}, key=lambda event: event.__name__))
SCORER = ScorerSettings(rank=1)


def events(data: bytes) -> None:
    """An event is refused with a reason in one line, or comes back from its own form as it was."""
    event, body = EVENTS[data[0] % len(EVENTS)] if data else EVENTS[0], data[1:]
    try:
        found = event.from_json(body)
    except ValidationError as error:
        kind, line = explain(error)
        assert kind.isidentifier()
        assert "\n" not in line
        return
    assert event.from_json(found.to_json()) == found


def records(data: bytes) -> None:
    """A record between agents is refused with what its reader expects."""
    with suppress(ValueError):
        found = decode_log(data)
        assert decode_log(encode_log(found)) == found or _has_nan(data)
        if isinstance(found, Joined):
            assert len(encode_joined(found.entries)) >= bool(found.entries)
        if isinstance(found, Configure):
            with suppress(LogError):
                ScorerFold(found.settings)
    with suppress(DecodeError):
        for answer, _ in Answer.each_from(data):
            assert Answer.from_json(answer.to_json()) == answer
    parse_progress(data)


def _has_nan(data: bytes) -> bool:
    """Tell whether there may be a float that does not equal itself."""
    return any(mark in data for mark in (b"\x7f\xf8", b"\xff\xf8", b"\x7f\xc0", b"\xca", b"\xcb"))


def batches(data: bytes) -> None:
    """Every record of a batch ends as an event, sent on, or set aside: none is lost, and none ends the worker."""
    key, _, value = data.partition(b"\n")
    headers = ((ATTEMPT_HEADER, key), (ATTEMPT_HEADER[:4], value[:4]))
    assert 1 <= attempt_of(headers) <= 1_000_000
    batch = RecordBatch("claude-traces", 0, [record(value, 7, key=key, headers=headers)])
    intake = decode_batch(batch, Trace, lambda trace: trace.trace_id, 2)
    assert len(intake.events) + len(intake.forwards) + len(intake.letters) == 1
    for letter in intake.letters:
        assert letter.from_json(letter.to_json()) == letter


def settings(data: bytes) -> None:
    """A settings file is taken whole or refused in one line that has no traceback's form."""
    with _folder() as folder:
        file = folder / "fuzz.toml"
        file.write_bytes(data)
        _load(file, {})
    name, _, value = data.decode("utf-8", "surrogateescape").partition("=")
    _load(None, {f"TIERSTREAM_{name}": value})


def _load(file: Path | None, environ: dict[str, str]) -> None:
    line = ""
    try:
        load(file, environ, {})
    except SettingsError as error:
        line = str(error)
    assert "\n" not in line


def traces(data: bytes) -> None:
    """Whatever is in its files, the store reads what is whole, and goes on writing so that it finds it again."""
    with _folder() as folder:
        for name in ("traces-0-1.jsonl", "traces.jsonl", "one.json"):
            (folder / name).write_bytes(data)
        store = TraceStore(folder)
        before = {stored.trace.trace_id for stored in store.read()}
        old_traces(store)
        fresh = {"trace_id": "fuzz-new", "timestamp": 1, "kind": "k", "prompt": "p", "response": "r", "model": "m"}
        with store.open_writer(0) as writer:
            written = writer.append([(writer.last_offset + 1, Trace.model_validate(fresh))])
        after = {stored.trace.trace_id for stored in store.read()}
        assert before <= after
        assert all(trace.trace_id in after for trace in written)


def checkpoints(data: bytes) -> None:
    """A checkpoint is loaded whole, passed over, or of another architecture: nothing else."""
    with _folder() as folder:
        place = folder / "checkpoints"
        place.mkdir()
        (place / "scorer-000000000001.safetensors").write_bytes(data)
        store = CheckpointStore(folder, SCORER)
        snapshot = store.load()
        assert (snapshot is None) == bool(store.refused)
        if snapshot is not None:
            with suppress(ArchitectureMismatchError):
                check_start(snapshot, folder, SCORER)


def a_checkpoint() -> bytes:
    """Return the bytes of a checkpoint that is whole."""
    with _folder() as folder:
        return CheckpointStore(folder, SCORER).save(begun(SCORER).snapshot()).read_bytes()


class _folder:
    """A folder for one input: the same one again and again, emptied."""

    _path: Path | None = None

    def __enter__(self) -> Path:
        if _folder._path is None:
            _folder._path = Path(tempfile.mkdtemp(prefix="tierstream-fuzz-"))
        shutil.rmtree(_folder._path, ignore_errors=True)
        _folder._path.mkdir()
        return _folder._path

    def __exit__(self, *_: object) -> None:
        """Leave it to the next input."""


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function for function in (events, records, batches, settings, traces, checkpoints)
}
