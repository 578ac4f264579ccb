"""The cluster's name on the storage tool's command line."""

from __future__ import annotations

import base64
import uuid

import pytest

from streams.broker.kafka import new_cluster_id


def test_a_cluster_is_named_by_sixteen_bytes_and_never_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [uuid.UUID(bytes=bytes([0xF8]) + bytes(15)), uuid.UUID(bytes=bytes([0xFB]) + bytes(15))]
    usable = uuid.UUID(bytes=bytes(range(16)))
    monkeypatch.setattr("uuid.uuid4", iter([*drawn, usable]).__next__)
    assert [base64.urlsafe_b64encode(one.bytes)[:1] for one in drawn] == [b"-", b"-"]
    name = new_cluster_id()
    assert base64.urlsafe_b64decode(name + "==") == usable.bytes
