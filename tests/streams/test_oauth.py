"""Bearer tokens: what an endpoint answers or a command prints, how long it is kept, what is said without one."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from schemas.settings import KafkaSettings
from streams.kafka import oauth
from streams.kafka.oauth import TokenError, TokenProvider, read_token


def jwt(**claims: Any) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}."


@pytest.mark.parametrize(
    ("answer", "token", "lasts"),
    [
        ('{"access_token": "t", "expires_in": 300, "token_type": "Bearer"}', "t", 300.0),
        (json.dumps({"access_token": jwt(exp=1100)}), jwt(exp=1100), 100.0),
        (jwt(exp=1060.5) + "\n", jwt(exp=1060.5), 60.5),
        ("opaque\n", "opaque", 60.0),
        ("a.!.c", "a.!.c", 60.0),
    ],
)
def test_a_token_lasts_as_long_as_it_says(answer: str, token: str, lasts: float) -> None:
    assert read_token(answer, 1000.0) == (token, lasts)


@pytest.mark.parametrize("answer", ["", "\n", '{"error": "x"}', "[1]", "two words", '{"access_token": 1}', "a\x01b"])
def test_what_is_no_token_is_not_taken_for_one(answer: str) -> None:
    with pytest.raises(TokenError, match="holds none"):
        read_token(answer, 1000.0)


def test_a_token_is_kept_for_most_of_its_life_and_then_another_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter(["first", "second"])
    monkeypatch.setattr(
        oauth, "_run_command", lambda kafka: json.dumps({"access_token": next(given), "expires_in": 100})
    )
    clock = [0.0]
    monkeypatch.setattr(oauth.time, "monotonic", lambda: clock[0])
    provider = TokenProvider(KafkaSettings(oauth_token_command="x"))

    def at(seconds: float) -> str:
        clock[0] = seconds
        return asyncio.run(provider.token())

    assert [at(1.0), at(80.9), at(81.1)] == ["first", "first", "second"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("false", "ends with 1: it says nothing"),
        ("sh -c 'echo no such role >&2; exit 3'", "ends with 3: no such role"),
        ("/nothing/there", "gives no token: .*No such file"),
        ("sh 'unclosed", "gives no token: No closing quotation"),
    ],
)
def test_a_command_that_gives_none_is_told_by_name(command: str, words: str) -> None:
    with pytest.raises(TokenError, match=f"kafka.oauth_token_command {words}"):
        asyncio.run(TokenProvider(KafkaSettings(oauth_token_command=command)).token())
