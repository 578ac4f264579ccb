"""Conversations as ShareGPT's, with LLaMA-Factory's extensions: preferences, and a thumb in `label`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.imports.found import Format, Found, LeftOut, Record, Score, reading
from streams.imports.messages import ROLES, part
from streams.imports.openai import call_of, compared
from streams.imports.values import content_id, time_of


def _each(record: Record, value: Mapping[str, Any]) -> list[Found]:
    turns = value["conversations"]
    if value.get("system"):
        turns = [{"from": "system", "value": value["system"]}, *turns]
    if "chosen" in value and "rejected" in value:
        return compared(record, "sharegpt", turns, value["chosen"], value["rejected"])
    last = max((n for n, one in enumerate(turns) if ROLES.get(_role(one)) == "assistant"), default=0)
    if not last:
        return [LeftOut(record.where, "no_answer")]
    asked, answer = turns[:last], turns[last]
    call_id = str(value["id"]) if value.get("id") else content_id("sharegpt", asked, answer)
    call = call_of(record, call_id, asked, answer, timestamp=time_of(record, value))
    found: list[Found] = [call._replace(calls_tool=_role(answer) == "function_call")]
    if isinstance(value.get("label"), bool):
        found.append(Score(record.where, f"{call_id}-label", (call_id,), value["label"], call.fields["timestamp"]))
    return found


def _role(turn: Any) -> str:
    return str(part(turn, "from") or part(turn, "role"))


FORMAT = Format(
    "sharegpt",
    "conversations of {from, value}; chosen and rejected answers, and true or false in `label`",
    reading(_each),
    lambda value: isinstance(value.get("conversations"), list),
)
