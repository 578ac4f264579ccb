"""`tierstream demo`: the whole system on a simulated control room whose people have a taste to be learned.

`room` is the simulation, `feed` publishes it, `watch` reads what comes out, `board` judges that beside the hidden
taste, `summary` tells how it ended, and `play` runs them on a `Stack` of their own.
"""

from __future__ import annotations

from streams.demo.play import run

__all__ = ["run"]
