"""Sessions of Claude Code: a line for each block of a message, joined by message and by the line before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.base import MAX_LONG_TEXT_CHARACTERS
from streams.imports.anthropic import message_fields
from streams.imports.found import Call, Format, Found, LeftOut, Record, guarded
from streams.imports.messages import content_text, said

_NAME = "claude-code"
_MAX_TURNS = 1024


@dataclass(slots=True)
class _Message:
    """A message, of all of its lines."""

    role: str
    content: list[Any]
    before: str | None
    """The line that it answers to."""
    record: Record
    timestamp: Any
    told: dict[str, Any] = field(default_factory=dict)
    _text: str | None = None

    def text(self) -> str:
        """Return what it says, without reasoning; made once, as every later answer needs it."""
        if self._text is None:
            self._text = content_text(self.content)
        return self._text


class _Session:
    """The messages of the files so far, as a tree: a session that was gone back in has branches."""

    def __init__(self) -> None:
        self.messages: dict[str, _Message] = {}
        self.of_line: dict[str, str] = {}
        """The message that a line belongs to."""

    def add(self, record: Record, line: Mapping[str, Any]) -> Iterable[Found]:
        if line.get("type") not in ("user", "assistant"):
            if line.get("uuid"):  # a line of the program's own may stand between two messages
                self.of_line[str(line["uuid"])] = str(line["uuid"])
                self.messages[str(line["uuid"])] = _Message("", [], line.get("parentUuid"), record, None)
            return [LeftOut(record.where, f"line_{line['type']}")]
        message, uuid = line["message"], str(line["uuid"])
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        name = str(message.get("id") or uuid)
        known = self.messages.get(name)
        self.of_line[uuid] = name
        if known is None:
            told = dict(message)
            self.messages[name] = _Message(
                message["role"], blocks, line.get("parentUuid"), record, line.get("timestamp"), told
            )
        else:
            known.content += [block for block in blocks if block not in known.content]
            known.told |= {key: value for key, value in message.items() if value is not None}
        return [LeftOut(record.where, "turn")] if line["type"] == "user" or known is not None else []

    def call(self, name: str) -> Call | LeftOut:
        """Return the call that ended in a message, with all that led to it."""
        message = self.messages[name]
        answer = {**message.told, "id": name, "content": message.content}
        what = said(answer)
        if what.calls_tool and not (what.thinking or what.omitted or what.redacted):
            return LeftOut(message.record.where, "tool_call")
        turns = self._before(message)
        if turns is None:
            return LeftOut(message.record.where, "too_long")
        fields = message_fields(answer, turns)
        fields |= {"timestamp": message.timestamp or message.record.written_at, "kind": _NAME}
        if what.calls_tool:
            fields["stop_reason"] = "tool_use"
        return Call(message.record.where, fields, message.record.value, _NAME, what.calls_tool)

    def _before(self, message: _Message) -> list[dict[str, str]] | None:
        """Return the turns before a message, None where a trace has no room for them."""
        turns: list[dict[str, str]] = []
        characters, line = 0, message.before
        while line is not None and (earlier := self.messages.get(self.of_line.get(str(line), ""))) is not None:
            if earlier.role:
                turns.append({"role": earlier.role, "content": earlier.text()})
                characters += len(turns[-1]["content"])
            if len(turns) > _MAX_TURNS or characters > MAX_LONG_TEXT_CHARACTERS:
                return None
            line = earlier.before
        return turns[::-1]


def _read(records: Iterable[Record]) -> Iterator[Found]:
    session = _Session()
    for record in records:
        yield from guarded(record, session.add)
    for name, message in session.messages.items():
        if message.role == "assistant":
            record = message.record
            yield from guarded(record, lambda _, __, n=name: [session.call(n)])  # type: ignore[misc]


FORMAT = Format(
    "claude-code",
    "session files (JSONL) of Claude Code: every answer with the turns before it",
    _read,
    lambda value: "sessionId" in value or value.get("type") in ("summary", "file-history-snapshot"),
)
