"""config/kubernetes, put together as `kubectl apply -k` does it, and held against Kubernetes' own schemas."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from schemas.config import load
from streams.cli.main import cli
from streams.topics import ROLES

FOLDER = Path(__file__).parents[1] / "config" / "kubernetes"
VERSION = "1.34"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    folder = tmp_path_factory.mktemp("kubernetes") / "k"
    shutil.copytree(FOLDER, folder)
    (folder / "web-token").write_text("a-token-of-this-test")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def workloads(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] in ("StatefulSet", "Deployment")}


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def test_every_object_is_as_kubernetes_wants_it(objects: list[dict[str, Any]]) -> None:
    for one in objects:
        kubernetes_validate.validate(one, VERSION, strict=True)
    kinds = Counter(one["kind"] for one in objects)
    assert kinds == {
        "Namespace": 1, "ConfigMap": 1, "Secret": 1, "PersistentVolumeClaim": 1, "Service": 1, "StatefulSet": 2,
        "Deployment": 3,
    }  # fmt: skip


def test_an_object_that_kubernetes_would_refuse_is_found(objects: list[dict[str, Any]]) -> None:
    broken = {**workloads(objects)["scorer"]}
    broken["spec"] = {**broken["spec"], "replicas": "two"}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSION, strict=True)


def test_every_role_and_the_trainer_run_a_command_of_ours(objects: list[dict[str, Any]]) -> None:
    found = {name: pod(one)["containers"][0]["args"] for name, one in workloads(objects).items()}
    assert found == {role: ["worker", "--roles", role] for role in ROLES} | {"trainer": ["trainer"]}
    assert {arguments[0] for arguments in found.values()} <= set(cli.commands)
    images = {name: pod(one)["containers"][0]["image"].partition(":")[0] for name, one in workloads(objects).items()}
    assert images == {
        "join": "tierstream-stream", "pairs": "tierstream-stream", "traces": "tierstream-stream",
        "scorer": "tierstream", "trainer": "tierstream",
    }  # fmt: skip


def test_every_variable_is_a_setting_and_reaches_every_pod(objects: list[dict[str, Any]]) -> None:
    [config] = [one for one in objects if one["kind"] == "ConfigMap"]
    image = {"TIERSTREAM_DATA_DIR": "/data", "TIERSTREAM_STATE_DIR": "/state", "TIERSTREAM_CACHE_DIR": "/cache"}
    settings = load(None, {**image, **config["data"]}, {}).settings
    assert (settings.kafka.bootstrap_servers, settings.topics.replication_factor) == ("kafka:9092", 3)
    assert (settings.web.host, settings.web.port) == ("0.0.0.0", 8321)
    for one in workloads(objects).values():
        assert pod(one)["containers"][0]["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]


def test_data_is_shared_and_state_is_a_pods_own(objects: list[dict[str, Any]]) -> None:
    [claim] = [one for one in objects if one["kind"] == "PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for one in workloads(objects).values():
        volumes = {volume["name"]: volume for volume in pod(one)["volumes"]}
        assert volumes["data"]["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
        own = {claimed["metadata"]["name"] for claimed in one["spec"].get("volumeClaimTemplates", ())}
        assert ("state" in own) != ("state" in volumes)
        mounted = {mount["name"]: mount["mountPath"] for mount in pod(one)["containers"][0]["volumeMounts"]}
        assert mounted == {
            "data": "/data", "state": "/state", "cache": "/cache", "tmp": "/tmp", "secrets": "/secrets"
        }  # fmt: skip


def test_no_pod_is_root_or_unlimited_and_each_is_looked_after(objects: list[dict[str, Any]]) -> None:
    drain = load(None, {}, {}).settings.stream.drain_timeout
    for name, one in workloads(objects).items():
        assert pod(one)["securityContext"]["runAsUser"] == 10001
        assert pod(one)["terminationGracePeriodSeconds"] > drain
        [container] = pod(one)["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert ("readinessProbe" in container) == (name != "trainer")
        assert "livenessProbe" in container


def test_the_page_is_a_role_that_runs(objects: list[dict[str, Any]]) -> None:
    [service] = [one for one in objects if one["kind"] == "Service"]
    chosen = [
        name
        for name, one in workloads(objects).items()
        if service["spec"]["selector"].items() <= one["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert chosen == ["join"]
