"""The items of an experience: its widgets, then its reply."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from schemas.events import VOICE_ITEM_ID, Experience, ItemType, Widget


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is scored."""

    item_id: str
    item_type: ItemType
    kind: str
    """The widget's type, or `voice`."""
    text: str
    """Everything that the item says: a widget's type, text and arguments, or the reply."""
    body: str
    """The text without the widget's type and arguments' names."""
    position: int
    widget: Widget | None


def _flat(value: JsonValue, names: bool) -> str:
    if isinstance(value, dict):
        return " ".join(
            f"{key} {_flat(inner, names)}" if names else _flat(inner, names) for key, inner in value.items()
        )
    if isinstance(value, list):
        return " ".join(_flat(inner, names) for inner in value)
    return "" if value is None else str(value)


def items_of(experience: Experience) -> list[Item]:
    """Return the widgets in order, then the reply where there is one."""
    items = []
    for position, widget in enumerate(experience.widget_plan):
        text = f"{widget.widget_type} {widget.text} {_flat(widget.params, names=True)}"
        body = f"{widget.text} {_flat(widget.params, names=False)}"
        items.append(Item(widget.widget_id, "widget", widget.widget_type, text, body, position, widget))
    reply = experience.voice_reply
    if reply is not None:
        items.append(Item(VOICE_ITEM_ID, "voice", VOICE_ITEM_ID, reply, reply, len(items), None))
    return items
