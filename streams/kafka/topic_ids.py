"""The ids that a broker gives its topics: one that is deleted and made again has another.

aiokafka asks for metadata up to version 5, and ids come from version 10 on: so its request is extended to that one.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from io import BytesIO
from typing import Any, ClassVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

_NONE = uuid.UUID(int=0)
"""What a broker answers that has no ids."""
_METADATA, _VERSION = 3, 10


class _Uuid:
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


_TEXT = CompactString("utf-8")
_NUMBERS = CompactArray(Int32)
_BROKER = (("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields))
_PARTITION = (
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", _NUMBERS),
    ("isr", _NUMBERS),
    ("offline_replicas", _NUMBERS),
    ("tags", TaggedFields),
)
_TOPIC = (
    ("error_code", Int16),
    ("topic", _TEXT),
    ("topic_id", _Uuid),
    ("is_internal", Boolean),
    ("partitions", CompactArray(*_PARTITION)),
    ("authorized_operations", Int32),
    ("tags", TaggedFields),
)


class _Answer(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = _METADATA, _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(*_BROKER)),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        ("topics", CompactArray(*_TOPIC)),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION = _METADATA, _VERSION
    FLEXIBLE_VERSION: ClassVar[bool] = True
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("topic", _TEXT), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _AllTopics(Request[_Question]):  # type: ignore[misc]
    API_KEY = _METADATA

    def build(self, request_struct_class: type[_Question]) -> Any:
        return request_struct_class(None, False, False, False, {})


async def topic_ids(client: AIOKafkaAdminClient) -> Mapping[str, str]:
    """Return the id of each topic that is there; none where the broker is too old to have any."""
    try:
        answer = await client._send_request(_AllTopics())
    except (IncompatibleBrokerVersion, NotImplementedError):
        return {}
    return {
        name: str(topic_id) for code, name, topic_id, *_ in answer.topics if code == 0 and topic_id not in (None, _NONE)
    }
