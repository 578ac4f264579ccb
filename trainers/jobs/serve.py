"""transformers' server, with OpenAI's API, on the versions of the registry and on no other model.

`transformers serve` loads whatever a request names, from this machine's disk or the hub, and knows no name that stays
while the model behind it changes. Here a name is that of a version or of the base model, or `tierstream`: what is in
use when a request begins, which the request then ends with.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse
from transformers import PreTrainedModel
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.completion import CompletionHandler
from transformers.cli.serving.model_manager import ModelManager
from transformers.cli.serving.response import ResponseHandler
from transformers.cli.serving.server import build_server
from transformers.cli.serving.transcription import TranscriptionHandler
from transformers.cli.serving.utils import GenerationState
from transformers.utils import logging as transformers_logging

from schemas.errors import ServingError, TierstreamError, VersionError
from schemas.events import Candidate
from schemas.settings import Settings
from schemas.versions import BASES
from trainers.jobs.base_model import BaseModel, ensure_base_model
from trainers.jobs.encode import first_line
from trainers.jobs.export import base_of, merged_model, tokenizer_of
from trainers.serving import in_use
from trainers.versions import VersionStore

ALIAS = "tierstream"
"""Name of whatever is in use."""

_QUERY: ContextVar[str] = ContextVar("query", default="")
"""Of the request that is being answered."""

HOST = "127.0.0.1"
FOLLOW_SECONDS = 1.0
"""Between looks at which version is in use."""

Say = Callable[[str], None]


class Versions(ModelManager):
    """Gives the handlers the model and tokenizer of a version; what nobody asks for is dropped after minutes."""

    def __init__(self, data_dir: Path, base_model: str) -> None:
        super().__init__()
        self._data_dir = data_dir
        self._base_model = base_model
        self._store = VersionStore(data_dir)
        self.serving: str | None = None
        """What `ALIAS` stands for, but for the queries that `candidate` answers."""
        self.candidate: Candidate | None = None

    def follow(self) -> bool:
        """Serve what is in use, once it is loaded; return whether that is another one than before.

        Raises:
            TierstreamError: it cannot be loaded; the one before is served.
            OSError: the same.
        """
        name = in_use(self._store)
        # One that is loaded already is kept from being dropped.
        self.load_model_and_processor(name)
        tried = self._store.in_use("policy").candidate
        candidate = None if tried is None else Candidate(version=tried.version, path="", share=tried.share or 0.0)
        if candidate:
            self.load_model_and_processor(candidate.version)
        before, self.serving, self.candidate = (self.serving, self.candidate), name, candidate
        return before != (self.serving, self.candidate)

    def stands_for(self) -> str:
        """Say what `ALIAS` stands for."""
        beside = (
            f", and {self.candidate.version} for {self.candidate.share:.0%} of the queries" if self.candidate else ""
        )
        return f"{self.serving}{beside}"

    def names(self) -> list[str]:
        """Return the names that may be asked for, besides `ALIAS`."""
        return [*BASES.values(), *(record.version for record in self._store.versions("policy"))]

    def process_model_name(self, model_id: str) -> str:  # type: ignore[override]
        """Return what a request's `model` stands for; its answer bears this name.

        Raises:
            HTTPException: there is no such version.
        """
        name = self._answering(_QUERY.get()) if model_id == ALIAS else model_id
        if name is None or name not in {*BASES.values(), *self._store.names("policy")}:
            raise HTTPException(404, f"there is no model {model_id}: ask for {ALIAS}, or for one that /v1/models has")
        return name

    def _answering(self, query: str) -> str | None:
        tried = self.candidate
        return tried.version if tried and tried.answers(query) else self.serving

    def get_gen_models(self, cache_dir: str | None = None) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the answer of `/v1/models`; the root of `ALIAS` is what it stands for."""
        roots = {ALIAS: self.serving} | {name: name for name in self.names()}
        return [
            {"id": name, "object": "model", "created": 0, "owned_by": "tierstream", "root": root}
            for name, root in roots.items()
        ]

    def _load_processor(self, name: str, gguf_file: str | None = None) -> Any:
        return tokenizer_of(self._find(name)[0])

    def _load_model(self, name: str, *_: Any, **__: Any) -> PreTrainedModel:  # type: ignore[override]
        base, adapter = self._find(name)
        try:
            model: Any = merged_model(base, adapter)
            model.eval()
        except Exception as error:  # whatever it is, the files are its cause
            raise VersionError(f"{name} cannot be loaded: {first_line(error)}", "see its files") from error
        return cast(PreTrainedModel, model.to(_device()))

    def _find(self, name: str) -> tuple[BaseModel, Path | None]:
        if name in BASES.values():
            return ensure_base_model(self._base_model, self._data_dir), None
        record, folder = self._store.get(name), self._store.verified(name)
        return base_of(record, folder, self._data_dir), folder


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def app_of(models: Versions) -> FastAPI:
    """Return transformers' app on these models; adapters are loaded as vLLM does it, so that promotions can wait."""
    state = GenerationState()
    app: FastAPI = build_server(
        models,
        ChatCompletionHandler(models, state),
        CompletionHandler(models, state),
        ResponseHandler(models, state),
        TranscriptionHandler(models, state),
        state,
    )

    @app.middleware("http")
    async def note_query(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        _QUERY.set(query_of(await request.body()))
        return await call_next(request)

    # No page elsewhere may read through the browser of whoever is on this machine.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])

    @app.post("/v1/load_lora_adapter")
    def load_lora_adapter(body: dict[str, Any]) -> PlainTextResponse:
        name = models.process_model_name(str(body.get("lora_name")))
        models.load_model_and_processor(name)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    @app.exception_handler(TierstreamError)
    def refuse(_: Request, error: TierstreamError) -> JSONResponse:
        return JSONResponse({"error": {"message": str(error)}}, status_code=503)

    return app


def query_of(body: bytes) -> str:
    """Return what a request asks: its last message of a user, or its prompt; empty where it has none."""
    try:
        asked = json.loads(body)
        turns = [turn["content"] for turn in asked.get("messages", ()) if turn["role"] == "user"]
        return str(turns[-1] if turns else asked.get("prompt", ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""  # the handler says what is wrong with it


def run(settings: Settings, say: Say, complain: Say) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: all settings.
        say: told once it answers, and of every change of what is in use.
        complain: told what cannot be loaded.

    Raises:
        ServingError: the port is taken.
        TierstreamError: what is in use cannot be loaded.
        OSError: the same.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn takes them while it runs, and hands them on to these when it has ended.
        signal.signal(number, lambda *_: stopping.set())
    models = Versions(Path(settings.data_dir), settings.jobs.base_model)
    with _listening(settings.serving.port) as listener:
        models.follow()
        say(f"serve: http://{HOST}:{listener.getsockname()[1]}/v1")
        server = uvicorn.Server(uvicorn.Config(app_of(models), log_level="warning"))
        follower = threading.Thread(target=_follow, args=(models, server, stopping, say, complain))
        follower.start()
        try:
            server.run(sockets=[listener])
        finally:
            stopping.set()
            follower.join()
            models.shutdown()


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise ServingError(
            f"port {port} cannot be used: {os.strerror(error.errno or 0)}", "--port 0 picks a free one"
        ) from error


def _follow(models: Versions, server: uvicorn.Server, stopping: threading.Event, say: Say, complain: Say) -> None:
    while not server.started:
        if stopping.wait(0.1):
            return
    say(f"model {ALIAS}: {models.stands_for()}")
    say("ready")
    told = ""
    while not stopping.wait(FOLLOW_SECONDS):
        try:
            if models.follow():
                say(f"model {ALIAS}: {models.stands_for()}")
            told = ""
        except (TierstreamError, OSError) as error:
            if str(error) != told:
                told = str(error)
                complain(f"{told}; {models.serving} is served")
