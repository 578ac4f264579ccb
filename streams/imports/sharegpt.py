"""Conversations as ShareGPT's, with LLaMA-Factory's extensions: preferences, and a thumb in `label`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.imports.found import Format, Found, LeftOut, Record, Score, reading
from streams.imports.messages import last_answer, role_of
from streams.imports.openai import call_of, compared
from streams.imports.values import content_id, time_of


def _each(record: Record, value: Mapping[str, Any]) -> list[Found]:
    turns = value["conversations"]
    if value.get("system"):
        turns = [{"from": "system", "value": value["system"]}, *turns]
    if "chosen" in value and "rejected" in value:
        return compared(record, "sharegpt", turns, value["chosen"], value["rejected"])
    if (found_answer := last_answer(turns)) is None:
        return [LeftOut(record.where, "no_answer")]
    asked, answer = found_answer
    call_id = str(value["id"]) if value.get("id") else content_id("sharegpt", found_answer)
    call = call_of(record, call_id, asked, answer, timestamp=time_of(record, value))
    found: list[Found] = [call._replace(calls_tool=role_of(answer) == "function_call")]
    if isinstance(value.get("label"), bool):
        found.append(Score(record.where, f"{call_id}-label", (call_id,), value["label"], call.fields["timestamp"]))
    return found


FORMAT = Format(
    "sharegpt",
    "conversations of {from, value}; chosen and rejected answers, and true or false in `label`",
    reading(_each),
    lambda value: isinstance(value.get("conversations"), list),
)
