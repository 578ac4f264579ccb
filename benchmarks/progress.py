"""How a benchmark tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progressed = Callable[[str, float], None]
"""Takes what was done last, and the share of the part that is done, from 0 to 1."""
