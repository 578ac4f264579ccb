"""How every aiokafka client reaches the broker, and what becomes of it where it cannot."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.helpers import create_ssl_context

from schemas.errors import ConnectionFailedError, SettingsError
from schemas.secrets import read_secret
from schemas.settings import KafkaSettings, Settings
from streams.kafka.oauth import TokenError, token_provider

OAUTH = "OAUTHBEARER"
MAX_RECORD_BYTES = 8 * 1024 * 1024
"""Producers' `max_request_size`, as large as the topics' `max.message.bytes`."""


def client_options(settings: Settings) -> dict[str, Any]:
    """Return the arguments of an aiokafka producer, consumer or admin client that reach the broker.

    Raises:
        SettingsError: a certificate or the file of the password cannot be used.
    """
    kafka = settings.kafka
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(kafka)
    if kafka.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = kafka.sasl_mechanism
    if options.get("sasl_mechanism") == OAUTH:
        read_secret(kafka.sasl_password, kafka.sasl_password_file, "kafka.sasl_password")  # raises where it cannot
        options["sasl_oauth_token_provider"] = token_provider(kafka)
    elif "sasl_mechanism" in options:
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = read_secret(
            kafka.sasl_password, kafka.sasl_password_file, "kafka.sasl_password"
        )
    return options


def _ssl_context(kafka: KafkaSettings) -> ssl.SSLContext:
    files = {"ssl_cafile": kafka.ssl_cafile, "ssl_certfile": kafka.ssl_certfile, "ssl_keyfile": kafka.ssl_keyfile}
    for name, file in files.items():
        if file is not None and not os.access(file, os.R_OK):
            raise SettingsError(f"kafka.{name} = {file!r} cannot be read", "name a readable PEM file")
    try:
        # With a password, an encrypted key is an error; without one, OpenSSL would ask for it on the terminal.
        context: ssl.SSLContext = create_ssl_context(
            cafile=kafka.ssl_cafile, certfile=kafka.ssl_certfile, keyfile=kafka.ssl_keyfile, password=""
        )
    except (OSError, ssl.SSLError) as error:
        given = " and ".join(f"kafka.{name} = {file!r}" for name, file in files.items() if file is not None)
        raise SettingsError(f"{given} cannot be used: {error.strerror or error}", "name PEM files") from error
    return context


def faust_credentials(settings: Settings) -> Any:
    """Return what Faust's `broker_credentials` takes; None for a plain connection.

    Raises:
        SettingsError: a certificate or the file of the password cannot be used.
    """
    from faust import SASLCredentials, SSLCredentials
    from faust.auth import OAuthCredentials

    options = client_options(settings)
    if provider := options.get("sasl_oauth_token_provider"):
        return OAuthCredentials(oauth_cb=provider, ssl_context=options.get("ssl_context"))
    if "sasl_mechanism" in options:
        return SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=options.get("ssl_context"),
            mechanism=options["sasl_mechanism"],
        )
    return SSLCredentials(options["ssl_context"]) if "ssl_context" in options else None


class _Refusals(logging.Filter):
    """Takes from aiokafka's log why a connection failed: it raises no more than that none could be made."""

    def __init__(self) -> None:
        super().__init__()
        self.latest: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the exception of a first connection, whose line in the log ours replaces."""
        causes = [value for value in record.args or () if isinstance(value, BaseException)]
        if not causes or not str(record.msg).startswith("Unable connect to "):
            return True
        self.latest = causes[-1]
        return False


@contextmanager
def broker_errors(settings: Settings) -> Iterator[None]:
    """Turn what aiokafka raises into one line that names the broker, and what to look at.

    Raises:
        ConnectionFailedError: anything that went wrong between here and the broker.
    """
    refusals, logger = _Refusals(), logging.getLogger("aiokafka")
    logger.addFilter(refusals)
    try:
        yield
    except KafkaError as error:
        cause = refusals.latest if isinstance(error, KafkaConnectionError) else None
        reason, remedy = _explain(cause or error, settings.kafka)
        raise ConnectionFailedError(f"broker {settings.kafka.bootstrap_servers} {reason}", remedy) from error
    finally:
        logger.removeFilter(refusals)


def _explain(error: BaseException, kafka: KafkaSettings) -> tuple[str, str]:
    """Return what the broker did, and what to do about it."""
    if isinstance(error, TokenError):
        return (
            f"is not asked: {error.args[0]}",
            "see kafka.oauth_token_url or kafka.oauth_token_command, and the provider's log",
        )
    if isinstance(error, AuthenticationFailedError | SaslAuthenticationFailed) and kafka.sasl_mechanism == OAUTH:
        return "refuses the token (OAUTHBEARER)", "see what it expects of issuer, audience and scope, and both clocks"
    if isinstance(error, AuthenticationFailedError | SaslAuthenticationFailed):
        return (
            f"refuses user {kafka.sasl_username} with that password ({kafka.sasl_mechanism})",
            "see kafka.sasl_username, kafka.sasl_password or kafka.sasl_password_file, and kafka.sasl_mechanism",
        )
    if isinstance(error, UnsupportedSaslMechanismError | IllegalSaslStateError):
        return f"does not take {kafka.sasl_mechanism} here", "see kafka.sasl_mechanism and kafka.security_protocol"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"shows a certificate that is not trusted: {error.verify_message}",
            "name the PEM file of the authority that signed it with kafka.ssl_cafile",
        )
    if isinstance(error, ssl.SSLError):
        return f"does not agree on TLS: {error.reason}", "see kafka.security_protocol and kafka.ssl_certfile"
    if isinstance(error, KafkaConnectionError) and "closed" in str(error):
        return (
            "closes the connection",
            "see kafka.security_protocol, and kafka.ssl_certfile where it asks for a certificate",
        )
    if isinstance(error, KafkaConnectionError | OSError):
        return (
            "cannot be reached",
            "start one with `tierstream up` or `tierstream broker`, or name another with --bootstrap-servers",
        )
    return f"answers with {error or type(error).__name__}", "look at its log, and name another with --bootstrap-servers"
