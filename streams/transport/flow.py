"""Flow control that drops nothing while things flow, and the app that the transport needs, which has it."""

from __future__ import annotations

import faust
from mode.utils.objects import cached_property
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


class FlowingApp(faust.App):  # type: ignore[misc]
    """A Faust app whose flow is controlled so."""

    @cached_property  # type: ignore[untyped-decorator]
    def flow_control(self) -> FlowControl:
        """Ours in place of Faust's."""
        return FlowControl(loop=self.loop)
