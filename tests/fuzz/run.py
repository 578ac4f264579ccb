"""`python -m tests.fuzz.run TARGET [libFuzzer's options]`: coverage-guided inputs for one target, by atheris.

`make fuzz` runs all of them. An input that makes a target raise is left as `crash-*` in the working folder: fix the
cause, and put the input into `tests/fuzz/corpus/TARGET/`, where every run of the tests tries it again.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["schemas", "trainers", "streams"]):
    from tests.fuzz.mutate import mutate_json
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
AS_JSON = 0.7
"""Share of inputs that are changed as JSON, where they are any."""


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change an input, for atheris."""
    rng = random.Random(seed)
    changed = mutate_json(data, rng) if rng.random() < AS_JSON else None
    found: bytes = atheris.Mutate(data, max_size) if changed is None else changed[:max_size]
    return found


def main() -> None:
    """Fuzz until the number of inputs that `-runs` says."""
    target = sys.argv[1]
    logging.disable(logging.WARNING)
    os.fsync = lambda descriptor: None  # what is tried is what is read, not the disk
    with tempfile.TemporaryDirectory() as found:
        kept = [str(CORPUS / target)] if (CORPUS / target).is_dir() else []
        for number, seed in enumerate(seeds(target)):
            (Path(found) / f"seed-{number}").write_bytes(seed)
        # New inputs go to the first folder, so that the corpus stays as small as it is.
        atheris.Setup([sys.argv[0], *sys.argv[2:], found, *kept], TARGETS[target], custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
