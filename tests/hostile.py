"""Records as a hostile, careless or foreign producer writes them, drawn from a seed: any codec, header, key or time."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.streams.test_stream_live import experience, feedback, trace

TOPICS = ("experiences", "feedback", "claude-traces")
CODECS = (None, "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True)
class Hostile:
    """A record to be published."""

    topic: str
    """Without the prefix."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int | None
    codec: str | None


def records(seed: int, count: int) -> Iterator[Hostile]:
    """Draw records; about half of them hold an event that can be used, and some of those come again."""
    rng = random.Random(seed)
    for number in range(count):
        topic = rng.choice(TOPICS)
        event = _event(rng, topic, number)
        value = json.dumps(event, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
        if rng.random() < 0.5:
            value = rng.choice(_SPOILS)(rng, event, value)  # type: ignore[operator]
        key = _key(rng, event)
        if value is None:
            key = key or b"none"  # a client refuses a record without both
        yield Hostile(topic, key, value, _headers(rng), _time(rng), rng.choice(CODECS))


def _event(rng: random.Random, topic: str, number: int) -> dict[str, Any]:
    again = rng.randrange(number + 1) if rng.random() < 0.05 else number
    if topic == "feedback":
        event = feedback(again, of=rng.randrange(number + 1), source=rng.choice(["user", "evaluator", "implicit"]))
    else:
        event = (experience if topic == "experiences" else trace)(again)  # type: ignore[assignment]
    said: dict[str, Any] = json.loads(event.to_json())
    if rng.random() < 0.1:
        said["metadata"] = {"note": "\x1b]52;c;AAAA\x07\u202e", "n": 10**30}
    return said


def _key(rng: random.Random, event: dict[str, Any]) -> bytes | None:
    right = str(event.get("experience_id") or event.get("trace_id")).encode()
    return rng.choice([right, right, None, b"", rng.randbytes(8), b"k" * 3000, b"\0"])


def _headers(rng: random.Random) -> tuple[tuple[str, bytes | None], ...]:
    forms: list[tuple[tuple[str, bytes | None], ...]] = [
        (),
        (("traceparent", b"00-1-2-01"),),
        (("", b""),),
        (("null", None),),
        tuple((f"h{n}", rng.randbytes(4)) for n in range(60)),
        (("same", b"1"), ("same", b"2")),
        (("tierstream-attempt", rng.choice([b"99999999999999999999", b"-1", b"x", b"", b"7"])),),
        (("\u0000\u001b[31m", b"\xff"),),
    ]
    return rng.choice(forms)


def _time(rng: random.Random) -> int | None:
    return rng.choice([None, None, 0, 1, 2**41, 1_700_000_000_000])


def _other_type(rng: random.Random, event: dict[str, Any], value: bytes) -> bytes:
    name = rng.choice(list(event))
    return json.dumps({**event, name: rng.choice([None, True, -1, 1e308, [], {}, "x" * 5000, [[[]]], "\x00"])}).encode()


def _missing(rng: random.Random, event: dict[str, Any], value: bytes) -> bytes:
    return json.dumps({name: said for name, said in event.items() if name != rng.choice(list(event))}).encode()


_SPOILS = (
    _other_type,
    _other_type,
    _missing,
    lambda rng, event, value: value[: rng.randrange(len(value))],
    lambda rng, event, value: rng.randbytes(rng.randrange(200)),
    lambda rng, event, value: None,
    lambda rng, event, value: b"",
    lambda rng, event, value: b"[" * rng.choice([10, 2000, 100_000]),
    lambda rng, event, value: b"\xef\xbb\xbf" + value,
    lambda rng, event, value: value.decode("utf-8", "replace").encode("utf-16"),
    lambda rng, event, value: value[:-1] + b',"extra":"\\ud800"}',
    lambda rng, event, value: value[:-1] + b',"extra":NaN}',
    lambda rng, event, value: json.dumps({**event, "schema_version": rng.choice([True, 2, "1", 10**40])}).encode(),
    lambda rng, event, value: json.dumps(
        {**event, "embedding": rng.choice([[True] * 384, [1e9] * 384, "AAAA"])}
    ).encode(),
    lambda rng, event, value: value + b" " * 300_000,
)
"""What is done to a value."""
