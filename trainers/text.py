"""Words of a text, as embedder and structured features see them, and what makes two texts the same."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MAX_TEXT_CHARACTERS = 8192
"""Longer texts are cut for embedding and features, so that an event's cost is bounded."""

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?|\d+")
_SAME_AS = {
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    **dict.fromkeys("\u2018\u2019\u201a\u201b", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
}
"""What is invisible goes, curly quotes become straight ones."""
_REPLACED = re.compile(f"[{''.join(_SAME_AS)}]")
_VOWELS = frozenset("aeiouy")


def normalised(text: str) -> str:
    """Return a text without what makes no other of it: case, blanks, Unicode's forms, invisible marks, curly quotes."""
    if not text.isascii():
        # Few characters of a text are among them: this takes a tenth of the time of `str.translate`.
        text = _REPLACED.sub(lambda found: _SAME_AS[found[0]], unicodedata.normalize("NFC", text))
    return " ".join(text.casefold().split())


def words(text: str) -> list[str]:
    """Return the stemmed lower-case words and numbers of a text; `TurnOn` and `turn_on` are two words each."""
    return list(_words(text[:MAX_TEXT_CHARACTERS]))


@lru_cache(maxsize=512)
def _words(text: str) -> tuple[str, ...]:
    """Read a text once, though several features are worked out from it."""
    return tuple([_stem(word) for word in _WORD.findall(_CAMEL.sub(" ", text).lower())])


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    """Cut the commonest English endings, so that `closed`, `closing`, `closes` and `close` agree."""
    root = word.replace("\u2019", "'")
    for ending, least in (("'s", 3), ("ing", 6), ("ed", 5), ("s", 4)):
        if root.endswith(ending) and len(root) >= least and not root.endswith("ss"):
            root = root[: -len(ending)]
            break
    if len(root) > 3 and root[-1] == root[-2] and root[-1] not in _VOWELS and root[-1] not in "ls":
        root = root[:-1]
    return root[:-1] if len(root) > 3 and root.endswith("e") else root
