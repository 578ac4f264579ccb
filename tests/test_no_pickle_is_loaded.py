"""Nothing that is read from disk or the network can run: no pickle, no `eval`, no code that came with a model."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from schemas.settings import ScorerSettings
from trainers.scorer.checkpoint import CheckpointStore

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "trainers", "streams", "config", "benchmarks")
MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
"""Modules that turn bytes into code."""
CALLS = {"eval", "exec", "compile", "__import__"}


def offences(tree: ast.AST) -> Iterator[str]:
    """Yield what could run what was read, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in names:
                if name.partition(".")[0] in MODULES:
                    yield f"{node.lineno}: import {name}"
        elif isinstance(node, ast.Call):
            yield from _offences_of_call(node)


def _offences_of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if name in CALLS:
        yield f"{node.lineno}: {name}()"
    if name == "torch.load" and given.get("weights_only") != "True":
        yield f"{node.lineno}: torch.load without weights_only=True"
    if given.get("allow_pickle", "False") != "False" or given.get("trust_remote_code", "False") != "False":
        yield f"{node.lineno}: {name} with {given}"
    if given.get("weights_only", "True") != "True":
        yield f"{node.lineno}: {name} without weights_only"
    if name in ("yaml.load", "yaml.unsafe_load", "torch.jit.load", "torch.package.PackageImporter"):
        yield f"{node.lineno}: {name}()"


def test_no_code_of_ours_loads_what_could_run() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    found = [f"{path.relative_to(ROOT)}:{what}" for path in files for what in offences(ast.parse(path.read_text()))]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from dill import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "yaml.load(text)",
        "eval(text)",
    ],
)
def test_the_scan_would_find_it(code: str) -> None:
    assert list(offences(ast.parse(code)))


class Planted:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_planted_pickle_is_passed_over_and_does_not_run(tmp_path: Path, form: str) -> None:
    marker = tmp_path / "ran"
    checkpoints = tmp_path / "scorer" / "checkpoints"
    checkpoints.mkdir(parents=True)
    path = checkpoints / "scorer-000000000001.safetensors"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Planted(marker)))
    else:
        torch.save(Planted(marker), path)
    store = CheckpointStore(tmp_path / "scorer", ScorerSettings(rank=2))
    assert store.load() is None
    assert store.refused == [path.name]
    assert not marker.exists()
    pickle.loads(pickle.dumps(Planted(marker)))
    assert marker.exists(), "the trap works"
