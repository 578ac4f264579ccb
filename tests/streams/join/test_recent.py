"""Decoded values count only while their bytes are what is stored."""

from __future__ import annotations

from streams.join.recent import Recent


def test_a_value_is_there_while_its_bytes_are_what_is_stored() -> None:
    recent: Recent[list[int]] = Recent()
    value = [1]
    recent.keep(b"a", b"one", value)
    assert recent.get(b"a", b"one") is value
    assert recent.get(b"a", b"two") is None
    assert recent.get(b"b", b"one") is None


def test_a_value_that_was_taken_is_gone_until_it_is_kept_again() -> None:
    recent: Recent[list[int]] = Recent()
    recent.keep(b"a", b"one", [1])
    assert recent.take(b"a", b"one") == [1]
    assert recent.take(b"a", b"one") is None
    recent.keep(b"a", b"two", [2])
    assert recent.take(b"a", b"one") is None
    assert recent.take(b"a", b"two") is None


def test_what_was_kept_longest_ago_goes_first() -> None:
    recent: Recent[int] = Recent(limit=2)
    recent.keep(b"a", b"", 1)
    recent.keep(b"b", b"", 2)
    recent.keep(b"a", b"", 3)
    recent.keep(b"c", b"", 4)
    assert [recent.get(key, b"") for key in (b"a", b"b", b"c")] == [3, None, 4]
