"""Flow control that drops nothing while things flow."""

from __future__ import annotations

from mode.utils.queues import FlowControlEvent


class FlowControl(FlowControlEvent):  # type: ignore[misc]
    """Faust's flow control, where resuming what flows already changes nothing.

    Resuming empties every queue: right after a suspension, when what lies there is of a former assignment. But Faust
    resumes several times in one recovery, and by the last time changes for standby tables and the first record
    batches may lie there. They would be gone: later changes go on top of a local store with a hole, and the
    partition of a batch waits for its acknowledgement for ever.
    """

    def resume(self) -> None:
        """Let things flow; what was queued before a suspension is dropped."""
        if not self.is_active():
            super().resume()
