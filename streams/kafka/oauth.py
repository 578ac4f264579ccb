"""Bearer tokens for SASL/OAUTHBEARER: from an OIDC token endpoint, or from a command for whatever else gives them.

One that is about to expire is replaced at the next connection. Where the broker bounds a session by its token
(`connections.max.reauth.ms`), it closes the connection at the end, and the clients come back with a new one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shlex
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator
from aiokafka.errors import KafkaError

from schemas.errors import SettingsError
from schemas.secrets import read_secret
from schemas.settings import KafkaSettings

_TIMEOUT_SECONDS = 10.0
_COMMAND_SECONDS = 30.0
_MAX_ANSWER_BYTES = 256 * 1024
_SHARE_OF_LIFE = 0.8
"""A token is replaced once so much of its life is over."""
_UNKNOWN_LIFE_SECONDS = 60.0
"""Of a token that says nothing of its end."""


class TokenError(KafkaError):  # type: ignore[misc]
    """There is no token to be had; its text says why and what to look at."""


class _Authenticator(OAuthAuthenticator):  # type: ignore[misc]
    """Answers a refusal as RFC 7628, section 3.2.3, has it, so that it comes to an error.

    aiokafka's own takes the refusal for the end, and the broker then closes the connection without a word.
    """

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        """Send the token; nothing to an empty answer, which is consent."""
        if payload:
            return b"\x01", True
        answer: tuple[bytes, bool] | None = await super().step(payload)
        return answer


def _authenticator(connection: Any) -> _Authenticator:
    return _Authenticator(sasl_oauth_token_provider=connection._sasl_oauth_token_provider)


AIOKafkaConnection.authenticator_oauth = _authenticator


class Token(NamedTuple):
    """A bearer token and how long it lasts."""

    text: str
    lasts_seconds: float


@cache
def token_provider(kafka: KafkaSettings) -> TokenProvider:
    """Return the one provider of this process: all clients share its token."""
    return TokenProvider(kafka)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows none: the client's secret would go along."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Leave it an error."""


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """Hands the token to aiokafka at each connection, and gets another one before its end.

    Args:
        kafka: settings of the connection.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._lock = threading.Lock()
        self._token, self._until = "", 0.0

    async def token(self) -> str:
        """Return a token that is valid for a while.

        Raises:
            TokenError: none can be had.
        """
        return await asyncio.to_thread(self._current)

    def _current(self) -> str:
        with self._lock:
            if time.monotonic() >= self._until:
                asked = time.monotonic()
                answer = _ask_endpoint(self._kafka) if self._kafka.oauth_token_url else _run_command(self._kafka)
                self._token, lasts = read_token(answer, time.time())
                self._until = asked + _SHARE_OF_LIFE * lasts
            return self._token


def read_token(answer: str, now: float) -> Token:
    """Read what an endpoint answers, or a command prints: `{"access_token": ..., "expires_in": ...}`, or a bare token.

    Args:
        answer: the text.
        now: epoch seconds.

    Raises:
        TokenError: it is neither.
    """
    try:
        content = json.loads(answer)
    except ValueError:
        content = {"access_token": answer.strip()}
    text = content.get("access_token") if isinstance(content, dict) else None
    if not isinstance(text, str) or not text.isprintable() or " " in text or not text:
        raise TokenError("the answer for a bearer token holds none")
    lasts = content.get("expires_in")
    if not isinstance(lasts, int | float):
        until = _claims(text).get("exp")
        lasts = until - now if isinstance(until, int | float) else _UNKNOWN_LIFE_SECONDS
    return Token(text, float(lasts))


def _claims(token: str) -> Mapping[str, Any]:
    """Return what a JWT says of itself, unverified: that is the broker's business; nothing of any other token."""
    parts = token.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _ask_endpoint(kafka: KafkaSettings) -> str:
    """Ask by the client-credentials grant (RFC 6749, section 4.4)."""
    try:
        secret = read_secret(kafka.sasl_password, kafka.sasl_password_file, "kafka.sasl_password") or ""
    except SettingsError as error:
        raise TokenError(str(error)) from None
    pair = ":".join(urllib.parse.quote_plus(part) for part in (kafka.sasl_username or "", secret))
    form = {"grant_type": "client_credentials"} | ({"scope": kafka.oauth_scope} if kafka.oauth_scope else {})
    url = str(kafka.oauth_token_url)
    request = urllib.request.Request(
        url,
        urllib.parse.urlencode(form).encode(),
        {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}", "Accept": "application/json"},
    )
    context = ssl.create_default_context()
    if kafka.ssl_cafile is not None:
        context.load_verify_locations(kafka.ssl_cafile)  # beside those of the system
    try:
        opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
            return str(answer.read(_MAX_ANSWER_BYTES).decode(errors="replace"))
    except urllib.error.HTTPError as error:
        with error:
            raise TokenError(
                f"{url} gives client {kafka.sasl_username} no token: {error.code} {error.reason}"
            ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise TokenError(f"{url} cannot be asked for a token: {reason}") from None


def _run_command(kafka: KafkaSettings) -> str:
    command = str(kafka.oauth_token_command)
    try:
        done = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise TokenError(f"kafka.oauth_token_command gives no token: {error}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise TokenError(f"kafka.oauth_token_command ends with {done.returncode}: {last}")
    return done.stdout
