"""Fetching the pinned jars: once, checked, and with a reason where it fails."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import BrokerError, JarsUnavailableError
from streams.broker.jars import jar_path, kafka_jars, pinned

JARS = {"org.one:one:1.0": b"first", "org.two:two:2.0": b"second"}
PINS = {name: hashlib.sha256(content).hexdigest() for name, content in JARS.items()}


class FakeMaven:
    """Writes what it is told to, as jgo's resolvers do."""

    def __init__(self, jars: dict[str, bytes]) -> None:
        self.jars = jars
        self.fetched: list[str] = []

    def download(self, artifact: Any) -> Path:
        name = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
        if name not in self.jars:
            raise RuntimeError(f"{name} not found in remote repositories\nmore")
        self.fetched.append(name)
        path: Path = artifact.cached_path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.jars[name])
        return path


def test_jars_are_fetched_once(tmp_path: Path) -> None:
    maven, said = FakeMaven(JARS), list[str]()
    paths = kafka_jars(tmp_path, said.append, PINS, maven)
    assert [path.read_bytes() for path in paths] == [b"first", b"second"]
    assert kafka_jars(tmp_path, said.append, PINS, maven) == paths
    assert sorted(maven.fetched) == sorted(JARS)
    assert said == [f"fetching Apache Kafka, once: 2 jars into {tmp_path / 'maven'}", "fetched 2 of 2 jars"]


def test_torn_jar_is_fetched_again(tmp_path: Path) -> None:
    maven = FakeMaven(JARS)
    paths = kafka_jars(tmp_path, lambda line: None, PINS, maven)
    paths[0].write_bytes(b"fir")
    kafka_jars(tmp_path, lambda line: None, PINS, maven)
    assert paths[0].read_bytes() == b"first"
    assert len(maven.fetched) == 3


def test_jar_that_cannot_be_fetched_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(JarsUnavailableError) as refused:
        kafka_jars(tmp_path, lambda line: None, PINS, FakeMaven({"org.one:one:1.0": b"first"}))
    assert "org.two:two:2.0: org.two:two:2.0 not found in remote repositories" in str(refused.value)
    assert "--broker lite" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_jar_with_another_hash_is_refused_and_removed(tmp_path: Path) -> None:
    with pytest.raises(JarsUnavailableError, match=r"org\.two:two:2\.0 has another SHA-256"):
        kafka_jars(tmp_path, lambda line: None, PINS, FakeMaven({**JARS, "org.two:two:2.0": b"other"}))
    assert not jar_path(tmp_path / "maven", "org.two:two:2.0").exists()


def test_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match=r"file cannot be written: Not a directory"):
        kafka_jars(tmp_path / "file", lambda line: None, PINS, FakeMaven(JARS))


def test_pins_name_one_version_of_each_jar() -> None:
    artifacts = [name.rpartition(":")[0] for name in pinned()]
    assert len(artifacts) == len(set(artifacts))
    assert "org.apache.kafka:kafka_2.13" in artifacts
    assert all(len(sha) == 64 for sha in pinned().values())
