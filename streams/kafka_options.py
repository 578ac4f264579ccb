"""How every aiokafka client reaches the broker, and what becomes of it where it cannot."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.helpers import create_ssl_context

from schemas.errors import ConnectionFailedError, SettingsError
from schemas.settings import Settings

MAX_RECORD_BYTES = 8 * 1024 * 1024
"""Producers' `max_request_size`, as large as the topics' `max.message.bytes`."""


def client_options(settings: Settings) -> dict[str, Any]:
    """Return the arguments of an aiokafka producer, consumer or admin client that reach the broker.

    Raises:
        SettingsError: `kafka.ssl_cafile` cannot be read.
    """
    kafka = settings.kafka
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.endswith("SSL"):
        try:
            options["ssl_context"] = create_ssl_context(cafile=kafka.ssl_cafile)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"kafka.ssl_cafile = {kafka.ssl_cafile!r} cannot be used: {error.strerror}", "name a readable PEM file"
            ) from error
    if kafka.security_protocol.startswith("SASL"):
        assert kafka.sasl_password is not None  # the settings' own check
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password.get_secret_value()
    return options


def faust_credentials(settings: Settings) -> Any:
    """Return what Faust's `broker_credentials` takes; None for a plain connection.

    Raises:
        SettingsError: `kafka.ssl_cafile` cannot be read.
    """
    from faust import SASLCredentials, SSLCredentials

    options = client_options(settings)
    if "sasl_mechanism" in options:
        return SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=options.get("ssl_context"),
            mechanism=options["sasl_mechanism"],
        )
    return SSLCredentials(options["ssl_context"]) if "ssl_context" in options else None


@contextmanager
def broker_errors(settings: Settings) -> Iterator[None]:
    """Turn what aiokafka raises into one line that names the broker.

    Raises:
        ConnectionFailedError: anything that went wrong between here and the broker.
    """
    try:
        yield
    except KafkaError as error:
        lost = isinstance(error, KafkaConnectionError)
        reason = "cannot be reached" if lost else f"answers with {error or type(error).__name__}"
        raise ConnectionFailedError(
            f"broker {settings.kafka.bootstrap_servers} {reason}",
            "start one with `tierstream up` or `tierstream broker`, or name another with --bootstrap-servers",
        ) from error
