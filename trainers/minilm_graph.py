"""The six layers of all-MiniLM-L6-v2 as an ONNX graph, whose weights stay in the safetensors file that they came in.

Wang et al., "MiniLM: Deep Self-Attention Distillation", 2020: BERT's encoder, with post-normalisation and exact GELU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from schemas.vectors import EMBEDDING_SIZE

LAYERS, HEADS, INNER = 6, 12, 1536
EPSILON = 1e-12
OPSET, IR = 20, 10
"""The first operator set with GELU, and the form of the file that it came with."""


class Tensor(NamedTuple):
    """Where a tensor lies in its file."""

    shape: list[int]
    offset: int
    """Bytes before it."""
    length: int
    """Bytes."""


def sentence_graph(weights: Path) -> bytes:
    """Return a model from `tokens` (int64, any number) to `vector` (384 floats, the mean of the last layer, length 1).

    Its weights are references into `weights`, so it is run with that file's folder as the one of its external data.

    Raises:
        ValueError: the file is damaged, or of another model.
    """
    graph = _Graph(tensors_in(weights), weights.name)
    state = graph.embeddings()
    for layer in range(LAYERS):
        state = graph.layer(state, f"encoder.layer.{layer}.")
    mean = graph.add("ReduceMean", state, graph.numbers([0]), keepdims=0)
    length = graph.add("ReduceL2", mean, graph.numbers([0]))
    graph.add("Div", mean, length, output="vector")
    written: bytes = graph.model().SerializeToString()
    return written


def tensors_in(path: Path) -> dict[str, Tensor]:
    """Return the float32 tensors of a safetensors file.

    Raises:
        ValueError: the file is of another form, or cut off.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
        if header > size - 8:
            raise ValueError("its header is cut off")
        told = json.loads(file.read(header))
    try:
        found = {
            name: Tensor(of["shape"], 8 + header + of["data_offsets"][0], of["data_offsets"][1] - of["data_offsets"][0])
            for name, of in told.items()
            if name != "__metadata__" and of["dtype"] == "F32"
        }
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"it is no safetensors: {error!r}") from error
    for name, tensor in found.items():
        if tensor.offset + tensor.length > size:
            raise ValueError(f"{name} is cut off")
    return found


class _Graph:
    """Nodes and weights, in the order in which they are asked for; each method returns the name of its output."""

    def __init__(self, tensors: dict[str, Tensor], file: str) -> None:
        self._tensors, self._file = tensors, file
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, TensorProto] = {}

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"{kind}.{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weight(self, name: str, *shape: int) -> str:
        if name not in self._tensors:
            raise ValueError(f"there is no {name}")
        of = self._tensors[name]
        # Lookup tables are of any length.
        if of.shape[-len(shape) :] != list(shape):
            raise ValueError(f"{name} is of {of.shape}, {list(shape)} are needed")
        tensor = TensorProto(
            name=name, data_type=TensorProto.FLOAT, dims=of.shape, data_location=TensorProto.DataLocation.EXTERNAL
        )
        for key, value in (("location", self._file), ("offset", of.offset), ("length", of.length)):
            tensor.external_data.add(key=key, value=str(value))
        self._weights[name] = tensor
        return name

    def numbers(self, values: list[int] | float) -> str:
        name = f"constant {values}"
        kind = np.float32 if isinstance(values, float) else np.int64
        self._weights[name] = numpy_helper.from_array(np.array(values, kind), name)
        return name

    def embeddings(self) -> str:
        words = self.add("Gather", self.weight("embeddings.word_embeddings.weight", EMBEDDING_SIZE), "tokens")
        count = self.add("Shape", "tokens")
        places = self.add(
            "Slice",
            self.weight("embeddings.position_embeddings.weight", EMBEDDING_SIZE),
            self.numbers([0]),
            count,
            self.numbers([0]),
        )
        first = self.add(
            "Gather", self.weight("embeddings.token_type_embeddings.weight", EMBEDDING_SIZE), self.numbers([0])
        )
        return self.normed(self.add("Add", self.add("Add", words, places), first), "embeddings.LayerNorm")

    def layer(self, state: str, at: str) -> str:
        query, key, value = (
            self.add("Transpose", self.heads(self.linear(state, f"{at}attention.self.{part}")), perm=order)
            for part, order in (("query", (1, 0, 2)), ("key", (1, 2, 0)), ("value", (1, 0, 2)))
        )
        scale = self.numbers(float((EMBEDDING_SIZE // HEADS) ** -0.5))
        weights = self.add("Softmax", self.add("Mul", self.add("MatMul", query, key), scale), axis=-1)
        seen = self.add("Transpose", self.add("MatMul", weights, value), perm=(1, 0, 2))
        seen = self.add("Reshape", seen, self.numbers([-1, EMBEDDING_SIZE]))
        state = self.normed(
            self.add("Add", self.linear(seen, f"{at}attention.output.dense"), state), f"{at}attention.output.LayerNorm"
        )
        inner = self.add("Gelu", self.linear(state, f"{at}intermediate.dense", INNER))
        return self.normed(
            self.add("Add", self.linear(inner, f"{at}output.dense", into=INNER), state), f"{at}output.LayerNorm"
        )

    def heads(self, state: str) -> str:
        return self.add("Reshape", state, self.numbers([-1, HEADS, EMBEDDING_SIZE // HEADS]))

    def linear(self, state: str, name: str, out: int = EMBEDDING_SIZE, into: int = EMBEDDING_SIZE) -> str:
        matrix, bias = self.weight(f"{name}.weight", out, into), self.weight(f"{name}.bias", out)
        return self.add("Gemm", state, matrix, bias, transB=1)

    def normed(self, state: str, name: str) -> str:
        scale, shift = (self.weight(f"{name}.{part}", EMBEDDING_SIZE) for part in ("weight", "bias"))
        return self.add("LayerNormalization", state, scale, shift, axis=-1, epsilon=EPSILON)

    def model(self) -> ModelProto:
        graph = helper.make_graph(
            self._nodes,
            "all-MiniLM-L6-v2",
            [_value("tokens", TensorProto.INT64, ["count"])],
            [_value("vector", TensorProto.FLOAT, [EMBEDDING_SIZE])],
            list(self._weights.values()),
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


def _value(name: str, kind: int, shape: list[int | str]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
