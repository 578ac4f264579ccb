"""Telling a full disk and want of memory from other failures, whoever found them."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import torch

from trainers.jobs.snapshot import RETRY

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")
_NO_SPACE = ("No space left", "File too large", "PytorchStreamWriter failed", "Disk quota exceeded")


def want_of_room(error: BaseException) -> str | None:
    """Return in one line what there was not enough of, with the remedy; None where that is not the reason."""
    for one in _chain(error):
        if (isinstance(one, OSError) and one.errno in DISK) or any(words in str(one) for words in _NO_SPACE):
            return "the disk is full, or a limit on it is reached: free some space, then retry"
        if isinstance(one, (MemoryError, torch.OutOfMemoryError)) or any(words in str(one) for words in _NO_MEMORY):
            return f"out of memory: lower batch_size or max_length or set gradient_checkpointing, then {RETRY}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
