"""Secrets in files: what is read, what is refused, and that no message repeats one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from schemas.config import load
from schemas.errors import SettingsError
from schemas.secrets import read_secret
from schemas.settings import is_loopback


def test_a_secret_is_the_setting_or_the_files_line(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(" with spaces \r\n")
    assert read_secret(None, None, "web.token") is None
    assert read_secret(SecretStr("s"), None, "web.token") == "s"
    assert read_secret(None, str(file), "web.token") == " with spaces "


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo\n", b"x" * 20_000, b"hunter2\xff"])
def test_a_file_without_one_line_of_text_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        read_secret(None, str(file), "kafka.sasl_password")
    assert str(refused.value).startswith(f"kafka.sasl_password_file = '{file}' ")
    assert "hunter" not in str(refused.value)
    assert "xx" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent' cannot be read: No such file or directory; name a file"):
        read_secret(None, str(tmp_path / "absent"), "web.token")


OAUTH = {"kafka.security_protocol": "SASL_SSL", "kafka.sasl_mechanism": "OAUTHBEARER"}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"web.token": "a", "web.token_file": "b"}, "web: token and token_file are both set: keep one of them"),
        (
            {"kafka.sasl_password": "a", "kafka.sasl_password_file": "b"},
            "sasl_password and sasl_password_file are both",
        ),
        ({"kafka.security_protocol": "SASL_SSL", "kafka.sasl_username": "u"}, "needs sasl_username and sasl_password"),
        ({**OAUTH, "kafka.sasl_username": "c"}, "needs one of oauth_token_url and oauth_token_command"),
        ({**OAUTH, "kafka.oauth_token_url": "https://a.example.org"}, "needs sasl_username and sasl_password"),
        (
            {**OAUTH, "kafka.oauth_token_url": "http://a.example.org"},
            "oauth_token_url http://a.example.org is not https: the client's secret is sent there",
        ),
        ({"kafka.ssl_certfile": "c.pem"}, "kafka: ssl_certfile and ssl_keyfile go together"),
        ({"web.host": "0.0.0.0"}, "web: host 0.0.0.0 can be reached from other machines, and there is neither token"),
        ({"web.host": "::"}, "web: host :: can be reached"),
        ({"web.host": "localhost.example.org"}, "web: host localhost.example.org can be reached"),
    ],
)
def test_settings_that_would_leave_a_door_open_are_refused(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(None, {}, overrides)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("secret", [{"web.token": "a"}, {"web.token_file": "b"}])
def test_other_machines_may_ask_where_there_is_a_token(secret: dict[str, str]) -> None:
    assert load(None, {}, {"web.host": "0.0.0.0", **secret}).settings.web.host == "0.0.0.0"


def test_loopback_is_this_machine_alone() -> None:
    hosts = ["127.0.0.1", "127.1.2.3", "::1", "localhost", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.org", ""]
    assert [host for host in hosts if is_loopback(host)] == ["127.0.0.1", "127.1.2.3", "::1", "localhost"]
