"""`python -m tests.fuzz.run TARGET [libFuzzer's options]`: coverage-guided inputs for one target, by atheris.

`make fuzz` runs all of them. An input that makes a target raise is left as `crash-*` in the working folder: mend the
cause, and put the input into `tests/fuzz/corpus/TARGET/`, where every run of the tests tries it again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["schemas", "trainers", "streams"]):
    from tests.fuzz.targets import TARGETS, a_checkpoint

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Fuzz until the number of inputs that `-runs` says."""
    target = sys.argv[1]
    with tempfile.TemporaryDirectory() as found:
        seeds = [str(CORPUS / target)] if (CORPUS / target).is_dir() else []
        if target == "checkpoints":
            (Path(found) / "whole").write_bytes(a_checkpoint())
        # New inputs go to the first folder, so that the corpus stays as small as it is.
        atheris.Setup([sys.argv[0], *sys.argv[2:], found, *seeds], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
