"""A server that answers as vLLM documents it, for what a real one does not do when asked to: failing in each way.

It has no model: it says which of its loaded adapters it was asked for. What a real server makes of an adapter is in
`tests/streams/test_serve.py` and, with vLLM itself, in `tests/streams/test_vllm_live.py`.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class ServingPeer:
    """An HTTP server on loopback; a context manager.

    Args:
        base: the names that its base model has.
        port: to listen on; 0 picks a free one.
    """

    def __init__(self, *base: str, port: int = 0) -> None:
        self.base = list(base)
        self.loaded: dict[str, str] = {}
        """By name: the path that it was loaded from."""
        self.asked: list[tuple[str, str]] = []
        """Each request's path, and the model or adapter that it names."""
        self.keys: set[str | None] = set()
        """What requests had as authorization."""
        self.fail: dict[str, tuple[int, str]] = {}
        """By path: the status and words to fail with."""
        self.answer_as: str | None = None
        """The model that it says it answers from, where not the one that is asked for."""
        self.delay_seconds = 0.0
        """Before each answer."""
        self.hold = threading.Event()
        """Set unless questions are to wait."""
        self.hold.set()
        self.waits = threading.Event()
        """Set once a question waits."""
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hold.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def respond(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        name = str(body.get("lora_name") or body.get("model") or "")
        self.asked.append((path, name))
        if path in self.fail:
            status, words = self.fail[path]
            return status, json.dumps({"error": {"message": words, "type": "InternalServerError", "code": status}})
        if path == "/v1/models":
            return 200, json.dumps({"object": "list", "data": [{"id": one} for one in (*self.base, *self.loaded)]})
        if path == "/v1/load_lora_adapter":
            if name in self.loaded:
                return 400, json.dumps({"error": {"message": f"The lora adapter '{name}' has already been loaded."}})
            self.loaded[name] = body["lora_path"]
            return 200, f"Success: LoRA adapter '{name}' added successfully."
        if path == "/v1/unload_lora_adapter":
            return (200, "Success") if self.loaded.pop(name, None) else (404, json.dumps({"error": {"message": "no"}}))
        if name not in (*self.base, *self.loaded):
            return 404, json.dumps({"error": {"message": f"The model `{name}` does not exist."}})
        if not self.hold.is_set():
            self.waits.set()
            self.hold.wait(60)
        message = {"role": "assistant", "content": f"I am {name}."}
        return 200, json.dumps({"model": self.answer_as or name, "choices": [{"message": message}]})

    def _handler(peer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply({})

            def do_POST(self) -> None:
                self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def reply(self, body: dict[str, Any]) -> None:
                peer.keys.add(self.headers["Authorization"])
                time.sleep(peer.delay_seconds)
                status, text = peer.respond(self.path, body)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                return None

        return Handler
