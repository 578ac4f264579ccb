"""The embedded Apache Kafka with listeners that ask who is there: TLS, SCRAM, PLAIN and client certificates."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from schemas.settings import BrokerSettings, Settings
from streams.broker import kafka
from streams.broker.embedded import EmbeddedBroker
from streams.broker.launch import LOOPBACK, free_port
from tests.certificates import Authority

USER = "stream"
PASSWORD = "corr3ct-h0rse-battery-staple"
LISTENERS = ("SECURE", "CLEAR", "MUTUAL", "BEARER")
SESSION_SECONDS = 5
"""The longest that the listener for bearer tokens keeps a connection."""
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_ACCESS = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class SecuredBroker:
    plain: str
    """`HOST:PORT` of the listener that lets everybody in."""
    sasl_ssl: str
    sasl_plaintext: str
    mutual: str
    """`HOST:PORT` of the listener that asks for a client's certificate."""
    bearer: str
    """`HOST:PORT` of the listener that takes unsecured JWTs, and closes a session with its token."""
    authority: Authority
    client: tuple[Path, Path]
    """A certificate that the broker trusts, and its key."""

    def settings(self, mechanism: str = "SCRAM-SHA-512") -> dict[str, Any]:
        """Return what `kafka` settings reach the listener with TLS and SASL, but for the password."""
        return {
            "bootstrap_servers": self.sasl_ssl,
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": mechanism,
            "sasl_username": USER,
            "ssl_cafile": str(self.authority.certificate),
        }


@contextmanager
def secured_broker(folder: Path) -> Iterator[SecuredBroker]:
    """Run it until the end of the block."""
    authority = Authority(folder, "authority")
    ports = {name: free_port() for name in LISTENERS}
    original = kafka.server_properties

    def properties(data: Path, port: int, controller_port: int) -> str:
        return original(data, port, controller_port) + _further(folder, authority, port, controller_port, ports)

    settings = Settings(
        data_dir=str(folder),
        cache_dir=os.environ.get("TIERSTREAM_CACHE_DIR"),
        broker=BrokerSettings(kind="kafka", port=0),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka, "server_properties", properties)
        with EmbeddedBroker(settings) as running:
            _add_scram_user(running.bootstrap)
            places = [f"{LOOPBACK}:{ports[name]}" for name in LISTENERS]
            yield SecuredBroker(running.bootstrap, *places, authority, authority.sign("client"))


def _further(folder: Path, authority: Authority, port: int, controller_port: int, ports: dict[str, int]) -> str:
    """Return properties that replace those of the same name before them."""
    certificate, key = authority.sign("server")
    store = folder / "server-store.pem"
    store.write_bytes(key.read_bytes() + certificate.read_bytes())
    everywhere = {"PLAINTEXT": port, "CONTROLLER": controller_port, **ports}
    listeners = ",".join(f"{name}://{LOOPBACK}:{number}" for name, number in everywhere.items())
    protocols = {"SECURE": "SASL_SSL", "CLEAR": "SASL_PLAINTEXT", "MUTUAL": "SSL", "BEARER": "SASL_PLAINTEXT"}
    values = {
        "listeners": listeners,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": ",".join(f"{name}:{protocols.get(name, 'PLAINTEXT')}" for name in everywhere),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": store,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": authority.certificate,
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.bearer.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.bearer.oauthbearer.connections.max.reauth.ms": SESSION_SECONDS * 1000,
        "listener.name.bearer.oauthbearer.sasl.jaas.config": (
            f'{_ACCESS}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        ),
    }
    for name in ("secure", "clear"):
        prefix = f"listener.name.{name}"
        values[f"{prefix}.sasl.enabled.mechanisms"] = ",".join(MECHANISMS)
        values[f"{prefix}.plain.sasl.jaas.config"] = (
            f'{_ACCESS}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        )
        for mechanism in MECHANISMS[1:]:
            values[f"{prefix}.{mechanism.lower()}.sasl.jaas.config"] = f"{_ACCESS}.scram.ScramLoginModule required;"
    return "".join(f"{key}={value}\n" for key, value in values.items())


def _add_scram_user(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        change = UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(30)
