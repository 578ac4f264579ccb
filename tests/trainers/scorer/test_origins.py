from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Origin
from trainers.scorer.entries import Origins

origins = st.builds(
    Origin,
    st.sampled_from(["experiences", "feedback"]),
    st.integers(0, 2),
    st.integers(0, 300) | st.integers(10**9, 10**9 + 300),
)


@given(st.lists(origins), st.lists(origins))
def test_exactly_what_was_added_is_known_also_after_a_restart(added: list[Origin], asked: list[Origin]) -> None:
    # One partition does not hold both ranges: offsets of a topic are near one another, or the bits would be many.
    added = [o for o in added if (o.offset >= 10**9) == (o.partition == 2)]
    known = Origins()
    for origin in added:
        known.add(origin)
    again = Origins()
    again.restore({**known.arrays(), "window": np.zeros(3)})
    for origin in added + asked:
        assert (origin in known) == (origin in again) == (origin in added)


def test_a_partition_that_starts_late_in_the_log_takes_little_room() -> None:
    known = Origins()
    known.add(Origin("feedback", 0, 10**12))
    known.add(Origin("feedback", 0, 10**12 - 9))
    assert sum(array.nbytes for array in known.arrays().values()) <= 3
