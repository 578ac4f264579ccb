"""Small faults put into the code one at a time: each must fail a test of its promise. `make mutants` runs all.

A fault is a replacement of one piece of a file, in a copy of the tree; the unit tests that stand beside it run there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.record_mutants import RECORD_FAULTS

ROOT = Path(__file__).parents[1]
COPIED = ("schemas", "trainers", "streams", "config", "tests", "benchmarks", "docs", "pyproject.toml")


@dataclass(frozen=True)
class Mutant:
    """A fault, and where it has to be noticed."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        "the ledger commits one record too far",
        "streams/transport/offsets.py",
        "offset = self._settled if bound is None",
        "offset = self._settled + 1 if bound is None",
        "tests/streams/transport/test_offsets.py",
    ),
    Mutant(
        "the scorer's gate decides on the interval's upper end",
        "trainers/scorer/gate.py",
        "self.low is not None and self.low > margin",
        "self.high is not None and self.high > margin",
        "tests/trainers/scorer/test_gate.py",
    ),
    Mutant(
        "progressive accuracy is measured after learning",
        "trainers/scorer/learner.py",
        "self.window.add(fresh, scores)\n        self.replay",
        "self.window.add(fresh, self.model.scores(samples.rows[: len(fresh)]))\n        self.replay",
        "tests/trainers/scorer/test_learner.py",
    ),
    Mutant(
        "the learning rate's floor is ignored",
        "trainers/scorer/progress.py",
        "max(self.learning_rate / 2, self._floor)",
        "self.learning_rate / 2",
        "tests/trainers/scorer/test_progress.py",
    ),
    Mutant(
        "the plateau compares with the last loss",
        "trainers/scorer/progress.py",
        "        self.rounds_without += 1\n",
        "        self.best = loss\n        self.rounds_without += 1\n",
        "tests/trainers/scorer/test_progress.py",
    ),
    Mutant(
        "the sign of the other tier's regression is turned",
        "trainers/jobs/judge.py",
        "lost = [-gain for gain in _gains(judge, judge.conversations(traces)[1])]\n    improvement",
        "lost = [gain for gain in _gains(judge, judge.conversations(traces)[1])]\n    improvement",
        "tests/trainers/jobs/test_judge.py",
    ),
    Mutant(
        "traces are appended without a sync",
        "trainers/traces/store.py",
        "                rest = rest[self._file.write(rest) or 0 :]\n            os.fsync(self._file.fileno())",
        "                rest = rest[self._file.write(rest) or 0 :]",
        "tests/trainers/traces/test_store.py",
    ),
    Mutant(
        "the trace agent never publishes",
        "streams/agents/traces.py",
        "await self._services.deliver(batch, intake, outgoing,",
        "await self._services.deliver(batch, intake, [],",
        "tests/streams/agents/test_traces.py",
    ),
    Mutant(
        "lag is 0 seconds",
        "streams/kafka/lag.py",
        "seconds = max(0.0, now - tail.oldest) if lag and tail.oldest else 0.0",
        "seconds = 0.0",
        "tests/streams/test_lag.py",
    ),
    Mutant(
        "the trainer commits past a running job",
        "streams/training/service.py",
        "upto = min(self._open, default=self._next)",
        "upto = self._next",
        "tests/streams/training/test_trainer.py",
    ),
    Mutant(
        "state is written before outputs",
        "streams/agents/services.py",
        "        await self.publisher.publish([*decoded",
        "        await (asyncio.to_thread(state) if callable(state) else write_state(self.publisher, state))\n"
        "        await self.publisher.publish([*decoded",
        "tests/streams/agents/test_order_of_effects.py",
    ),
    Mutant(
        "a user's confidence is ignored",
        "trainers/reward.py",
        '("evaluator", "user", "implicit")',
        '("evaluator", "implicit")',
        "tests/trainers/test_reward.py",
    ),
    Mutant(
        "a batch with a wrong checksum is read",
        "streams/kafka/unpacking.py",
        "if calc_crc32c(batch[_CRC_COVERS_FROM:]) != crc:",
        "if False:",
        "tests/streams/test_unpacking.py",
    ),
    Mutant(
        "the scorer's gate judges on learned feedback",
        "trainers/scorer/retrain.py",
        "if use_of(entry, self._settings) is Use.HELD_OUT and is_held_out(entry.query_hash, theirs):",
        "if use_of(entry, self._settings) in (Use.HELD_OUT, Use.LEARNED):",
        "tests/trainers/scorer/test_retrain.py",
    ),
    Mutant(
        "a retrain judges on what the scorer in use has learned",
        "trainers/scorer/retrain.py",
        " is Use.HELD_OUT and is_held_out(entry.query_hash, theirs):",
        " is Use.HELD_OUT:",
        "tests/trainers/scorer/test_retrain.py",
    ),
    Mutant(
        "a retrain judges on what the candidate has learned",
        "trainers/scorer/retrain.py",
        "if use_of(entry, self._settings) is Use.HELD_OUT and is_held_out(entry.query_hash, theirs):",
        "if is_held_out(entry.query_hash, theirs):",
        "tests/trainers/scorer/test_retrain.py",
    ),
    Mutant(
        "a feedback that comes again is judged again",
        "streams/join/decide.py",
        "if self.kept.knows(key, state, feedback.feedback_id):",
        "if False:",
        "tests/streams/join/test_join_decide.py",
    ),
    Mutant(
        "an experience that comes again arrives again",
        "streams/join/decide.py",
        "        if self.knows(experience.experience_id):",
        "        if False:",
        "tests/streams/join/test_join_decide.py",
    ),
    Mutant(
        "feedback that waited is forgotten when its experience comes",
        "streams/join/decide.py",
        "waited = self.kept.waiting(key, state)",
        "waited = list[EarlyFeedback]()",
        "tests/streams/join/test_join_decide.py",
    ),
    Mutant(
        "an answer is used in two pairs",
        "trainers/pairs/matcher.py",
        "if known is not None and known.outcome in USED:",
        "if False:",
        "tests/trainers/pairs/test_matcher.py",
    ),
    Mutant(
        "a chosen answer needs no confidence",
        "trainers/pairs/rules.py",
        "if confidence < settings.min_evaluation_confidence:",
        "if False:",
        "tests/trainers/pairs/test_rules.py",
    ),
    Mutant(
        "a topic that was made again is taken for the one before",
        "streams/state/belonging.py",
        "if known.get(name, topic_id) != topic_id:",
        "if False:",
        "tests/streams/test_belonging.py",
    ),
    Mutant(
        "commits that the broker forgot are no reason to stop",
        "streams/state/belonging.py",
        "if all(offset is None for",
        "if not all(True for",
        "tests/streams/test_belonging.py",
    ),
    Mutant(
        "a role that was killed is told as one that ended well",
        "streams/worker/service.py",
        "if code not in (0, -signal.SIGTERM)",
        "if code > 0",
        "tests/streams/test_worker.py",
    ),
    *(Mutant(*fault) for fault in RECORD_FAULTS),
)


def survives(mutant: Mutant, folder: Path) -> bool:
    """Say whether the tests pass in spite of the fault."""
    path = folder / mutant.file
    source = path.read_text()
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", mutant.tests]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        # Any other end is not the tests' word: they could not be collected, or there are none.
        assert ended.returncode in (0, 1), (
            f"{mutant.name}: pytest ended with {ended.returncode}\n{ended.stdout[-2000:]}"
        )
        return ended.returncode == 0
    finally:
        path.write_text(source)


def main(names: list[str]) -> int:
    """Put in every fault whose name holds one of `names`; return 1 where one survives."""
    chosen = [mutant for mutant in MUTANTS if not names or any(name in mutant.name for name in names)]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as made:
        folder = Path(made)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)
        for mutant in chosen:
            alive = survives(mutant, folder)
            survivors += alive
            print(f"{'SURVIVED' if alive else 'killed  '}  {mutant.name}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
