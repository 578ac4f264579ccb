"""Both container images, built as `make image` builds them, and a deployment of them against a broker.

No registry of images is asked: a Debian tree of the distribution that the base image is made of takes its name.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from streams import topics
from streams.broker.launch import free_port
from streams.stack.supervisor import answers
from tests.live import Deployment
from tests.streams.test_stream_live import experience, feedback, of_feedback

ROOT = Path(__file__).parents[1]
BASE = re.findall(r"^FROM (python\S+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)[0]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
USER = 10001
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
WAIT_SECONDS = 240.0

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        os.getuid() != 0 or not shutil.which("buildah") or not shutil.which("debootstrap"),
        reason="needs root, buildah and debootstrap",
    ),
]


class Builder(NamedTuple):
    """buildah with a store of its own."""

    environment: dict[str, str]

    def run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout.strip()

    def start(
        self, image: str, volumes: dict[Path, str], settings: dict[str, str], *command: str
    ) -> subprocess.Popen[bytes]:
        container = self.run("buildah", "from", "--pull-never", f"{image}:{VERSION}")
        options = [f"--volume={folder}:{place}" for folder, place in volumes.items()]
        options += [f"--env={name}={value}" for name, value in settings.items()]
        with (next(iter(volumes)).parent / f"{image}.log").open("wb") as log:
            return subprocess.Popen(
                ["buildah", "run", f"--user={USER}:{USER}", *options, container, "--", "tierstream", *command],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    folder = tmp_path_factory.mktemp("images")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    builder = Builder(
        {**os.environ, "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"), "BUILDAH_ISOLATION": "chroot"}
    )
    tree = folder / "tree"
    suite = BASE.rpartition("-")[2]
    builder.run("debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", suite, str(tree))
    (tree / "usr/bin/python").symlink_to("python3")
    # What Debian's slim images leave out.
    for left_out in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(tree / left_out)
    shutil.copy(CERTIFICATES, tree / CERTIFICATES[1:])
    container = builder.run("buildah", "from", "scratch")
    builder.run("buildah", "add", "--quiet", container, str(tree), "/")
    shutil.rmtree(tree)
    # The certificates of this machine, for pip and uv, which bring their own otherwise.
    trusted = [f"--env={name}={CERTIFICATES}" for name in ("SSL_CERT_FILE", "PIP_CERT")]
    builder.run("buildah", "config", *trusted, container)
    builder.run("buildah", "commit", "--quiet", "--rm", container, f"docker.io/library/{BASE}")
    builder.run("make", "image", "IMAGE_TOOL=buildah")
    yield builder
    builder.run("buildah", "rm", "--all")
    builder.run("buildah", "rmi", "--all", "--force")


def size_in_megabytes(builder: Builder, image: str) -> float:
    told = builder.run("buildah", "images", "--format", "{{.Size}}", f"localhost/{image}:{VERSION}")
    number, unit = told.split()
    return float(number) * {"MB": 1, "GB": 1000}[unit]


def test_the_roles_without_torch_fit_half_a_gigabyte(images: Builder) -> None:
    small, full = (size_in_megabytes(images, image) for image in ("tierstream-stream", "tierstream"))
    print(f"tierstream-stream {small:.0f} MB, tierstream {full:.0f} MB")
    assert 100 < small <= 500 < full


def test_a_deployment_of_both_images_learns(images: Builder, bootstrap: str, prefix: str, tmp_path: Path) -> None:
    deployment = Deployment(bootstrap, prefix, tmp_path / "data", scorer={"embedder": "minilm"})
    running = []
    for image, roles in (("tierstream-stream", "join,pairs,traces"), ("tierstream", "scorer")):
        port = free_port()
        folders = {tmp_path / "data": "/data", tmp_path / f"state-{image}": "/state"}
        for folder in folders:
            folder.mkdir(exist_ok=True)
            os.chown(folder, USER, USER)
        settings = {
            **deployment.variables(), "TIERSTREAM_DATA_DIR": "/data", "TIERSTREAM_WEB__PORT": str(port)
        }  # fmt: skip
        running.append((images.start(image, folders, settings, "worker", "--roles", roles), port))
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        for process, port in running:
            while not answers(f"http://127.0.0.1:{port}/readyz"):
                told = "\n".join(log.read_text()[-3000:] for log in tmp_path.glob("*.log"))
                assert process.poll() is None, told
                assert time.monotonic() < deadline, told
                time.sleep(0.5)
        for page in ("/", "/audit"):
            with urllib.request.urlopen(f"http://127.0.0.1:{running[0][1]}{page}", timeout=60) as response:
                assert response.status == 200
        deployment.publish(topics.EXPERIENCES, [experience(1)])
        deployment.publish(topics.FEEDBACK, [feedback(1)])
        deployment.wait_for(topics.SCORE_UPDATES, lambda values: "f1" in of_feedback(values), WAIT_SECONDS)
        owners = {path.stat().st_uid for path in (tmp_path / "data").rglob("*")}
        assert owners == {USER}
    finally:
        for process, _ in running:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)
