"""Having a server take up a version before that is put into use, so that whoever then asks for it is answered.

The server speaks OpenAI's API and loads LoRA adapters at run time, as vLLM does. It knows an adapter by its version's
name, which stands for the same weights for ever: one that is loaded already need not be loaded again, and the version
in use goes on answering under its own name, whatever becomes of a newer one.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.config import load
from schemas.errors import ServingError
from schemas.events import ModelLine
from schemas.serving_settings import ServingSettings
from schemas.versions import BASES, NotServed, line_of
from trainers.files import write_atomically
from trainers.versions import VersionStore

NOT_SERVED = "not-served.json"
"""In `models/<line>`: the newest version that the server did not take, and why."""

QUESTION = "Are you ready?"
VARIABLES = "TIERSTREAM_SERVING__"
"""Begins the variables that tell a job's process the settings."""

_MAX_ANSWER_BYTES = 2**20
_LIST_SECONDS = 5.0


def take_up(settings: ServingSettings, store: VersionStore, version: str) -> None:
    """See that the server answers from a version; where none is set, and of the scorer, there is nothing to see.

    Every way of putting a version into use comes by here first. A refusal is noted for the audit until a version of
    the line is taken up.

    Raises:
        ServingError: the server does not load it, or does not answer from it.
        VersionError: there is no such version, or its files are not as they were added.
        OSError: the refusal cannot be noted.
    """
    line = line_of(version)
    if line not in BASES:
        return
    note = _note(store, line)
    if settings.url is not None:
        with _noting(note, version):
            _load_and_ask(Server(settings), store, version)
    note.unlink(missing_ok=True)  # without a server, too: it told of what was to be in use until now


def put_into_use(settings: ServingSettings, store: VersionStore, version: str, reason: str) -> None:
    """Put a version that has passed its gate into use, or have it tried first; errors as of `take_up`."""
    take_up(settings, store, version)
    if settings.candidate_share:
        store.try_out(version, reason, settings.candidate_share)
    else:
        store.promote(version, reason)


def _note(store: VersionStore, line: ModelLine) -> Path:
    return store.folder(BASES[line]).parent / NOT_SERVED


@contextmanager
def _noting(note: Path, version: str) -> Iterator[None]:
    """Write down why the server does not take a version."""
    try:
        yield
    except ServingError as error:
        known = _read(note)
        if known is None or (known.version, known.reason) != (version, error.message):
            said = NotServed(version=version, reason=error.message, at=datetime.now(UTC))
            write_atomically(note, said.to_json())
        raise


def _load_and_ask(server: Server, store: VersionStore, version: str) -> None:
    loaded = version not in BASES.values() and server.load(version, store.verified(version))
    try:
        server.ask(version)
    except ServingError:
        if loaded:
            with suppress(ServingError):
                server.unload(version)
        raise


def keep_up(settings: ServingSettings, store: VersionStore) -> None:
    """Have the server take up what is in use or tried where it has lost it, as one has that was started again.

    Raises:
        ServingError: it does not.
        VersionError: a version in use is not as it was added.
        OSError: a refusal cannot be noted.
    """
    server = Server(settings)
    for line in BASES:
        history, note = store.in_use(line), _note(store, line)
        tried = None if history.candidate is None else history.candidate.version
        for version in (one for one in (history.version, tried) if one is not None):
            with _noting(note, version):
                if version not in server.models():
                    _load_and_ask(server, store, version)
            if (known := _read(note)) and known.version == version:
                note.unlink(missing_ok=True)


def refusals(data_dir: Path | str) -> dict[ModelLine, NotServed]:
    """Return by line the version that the server did not take, where that still stands."""
    notes = {line: _read(Path(data_dir) / "models" / line / NOT_SERVED) for line in BASES}
    return {line: note for line, note in notes.items() if note is not None}


def _read(note: Path) -> NotServed | None:
    try:
        return NotServed.from_json(note.read_bytes())
    except (OSError, ValueError):
        return None


def in_use(store: VersionStore) -> str:
    """Return which adapter is in use; else the base model's name.

    Raises:
        VersionError: the history cannot be read.
    """
    return store.in_use("policy").version or BASES["policy"]


def job_variables(settings: ServingSettings) -> dict[str, str]:
    """Return the variables that `settings_of` reads the settings from."""
    values = settings.model_dump(include={"url", "timeout", "candidate_share"}) | {
        "api_key": settings.api_key.get_secret_value() if settings.api_key else None
    }
    return {VARIABLES + name.upper(): "" if value is None else str(value) for name, value in values.items()}


def settings_of(environ: Mapping[str, str]) -> ServingSettings:
    """Return the settings that a trainer has given its job's process.

    Raises:
        SettingsError: they cannot be.
    """
    mine = {name: value for name, value in environ.items() if name.startswith(VARIABLES)}
    return load(None, mine, {}).settings.serving


class Server:
    """What is asked of the server; every failure is one line."""

    def __init__(self, settings: ServingSettings) -> None:
        self._url = settings.url
        self._timeout = settings.timeout
        key = settings.api_key.get_secret_value() if settings.api_key else None
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def load(self, name: str, folder: Path) -> bool:
        """Load an adapter; return whether it was not loaded before.

        Raises:
            ServingError: it is not loaded.
        """
        try:
            self._call("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder.absolute())})
        except ServingError:
            # That it is loaded already is an error to vLLM, in words that change.
            with suppress(ServingError):
                if name in self.models():
                    return False
            raise
        return True

    def unload(self, name: str) -> None:
        """Forget an adapter.

        Raises:
            ServingError: it does not.
        """
        self._call("/v1/unload_lora_adapter", {"lora_name": name})

    def models(self) -> list[str]:
        """Return the names that it answers to.

        Raises:
            ServingError: it does not say.
        """
        path = "/v1/models"
        try:
            return [str(one["id"]) for one in self._json(path, timeout=_LIST_SECONDS)["data"]]
        except (LookupError, TypeError):
            raise self._failed(f"lists no models at {path}") from None

    def ask(self, name: str) -> str:
        """Ask a question and return the answer, which may be cut short.

        Raises:
            ServingError: there is none, or it is another model's: some servers answer whatever the name is.
        """
        messages = [{"role": "user", "content": QUESTION}]
        path = "/v1/chat/completions"
        answer = self._json(path, {"model": name, "messages": messages, "max_tokens": 8, "temperature": 0})
        if answer.get("model") != name:
            raise self._failed(f"answers from model {answer.get('model')} where {name} is asked")
        try:
            return str(answer["choices"][0]["message"]["content"])
        except (LookupError, TypeError):
            raise self._failed(f"gives no answer at {path}") from None

    def _json(self, path: str, body: dict[str, Any] | None = None, timeout: float | None = None) -> dict[str, Any]:
        try:
            content = json.loads(self._call(path, body, timeout))
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise self._failed(f"answers no JSON object at {path}")
        return content

    def _call(self, path: str, body: dict[str, Any] | None = None, timeout: float | None = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data, self._headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout or self._timeout) as answer:
                return bytes(answer.read(_MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            with error, suppress(OSError, http.client.HTTPException):
                said = error.read(_MAX_ANSWER_BYTES)
                raise self._failed(f"answers {error.code} at {path}: {_words(said)}") from None
            raise self._failed(f"answers {error.code} at {path}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._failed(f"cannot be asked at {path}: {getattr(error, 'reason', None) or error}") from None

    def _failed(self, what: str) -> ServingError:
        return ServingError(
            f"the server at {self._url} {what}",
            "what was in use stays so; see that it runs and loads adapters (docs/serving.md), then promote once more",
        )


def _words(said: bytes) -> str:
    """Return what an error's body says: OpenAI's form, FastAPI's, or text."""
    text = said.decode(errors="replace")
    with suppress(ValueError):
        content = json.loads(text)
        if isinstance(content, dict):
            error = content.get("error", content.get("detail", content))
            text = str(error.get("message", error) if isinstance(error, dict) else error)
    return " ".join(text.split())[:300] or "nothing more"
