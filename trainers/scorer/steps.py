"""Which records of the log of steps count."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.records import StepRecord


def valid_steps(records: Iterable[tuple[int, StepRecord]], claimed: int = 0) -> list[StepRecord]:
    """Return the steps that count, in order, from the log's records up to the reader's own claim.

    A record of a lower epoch than the highest one claimed before it is void: its writer had lost the scorer and did
    not know. Where valid records overlap, in step number or in offsets, the later one counts, and with it go all
    older ones from there on: its writer started from a checkpoint before them.

    Args:
        records: offsets in the log and records, in the log's order.
        claimed: the highest epoch claimed before the first record, `Snapshot.log_epoch` where the log is read
            from `Snapshot.log_offset`.
    """
    steps: list[StepRecord] = []
    for _, record in records:
        if record.epoch < claimed:
            continue
        claimed = record.epoch
        if record.kind == "claim":
            continue
        while steps and (steps[-1].step >= record.step or steps[-1].last_offset >= record.first_offset):
            steps.pop()
        steps.append(record)
    return steps
