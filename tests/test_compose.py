"""docker-compose.yml and Dockerfile, checked without an engine."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.config import load
from schemas.secrets import read_secret
from streams.broker.kafka import server_properties
from streams.cli.main import cli
from streams.topics import ROLES

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
CLOUD = ROOT / "config" / "compose-broker.yml"
OURS = (*ROLES, "trainer")

REQUIRED_OF_KRAFT = {
    "process.roles",
    "node.id",
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "inter.broker.listener.name",
    "controller.listener.names",
    "controller.quorum.voters",
    "log.dirs",
}
"""What a combined broker and controller with two client listeners must be told, the image's defaults being off."""

SCRIPT_VARIABLES = {"KAFKA_HEAP_OPTS"}
"""Read by Kafka's start scripts; the image makes no property of them."""


def kafka_properties() -> dict[str, str]:
    """Return server.properties as the image's documented rule makes them: prefix off, `_` to `.`, lower case."""
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in SERVICES["kafka"]["environment"].items()
        if name.startswith("KAFKA_") and name not in SCRIPT_VARIABLES
    }


def environment(service: str) -> dict[str, str]:
    """Return a service's variables as they are where the caller's shell sets none."""
    return {
        name: re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", str(value))
        for name, value in SERVICES[service]["environment"].items()
    }


def listeners(name: str) -> dict[str, str]:
    return dict(part.split("://") for part in kafka_properties()[name].split(","))


def test_the_clients_own_check_accepts_the_file() -> None:
    command = ["docker", "compose"] if _has_plugin() else ["docker-compose"]
    if shutil.which(command[0]) is None:
        pytest.skip("neither the compose plugin of the docker client nor docker-compose is installed")
    done = subprocess.run(
        [*command, "-f", str(COMPOSE), "config", "--quiet"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("service", OURS)
def test_every_variable_of_ours_is_a_setting(service: str) -> None:
    settings = load(None, environment(service), {}).settings
    assert settings.kafka.bootstrap_servers == "kafka:19092"
    assert (settings.data_dir, settings.state_dir, settings.cache_dir) == ("/data", "/state", "/cache")
    assert (settings.web.host, settings.web.port, settings.web.token) == ("0.0.0.0", 8321, None)


def test_kafka_is_told_all_that_a_node_of_its_own_needs() -> None:
    assert set(kafka_properties()) >= REQUIRED_OF_KRAFT


def test_kafka_is_told_nothing_but_properties_that_the_embedded_broker_or_kraft_knows() -> None:
    embedded = {line.partition("=")[0] for line in server_properties(Path("data"), 9092, 9093).splitlines()}
    assert set(kafka_properties()) <= REQUIRED_OF_KRAFT | embedded


def test_listeners_are_mapped_and_advertised_under_names_that_clients_reach() -> None:
    properties = kafka_properties()
    mapped = dict(part.split(":") for part in properties["listener.security.protocol.map"].split(","))
    assert set(mapped) == set(listeners("listeners")) == {"INTERNAL", "HOST", "CONTROLLER"}
    assert listeners("advertised.listeners") == {"INTERNAL": "kafka:19092", "HOST": "127.0.0.1:9092"}
    assert properties["controller.quorum.voters"] == f"1@kafka{listeners('listeners')['CONTROLLER']}"
    assert SERVICES["kafka"]["hostname"] == "kafka"


def test_one_broker_holds_one_copy_of_everything() -> None:
    copies = {name: value for name, value in kafka_properties().items() if name.endswith(("factor", "min.isr"))}
    assert len(copies) == 6
    assert set(copies.values()) == {"1"}


def test_the_cluster_id_is_sixteen_bytes() -> None:
    assert len(base64.urlsafe_b64decode(SERVICES["kafka"]["environment"]["CLUSTER_ID"] + "==")) == 16


def test_kafka_keeps_its_data_on_a_named_volume() -> None:
    assert SERVICES["kafka"]["volumes"] == [f"kafka-data:{kafka_properties()['log.dirs']}"]


def test_the_image_is_the_version_of_the_embedded_broker() -> None:
    pinned = tomllib.loads((ROOT / "config" / "kafka-jars.toml").read_text("utf-8"))["kafka"]
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{pinned}"


def test_our_services_share_one_data_volume() -> None:
    assert all("tierstream-data:/data" in SERVICES[service]["volumes"] for service in OURS)


def test_each_role_is_a_service_and_what_needs_torch_has_the_image_with_it() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    small, full = f"tierstream-stream:{version}", f"tierstream:{version}"
    assert {name: SERVICES[name]["image"] for name in OURS} == {
        "join": small, "scorer": full, "pairs": small, "traces": small, "trainer": full
    }  # fmt: skip
    assert {name: SERVICES[name]["command"] for name in ROLES} == {name: ["worker", "--roles", name] for name in ROLES}
    targets = {name: SERVICES[name]["build"].get("target") for name in OURS}
    assert targets == {"join": "stream", "scorer": None, "pairs": "stream", "traces": "stream", "trainer": None}
    assert re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE)[-2:] == ["stream", "full"]


@pytest.mark.parametrize("service", OURS)
def test_our_services_are_limited_in_memory(service: str) -> None:
    assert re.fullmatch(r"\dg", SERVICES[service]["deploy"]["resources"]["limits"]["memory"])


def test_with_a_broker_elsewhere_every_service_has_its_password_as_a_mounted_secret(tmp_path: Path) -> None:
    cloud = yaml.safe_load(CLOUD.read_text("utf-8"))
    assert set(cloud["services"]) == set(OURS)
    (tmp_path / "password").write_text("hush\n")
    for service in OURS:
        variables = {name: str(value) for name, value in cloud["services"][service]["environment"].items()}
        variables["TIERSTREAM_KAFKA__BOOTSTRAP_SERVERS"] = "broker.example:9093"
        variables["TIERSTREAM_KAFKA__SASL_USERNAME"] = "tierstream"
        file = variables["TIERSTREAM_KAFKA__SASL_PASSWORD_FILE"]
        assert file == f"/run/secrets/{cloud['services'][service]['secrets'][0]}"
        variables["TIERSTREAM_KAFKA__SASL_PASSWORD_FILE"] = str(tmp_path / "password")
        kafka = load(None, {**environment(service), **variables}, {}).settings.kafka
        assert read_secret(kafka.sasl_password, kafka.sasl_password_file, "kafka.sasl_password") == "hush"
        assert (kafka.security_protocol, kafka.sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    assert set(cloud["secrets"]) == {"kafka-password"}


@pytest.mark.parametrize("service", OURS)
def test_our_services_start_once_kafka_is_healthy(service: str) -> None:
    assert SERVICES[service]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert SERVICES[service]["command"][0] in cli.commands


@pytest.mark.parametrize("service", ["kafka", *OURS])
def test_every_service_is_restarted_and_has_a_health_check(service: str) -> None:
    assert SERVICES[service]["restart"] == "unless-stopped"
    check = SERVICES[service]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert set(check) == {"test", "interval", "timeout", "retries", "start_period"}


@pytest.mark.parametrize("service", ROLES)
def test_a_workers_check_asks_for_readiness_on_its_own_port(service: str) -> None:
    [_, python, flag, code] = SERVICES[service]["healthcheck"]["test"]
    assert (python, flag) == ("python", "-c")
    compile(code, "healthcheck", "exec")
    assert f"http://127.0.0.1:{environment(service)['TIERSTREAM_WEB__PORT']}/readyz" in code


def test_the_workers_check_fails_where_nothing_answers() -> None:
    code = SERVICES["join"]["healthcheck"]["test"][3].replace(":8321/", ":1/")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 1


def test_the_trainers_check_is_a_command_of_ours() -> None:
    [_, program, command, role] = SERVICES["trainer"]["healthcheck"]["test"]
    assert (program, role) == ("tierstream", "trainer")
    assert command in cli.commands


@pytest.mark.parametrize("service", ["kafka", *OURS])
def test_ports_are_published_on_loopback_only(service: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[service].get("ports", []))


@pytest.mark.parametrize("service", OURS)
def test_a_worker_may_drain_before_it_is_killed(service: str) -> None:
    drain = load(None, environment(service), {}).settings.stream.drain_timeout
    assert float(SERVICES[service]["stop_grace_period"].removesuffix("s")) > drain


def test_the_dockerfile_pins_its_base_and_the_dependencies() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    bases = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) - stages
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases.pop())
    assert DOCKERFILE.count("-c constraints.txt -r pyproject.toml") == 2


@pytest.mark.parametrize("image", ["stream", "full"])
def test_the_image_does_not_run_as_root(image: str) -> None:
    final = DOCKERFILE.partition(f"FROM base AS {image}\n")[2].partition("FROM ")[0]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)


def test_the_dockerfile_copies_what_is_there_and_what_the_build_may_see() -> None:
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def _has_plugin() -> bool:
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=30, check=False)
    return done.returncode == 0
