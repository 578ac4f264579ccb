"""Which experiences are due, in what order, and how many at a time."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streams.join.expiry import ExpiryIndex
from streams.join.ledger import is_entry
from streams.join.state import Judgements


def stored(since: float) -> bytes:
    return Judgements(since=since).encode()


def test_the_index_is_read_from_what_the_join_stores() -> None:
    index = ExpiryIndex([(b"new", stored(30.0)), (b"old", stored(10.0)), (b"middle", orjson.dumps({"since": 20}))])
    assert index.due(20.0) == [b"old", b"middle"]
    assert index.due(20.0) == []
    assert index.due(30.0) == [b"new"]


def test_entries_of_ledgers_are_not_in_the_index() -> None:
    index = ExpiryIndex([(b"e", stored(10.0)), (b"e\x007", stored(5.0)), (b"e\x007\x00f1", b"joined")])
    assert index.due(20.0) == [b"e\x007", b"e"]


def test_a_key_that_starts_again_comes_up_for_both_starts() -> None:
    """The join expires it only when its retention, which started anew, is over."""
    index = ExpiryIndex([(b"e", stored(10.0))])
    index.add(50.0, b"e")
    assert index.due(40.0) == [b"e"]
    assert index.due(49.9) == []
    assert index.due(50.0) == [b"e"]


def test_what_is_over_the_limit_is_due_the_next_time() -> None:
    index = ExpiryIndex((b"%d" % n, stored(float(n))) for n in range(5))
    assert [index.due(9.0, at_most=2) for _ in range(4)] == [[b"0", b"1"], [b"2", b"3"], [b"4"], []]


KEYS = st.binary(min_size=1, max_size=3).filter(lambda key: not is_entry(key))


@given(
    loaded=st.lists(st.tuples(KEYS, st.integers(0, 20))),
    added=st.lists(st.tuples(KEYS, st.integers(0, 20))),
    until=st.integers(0, 20),
)
def test_what_is_due_comes_once_oldest_first_and_the_rest_stays(
    loaded: list[tuple[bytes, int]], added: list[tuple[bytes, int]], until: int
) -> None:
    index = ExpiryIndex((key, stored(float(since))) for key, since in loaded)
    for key, since in added:
        index.add(float(since), key)
    everything = sorted((since, key) for key, since in [*loaded, *added])
    assert index.due(until) == [key for since, key in everything if since <= until]
    assert index.due(20) == [key for since, key in everything if since > until]
