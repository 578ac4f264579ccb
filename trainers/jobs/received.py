"""Which examples the trainer was given, noted as it takes its steps, and whether those are the job's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from schemas.errors import JobError

RECEIVED_NAME = "received.json"
"""In a checkpoint: the ids of the examples that were trained on before it."""

COLUMN = "example"
"""Of the trainer's dataset: an example's place in the job's list."""


class Received:
    """The examples that reached a training step, and those of which it learned something else than was prepared.

    Args:
        ids: the examples that the job trains on, in the dataset's order.
        lengths: tokens of each example's rows: two of a pair, else one.
    """

    def __init__(self, ids: Sequence[str], lengths: Sequence[Sequence[int]]) -> None:
        self._ids = list(ids)
        self._lengths = [tuple(each) for each in lengths]
        self._seen: set[str] = set()
        self._wrong: set[str] = set()

    def note(self, places: Sequence[int], tokens: Sequence[Sequence[int]], learned: Sequence[Sequence[int]]) -> None:
        """Note a step's examples.

        Args:
            places: which examples, by their place.
            tokens: of each of their rows.
            learned: tokens that the loss is on, of each of their rows.
        """
        for place, sizes, taught in zip(places, tokens, learned, strict=True):
            name = self._ids[place]
            self._seen.add(name)
            if tuple(sizes) != self._lengths[place] or not all(taught):
                self._wrong.add(name)

    def write(self, folder: Path) -> None:
        """Write the ids so far into a checkpoint; every process has to call this, and the first one writes.

        Raises:
            OSError: the disk is full.
        """
        self._gather()
        if int(torch.distributed.get_rank() if torch.distributed.is_initialized() else 0) == 0:
            (folder / RECEIVED_NAME).write_text(json.dumps({"seen": sorted(self._seen), "wrong": sorted(self._wrong)}))

    def read(self, folder: Path) -> None:
        """Take up the ids of a checkpoint that training goes on from."""
        path = folder / RECEIVED_NAME
        content: Mapping[str, Sequence[str]] = json.loads(path.read_bytes()) if path.is_file() else {}
        self._seen.update(content.get("seen", ()))
        self._wrong.update(content.get("wrong", ()))

    def trained(self, *, whole_pass: bool) -> frozenset[str]:
        """Return the ids that were trained on.

        Args:
            whole_pass: whether training went through all examples at least once.

        Raises:
            JobError: an example was cut, taught nothing, or was never given to the trainer though all were to be.
        """
        self._gather()
        missing = set(self._ids) - self._seen if whole_pass else set()
        for names, what in ((self._wrong, "were trained on otherwise than prepared"), (missing, "never reached it")):
            if names:
                named = ", ".join(sorted(names)[:5])
                raise JobError(
                    f"the trainer's examples are not the job's: {len(names)} of {len(self._ids)} {what} ({named})",
                    "report this: the record would not say what was trained",
                )
        return frozenset(self._seen)

    def _gather(self) -> None:
        """Add what the other processes were given."""
        if not torch.distributed.is_initialized():
            return
        theirs: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(theirs, (sorted(self._seen), sorted(self._wrong)))
        for seen, wrong in theirs:
            self._seen.update(seen)
            self._wrong.update(wrong)


class Noting(Trainer):
    """A trainer that notes the examples of each step; put before TRL's own class.

    Its dataset has a column `example`, which the trainer must not remove as unused.
    """

    received: Received

    def note_steps(self, received: Received) -> None:
        """Note each step's examples in `received` from now on."""
        self.received = received
        collate = self.data_collator

        def with_places(examples: list[dict[str, Any]]) -> dict[str, Any]:
            return {**collate(examples), COLUMN: torch.tensor([example[COLUMN] for example in examples])}

        self.data_collator = with_places

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        """Note the examples and train on them."""
        places = inputs.pop(COLUMN).tolist()
        tokens, learned = _rows(inputs, len(places))
        self.received.note(places, tokens, learned)
        return super().training_step(model, inputs, *args, **options)


def _rows(inputs: Mapping[str, torch.Tensor], examples: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return, for each example of a batch, the tokens and the learned tokens of its rows.

    A batch of pairs holds all chosen answers, then all rejected ones.
    """
    taught = inputs["completion_mask"] if "completion_mask" in inputs else inputs["labels"] != -100
    tokens = inputs["attention_mask"].sum(-1).reshape(-1, examples).T
    return tokens.tolist(), taught.sum(-1).reshape(-1, examples).T.tolist()
