"""Compares every produced id with all that came of it; shares with the system only the readers of its formats."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schemas.records import TICK, Answer, Joined, decode_log
from streams import topics
from tests.chaos.load import Produced
from tests.live import Deployment
from trainers.jobs.accumulate import BatchAccumulator
from trainers.jobs.snapshot import job_id
from trainers.pairs.matcher import PairMatcher
from trainers.prepare import is_held_out
from trainers.scorer.entries import Origins
from trainers.traces.store import TraceStore

END_STATES = frozenset({"finished", "validated", "failed", "cancelled"})


@dataclass
class Findings:
    """What does not add up, and what does."""

    lost: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Ids without their effect, by effect."""
    twice: set[str] = field(default_factory=set)
    """Feedback that was learned more than once."""
    jobs_twice: set[str] = field(default_factory=set)
    """Jobs that ran on after they had ended."""
    problems: list[str] = field(default_factory=list)
    """All else, one line each."""
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether everything had its effect, exactly once."""
        return not (any(self.lost.values()) or self.twice or self.jobs_twice or self.problems)

    def missing(self, known: Iterable[str]) -> set[str]:
        """Return the ids, of the known ones, that lack an effect."""
        return set().union(*self.lost.values()) & set(known)

    def lines(self) -> list[str]:
        """Return what is wrong, in lines."""
        lost = [f"lost, {name}: {len(ids)}: {sorted(ids)[:8]}" for name, ids in self.lost.items() if ids]
        twice = [f"learned twice: {sorted(self.twice)[:8]}"] if self.twice else []
        again = [f"jobs that ran again: {sorted(self.jobs_twice)}"] if self.jobs_twice else []
        return lost + twice + again + self.problems


def verify(stream: Deployment, produced: Produced, found: Findings) -> None:
    """Read everything a stopped deployment has left and compare it with what was produced; `found` takes it in."""
    steps = _check_learned(stream, produced, found)
    _check_updates(stream, produced, steps, found)
    _check_weights(stream, found)
    _check_pairs(stream, produced, found)
    _check_jobs(stream, found)
    _check_traces(stream, produced, found)
    _check_dead_letters(stream, produced, found)


def _check_learned(stream: Deployment, produced: Produced, found: Findings) -> dict[str, int]:
    """Every event is in the scorer's log once; return the step that the log gives each learned feedback."""
    settings = stream.settings.scorer
    applied, counts = Origins(), {"arrived": Counter[str](), "feedback": Counter[str]()}
    step_of: dict[str, int] = {}
    steps = repeated = 0
    for record in stream.records(stream.settings.topic(topics.SCORER_LOG)):
        joined, learned = decode_log(record.value), 0
        for entry in joined.entries if isinstance(joined, Joined) else ():
            if entry.origin in applied:
                repeated += 1
                continue
            applied.add(entry.origin)
            counts[entry.kind][entry.feedback_id or entry.experience_id] += 1
            if entry.kind == "feedback" and not is_held_out(entry.query_hash, settings.validation_one_in):
                step_of[str(entry.feedback_id)] = steps + 1 + learned // settings.groups_per_step
                learned += 1
        steps += -(-learned // settings.groups_per_step)
    found.lost["experience never scored"] = produced.experiences.keys() - counts["arrived"].keys()
    found.lost["feedback never learned or held out"] = produced.feedback.keys() - counts["feedback"].keys()
    if strangers := counts["arrived"].keys() - produced.experiences.keys():
        found.problems.append(f"learned though it was taken back: {sorted(strangers)[:8]}")
    found.figures |= {"transactions committed, and aborted": produced.transactions, "codecs": sorted(produced.codecs)}
    found.twice = {name for counted in counts.values() for name, count in counted.items() if count > 1}
    found.figures |= {
        "feedbacks learned": len(step_of),
        "feedbacks held out": len(counts["feedback"]) - len(step_of),
        "steps": steps,
        "repeated entries passed over": repeated,
    }
    return step_of


def _check_updates(stream: Deployment, produced: Produced, step_of: dict[str, int], found: Findings) -> None:
    """Whoever published it, an update of a feedback says the one step that the log gives."""
    by_feedback: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
    arrived: set[str] = set()
    count = 0
    for update in stream.read(topics.SCORE_UPDATES):
        if name := update.get("feedback_id"):
            count += 1
            by_feedback[name].add((update["scorer_epoch"], update["scorer_step"]))
        else:
            arrived.add(update["experience_id"])
    found.lost["score update of an experience"] = produced.experiences.keys() - arrived
    found.lost["score update of a feedback"] = produced.feedback.keys() - by_feedback.keys()
    for name, said in by_feedback.items():
        if len(said) != 1 or (name in step_of and said != {(1, step_of[name])}):
            found.problems.append(f"updates of {name} say epochs and steps {said}, the log says {step_of.get(name)}")
    found.figures["updates that came again"] = count - len(by_feedback)


def _check_weights(stream: Deployment, found: Findings) -> None:
    done = stream.command("replay", "--tier", "scorer", "--verify", "--json")
    if done.returncode != 0 or not json.loads(done.stdout)["agrees"]:
        found.problems.append(f"the log's replay gives other weights: {(done.stdout or done.stderr)[-500:]}")
    else:
        found.figures["weights"] = json.loads(done.stdout)["checkpoint"]


def _check_pairs(stream: Deployment, produced: Produced, found: Findings) -> None:
    """The answers' topic, decided again in one go, gives exactly the pairs that were published."""
    rules = stream.settings.pairs
    matchers: defaultdict[int, PairMatcher] = defaultdict(lambda: PairMatcher(rules, stream.settings.unpaired))
    expected: set[str] = set()
    judged: set[tuple[str, str]] = set()
    for record in stream.records(stream.settings.topic(topics.ANSWERS)):
        matcher, at = matchers[record.partition], record.timestamp / 1000
        decisions = [matcher.tick(record.offset, at)] if record.value == TICK else []
        for answer, _ in Answer.each_from(record.value):
            judged.add((answer.kind, answer.experience_id))
            decisions.append(matcher.decide(answer, record.offset, at))
        expected |= {pair.pair_id for decision in decisions for pair in decision.pairs}
    pairs = {pair["pair_id"]: pair for pair in stream.read(topics.PAIRS)}
    wanted = {(kind, of) for of in produced.of.values() for kind in ("widget", "voice")}
    found.lost["answer never handed to the pairing"] = {f"{kind} of {of}" for kind, of in wanted - judged}
    found.lost["pair"] = expected - pairs.keys()
    if more := pairs.keys() - expected:
        found.problems.append(f"{len(more)} pairs that the answers do not give: {sorted(more)[:4]}")
    used = Counter((p["kind"], p[f"{side}_experience_id"]) for p in pairs.values() for side in ("chosen", "rejected"))
    if again := [answer for answer, count in used.items() if count > 1]:
        found.problems.append(f"answers used in two pairs: {again[:4]}")
    for name, pair in pairs.items():
        chosen, rejected = pair["chosen_reward"], pair["rejected_reward"]
        if not (chosen > 0.1 and rejected < -0.1 and chosen - rejected >= 0.3 and pair["shared_domains"]):
            found.problems.append(f"pair {name} breaks the rules: {pair}")
    found.figures["pairs"] = len(pairs)


def _check_jobs(stream: Deployment, found: Findings) -> None:
    """Every full run of distinct examples is one job, with the dataset it names, and none runs on after its end."""
    announced = {j["job_id"]: j for j in stream.read(topics.JOBS) if "dataset_sha256" in j}
    expected = _expected_jobs(stream, "dpo", topics.PAIRS, "pair_id", stream.settings.pairs.threshold)
    expected |= _expected_jobs(stream, "sft", topics.ELIGIBLE_TRACES, "trace_id", stream.settings.traces.threshold)
    found.lost["job"] = expected - announced.keys()
    if more := announced.keys() - expected:
        found.problems.append(f"jobs that the examples do not give: {sorted(more)}")
    for name, job in announced.items():
        data = (stream.data_dir / job["dataset_path"]).read_bytes()
        if hashlib.sha256(data).hexdigest() != job["dataset_sha256"]:
            found.problems.append(f"the dataset of {name} is not the one that was announced")
    states: defaultdict[str, list[str]] = defaultdict(list)
    errors: dict[str, str | None] = {}
    for update in stream.read(topics.JOB_UPDATES):
        states[update["job_id"]].append(update["state"])
        errors[update["job_id"]] = update.get("error")
    found.lost["end of a job"] = {name for name in announced if not END_STATES & set(states[name])}
    for name, said in states.items():
        first_end = next((place for place, state in enumerate(said) if state in END_STATES), len(said))
        if "running" in said[first_end:]:
            found.jobs_twice.add(name)
    ends = Counter(state for said in states.values() for state in said[-1:])
    found.figures |= {"jobs": len(announced), "jobs by their end": dict(ends)}
    found.figures["jobs failed"] = dict(Counter(e for name, e in errors.items() if states[name][-1] == "failed"))


def _expected_jobs(stream: Deployment, tier: Any, topic: str, key: str, threshold: int) -> set[str]:
    book, jobs = BatchAccumulator(threshold), set()
    for place, example in enumerate(stream.read(topic)):
        completed = book.add(example[key], b"{}", place).completed
        if completed is not None:
            jobs.add(job_id(tier, completed.ids))
    return jobs


def _check_traces(stream: Deployment, produced: Produced, found: Findings) -> None:
    store = TraceStore(stream.data_dir / "traces")
    stored = [stored.trace.trace_id for stored in store.read()]
    eligible = {trace["trace_id"] for trace in stream.read(topics.ELIGIBLE_TRACES)}
    found.lost["line of a trace"] = produced.traces.keys() - set(stored)
    found.lost["eligible trace handed on"] = produced.traces.keys() - eligible
    if len(stored) != len(set(stored)) or store.skipped:
        found.problems.append(f"{len(stored) - len(set(stored))} traces come twice, unreadable lines {store.skipped}")
    lines = sum(len(path.read_bytes().splitlines()) for path in (stream.data_dir / "traces").glob("traces-*.jsonl"))
    found.figures |= {"traces": len(set(stored)), "lines of traces that a reader drops": lines - len(stored)}


def _check_dead_letters(stream: Deployment, produced: Produced, found: Findings) -> None:
    letters: Iterable[dict[str, Any]] = stream.read(topics.DEAD_LETTERS)
    values: Counter[bytes] = Counter()
    for letter in letters:
        value = base64.b64decode(letter["value"] or "")
        values[value] += 1
        if value not in produced.corrupt:
            found.problems.append(f"dead letter that was no corrupt message: {letter['error_type']}: {value[:200]!r}")
    found.lost["dead letter"] = {repr(value) for value in produced.corrupt.keys() - values.keys()}
    found.figures |= {"corrupt": len(produced.corrupt), "dead letters that came again": values.total() - len(values)}
