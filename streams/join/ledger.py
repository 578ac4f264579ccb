"""The feedbacks of an experience that has many: a key each in the judgements table, beside the experience's state.

`<experience> NUL <offset>` is a ledger, which says since when it is there, and `<experience> NUL <offset> NUL
<feedback>` is an entry of it: what became of the feedback, or the feedback itself where it waited. No id holds a NUL.
The offset is that of the feedback which opened the ledger. So an experience that starts anew after its retention opens
another one, and the old one can go bit by bit.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import islice

from streams.join.state import EarlyFeedback, Judgements
from streams.state.write_buffer import Stored, WriteBuffer

_NUL = b"\0"
_WAITS = b"["
"""What an entry begins with whose feedback waited: a JSON array. An outcome is a word."""

CLEAR_AT_ONCE = 10_000
"""Entries that a batch forgets at most: what it writes is in memory until it is acknowledged."""


def ledger_of(key: bytes, offset: int) -> bytes:
    """Return the table key of an experience's ledger."""
    return b"%b\0%d" % (key, offset)


def is_ledger(key: bytes) -> bool:
    """Whether a key that is no entry's is a ledger's, not an experience's."""
    return _NUL in key


def is_entry(key: bytes) -> bool:
    """Whether a key of the judgements table is an entry of a ledger."""
    return key.count(_NUL) > 1


def experience_of(ledger: bytes) -> bytes:
    """Return the key of the experience whose ledger it is."""
    return ledger.partition(_NUL)[0]


class Ledgers:
    """The ledgers of one partition, as the decisions of one batch see them."""

    def __init__(self, judgements: WriteBuffer[Stored]) -> None:
        self._judgements = judgements
        self._entered: defaultdict[bytes, dict[bytes, bytes]] = defaultdict(dict)
        self._room = CLEAR_AT_ONCE

    def open(self, ledger: bytes, since: float) -> None:
        """Write the ledger itself: it comes before its entries, so that none is left behind without it."""
        self._judgements.set(ledger, Judgements(since=since).encode())

    def enter(self, ledger: bytes, feedback_id: str, outcome: str, waits: EarlyFeedback | None) -> None:
        """Write what became of a feedback, or the feedback where it waits."""
        key = ledger + _NUL + feedback_id.encode()
        value = outcome.encode() if waits is None else waits.encode()
        self._judgements.set(key, value)
        self._entered[ledger][key] = value

    def knows(self, ledger: bytes, feedback_id: str) -> bool:
        """Whether the feedback has an entry."""
        return self._judgements.get(ledger + _NUL + feedback_id.encode()) is not None

    def waiting(self, ledger: bytes, first: int) -> list[EarlyFeedback]:
        """Return the feedback that waits, in the order of its arrival.

        Args:
            ledger: its key.
            first: offset of the first of them; what waited before it has been joined.
        """
        stored = self._judgements.table.under(self._judgements.partition, ledger + _NUL)
        values = {**dict(stored), **self._entered[ledger]}.values()
        waited = [EarlyFeedback.decode(value) for value in values if value.startswith(_WAITS)]
        return sorted((early for early in waited if early.offset >= first), key=lambda early: early.offset)

    def clear(self, ledger: bytes) -> bool:
        """Forget entries, then the ledger; return whether that is done, or the next batch has to go on with it."""
        entries = self._judgements.table.under(self._judgements.partition, ledger + _NUL)
        for key, _ in islice(entries, self._room):
            self._judgements.set(key, None)
            self._room -= 1
        if next(entries, None) is not None:
            return False
        self._judgements.set(ledger, None)
        return True
