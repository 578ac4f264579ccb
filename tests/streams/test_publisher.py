"""Partitioning that needs no broker."""

from __future__ import annotations

from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.publisher import _murmur2, partition_for


@given(key=st.binary(max_size=80), partitions=st.integers(1, 64))
def test_partitions_agree_with_the_default_partitioner(key: bytes, partitions: int) -> None:
    assert _murmur2(key) == murmur2(key) & 0xFFFFFFFF
    assert partition_for(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


def test_hash_is_the_java_clients() -> None:
    java = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    assert {key: _murmur2(key) for key in java} == {key: value & 0xFFFFFFFF for key, value in java.items()}
