"""The two kinds of records on `training-jobs`: requests to train, and controls of jobs that were requested."""

from __future__ import annotations

from pydantic_core import from_json

from schemas.events import JobControl, TrainingJob


def parse(value: bytes) -> TrainingJob | JobControl:
    """Decode one record of `training-jobs`; what has an `action` is a control.

    Raises:
        pydantic.ValidationError: the bytes are neither.
    """
    try:
        is_control = "action" in from_json(value)
    except (ValueError, TypeError):
        is_control = False  # the model's own error names what is wrong
    return JobControl.from_json(value) if is_control else TrainingJob.from_json(value)
