"""Names of versions, and of the libraries that made them."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata

from schemas.events import ModelTier

_HEX_DIGITS = 12


def version_name(tier: ModelTier, *made_of: bytes | str) -> str:
    """Return `<tier>-<12 hex digits>`: the same parts give the same name, anything else another one."""
    digest = hashlib.sha256()
    for part in made_of:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return f"{tier}-{digest.hexdigest()[:_HEX_DIGITS]}"


def library_versions(*names: str) -> dict[str, str]:
    """Return the installed versions of Python and of the libraries, by name; one that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
