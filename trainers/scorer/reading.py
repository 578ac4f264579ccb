"""Reading checkpoint files without the learner: what a scorer's follower needs, and the store too. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

Arrays = dict[str, npt.NDArray[Any]]

FORM = 4
"""Version of the checkpoint's form."""

BEFORE = 3
"""Form of the release before: read so that its versions are refused by what does not fit."""

VERSION_FILE = "scorer.safetensors"
"""The file of a scorer's version in the registry: a checkpoint."""

KEY = "tierstream"
"""Where a file's metadata has everything that is no array, as JSON."""

KEY_CHECKSUM = f"{KEY}-checksum"
"""Of that part: one digit of its offset that has changed would skip or repeat events."""

_NAME = re.compile(r"scorer-(\d{12})\.safetensors")
_OLD_NAME = re.compile(r"scorer-(\d{8})-(\d{12})\.safetensors")


class CheckpointUnreadableError(ValueError):
    """A checkpoint file is truncated, damaged or of another program."""


def file_name(next_offset: int) -> str:
    """Return the name of a checkpoint's file."""
    return f"scorer-{next_offset:012d}.safetensors"


def newest_first(checkpoints: Path) -> list[Path]:
    """Return the checkpoint files in a folder, the one that has read furthest in the log first."""
    return _named(checkpoints, _NAME)


def checkpoints_of_before(checkpoints: Path) -> list[Path]:
    """Return the checkpoint files of the release before, the newest epoch and step first."""
    return _named(checkpoints, _OLD_NAME)


def _named(folder: Path, name: re.Pattern[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if name.fullmatch(path.name)), reverse=True)


def checksum(arrays: Arrays) -> str:
    """Return a hash of names, types, shapes and values."""
    digest = blake2b(digest_size=16)
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def header(arrays: Arrays, meta: dict[str, Any]) -> str:
    """Return the JSON part of a checkpoint, which its arrays' checksum is a part of: the same for the same content."""
    return json.dumps({**meta, "checksum": checksum(arrays)})


def encode(arrays: Arrays, meta: dict[str, Any]) -> bytes:
    """Return a checkpoint file's content; its bytes may differ between two calls, as metadata has no order."""
    text = header(arrays, meta)
    return safetensors.numpy.save(arrays, {KEY: text, KEY_CHECKSUM: _digest(text)})


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def read_header(path: Path) -> dict[str, Any]:
    """Return the JSON part of a checkpoint without its arrays.

    Raises:
        CheckpointUnreadableError: it has none of this form.
    """
    try:
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
        meta = json.loads(metadata[KEY])
        if meta["form"] not in (FORM, BEFORE):
            raise CheckpointUnreadableError(f"checkpoint {path} has form {meta['form']}, this program reads {FORM}")
        if metadata[KEY_CHECKSUM] != _digest(metadata[KEY]):
            raise CheckpointUnreadableError(f"checkpoint {path} is damaged: its header does not match its checksum")
        return dict(meta)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError, RecursionError) as error:
        raise CheckpointUnreadableError(f"checkpoint {path} is truncated or foreign: {error}") from error


def read_checkpoint(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Return a checkpoint's arrays and the rest.

    Raises:
        CheckpointUnreadableError: it is truncated, damaged, or of another form.
        FileNotFoundError: it was deleted meanwhile.
    """
    meta = read_header(path)
    arrays = safetensors.numpy.load_file(path)
    if checksum(arrays) != meta.pop("checksum", None):
        raise CheckpointUnreadableError(f"checkpoint {path} is damaged: its content does not match its checksum")
    return arrays, meta


def readable_checkpoints(folder: Path) -> Iterator[tuple[Arrays, dict[str, Any]]]:
    """Yield the scorer's checkpoints in `folder` that can be read, the newest first."""
    for path in newest_first(folder / "checkpoints"):
        try:
            yield read_checkpoint(path)
        except (CheckpointUnreadableError, FileNotFoundError):
            continue


def weights_in(arrays: Arrays) -> tuple[npt.NDArray[np.float32], ...]:
    """Return the five parameters: down, hidden and its bias, out and its bias."""
    names = ("down.weight", "hidden.weight", "hidden.bias", "out.weight", "out.bias")
    return tuple(arrays[f"weights.{name}"] for name in names)
