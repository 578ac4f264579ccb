"""The story of one experience through every tier, told from what was gathered. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.markup import escape

from schemas.events import FeedbackSource, PairKind
from schemas.records import Answer
from schemas.settings import Settings
from streams.audit.report import instant
from streams.audit.story import Gathered, Place, gather
from streams.terminal import Console
from streams.training.folder import END_STATES
from trainers.pairs.entry import EVICTED, PAIRED, UNPAIRED, WAITING, Entry
from trainers.pairs.funnel import KINDS
from trainers.pairs.rules import DROP_REASONS, confidence_of, drop_reason, example_id, reject_reason, side_of
from trainers.reward import Judgement, is_newer, judge_answer


@dataclass(frozen=True, slots=True)
class Chapter:
    """What happened in one tier."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Story:
    """What happened to an experience."""

    experience_id: str
    chapters: tuple[Chapter, ...]


async def story(settings: Settings, experience_id: str) -> Story:
    """Gather and tell.

    Raises:
        InputError: nothing in the stream has this id.
        ConnectionFailedError: the broker cannot be reached.
    """
    return compose(await gather(settings, experience_id), settings)


def compose(found: Gathered, settings: Settings) -> Story:
    """Return the story of what was gathered."""
    latest, superseded = latest_judgements(found)
    chapters = (
        Chapter("Arrival", tuple(_arrival(found))),
        Chapter("Judgements", tuple(_judgements(found, latest, superseded, settings))),
        Chapter("Tier 1: scored and learned", tuple(_scores(found))),
        *(Chapter(f"Tier 2: {kind} answer", tuple(_pairing(found, kind, settings))) for kind in KINDS),
        Chapter("Tier 3: traces", tuple(_traces(found, settings))),
    )
    return Story(found.experience_id, chapters)


def latest_judgements(found: Gathered) -> tuple[dict[FeedbackSource, Judgement], set[str]]:
    """Return the judgement that counts by source, and the ids of the feedbacks that do not."""
    latest: dict[FeedbackSource, Judgement] = {}
    counting: dict[FeedbackSource, str] = {}
    for _, feedback in found.feedbacks:
        judgement, before = Judgement.of(feedback), latest.get(feedback.source)
        if before is None or is_newer(judgement, before):
            latest[feedback.source], counting[feedback.source] = judgement, feedback.feedback_id
    return latest, {feedback.feedback_id for _, feedback in found.feedbacks} - set(counting.values())


def tell(told: Story, console: Console) -> None:
    """Print a story."""
    console.print(f"[bold]{escape(told.experience_id)}[/]")
    for chapter in told.chapters:
        console.print(f"\n[bold]{escape(chapter.title)}[/]")
        for line in chapter.lines:
            console.print(f"  {escape(line)}", highlight=False)


def _arrival(found: Gathered) -> Iterator[str]:
    experience = found.experience
    if experience is None:
        yield "the experience itself is not in the stream: its feedback waits for join.retention, then is dead-lettered"
    else:
        when = "" if found.arrived_at is None else f" at {instant(found.arrived_at)}"
        domains = ", ".join(experience.intent.domains) or "no domain"
        yield f"arrived on partition {found.partition}{when}: {experience.query!r}"
        yield (
            f"intent {experience.intent.type} ({domains}), {len(experience.widget_plan)} widgets, "
            f"{'a' if experience.voice_reply else 'no'} spoken reply"
        )
    for letter in found.dead_letters:
        yield f"a {letter.get('topic')} record was dead-lettered as {letter.get('error_type')}: {letter.get('error')}"


def _judgements(
    found: Gathered, latest: dict[FeedbackSource, Judgement], superseded: set[str], settings: Settings
) -> Iterator[str]:
    if not found.feedbacks:
        yield "nobody has judged it yet"
        return
    for at, feedback in found.feedbacks:
        said = [
            f"reward {feedback.reward:+.3g}" if feedback.reward is not None else "",
            f"{len(feedback.per_widget_feedback)} widgets" if feedback.per_widget_feedback else "",
            f"voice {feedback.voice_reward:+.3g}" if feedback.voice_reward is not None else "",
            f"confidence {feedback.evaluation_confidence:.3g}" if feedback.evaluation_confidence is not None else "",
        ]
        counts = " (superseded by a later one of this source)" if feedback.feedback_id in superseded else ""
        yield f"{feedback.feedback_id} by {feedback.source}, {instant(at)}: {', '.join(filter(None, said))}{counts}"
    names = None if found.experience is None else [widget.widget_id for widget in found.experience.widget_plan]
    for kind in KINDS:
        reward, confidence, *_ = judge_answer(latest, kind, settings.reward, names)
        sources = " and ".join(latest)
        of = "" if confidence is None else f", evaluation confidence {confidence:.3g}"
        yield f"{kind} answer: " + (
            "no reward" if reward is None else f"reward {reward:+.4g}, blended of {sources}{of}"
        )


def _scores(found: Gathered) -> Iterator[str]:
    if not found.updates:
        yield "not scored yet: look at the lag of scorer-entries with `tierstream lag`"
    newest: dict[tuple[str, str | None], dict[str, object]] = {}
    for update in found.updates:
        newest[str(update.get("reason")), update.get("feedback_id")] = update
    for (reason, feedback_id), update in newest.items():
        scores = ", ".join(_score(item) for item in update["items"])  # type: ignore[attr-defined]
        what = {
            "experience_arrived": "scored on arrival, at step",
            "feedback_learned": f"{feedback_id} was learned in step",
            "feedback_held_out": f"{feedback_id} was held out for validation, never learned; at step",
        }.get(reason, reason)
        version, epoch = update["scorer_version"], update["scorer_epoch"]
        yield f"{what} {update['scorer_step']} (epoch {epoch}, {version}): {scores}"
    told = {feedback_id for _, feedback_id in newest}
    for _, feedback in found.feedbacks:
        if feedback.feedback_id not in told:
            yield (
                f"{feedback.feedback_id} led to no score update: it was superseded on arrival, rewards no item, or "
                "still waits"
            )


def _score(item: dict[str, float | str | None]) -> str:
    before = item.get("previous_score")
    change = f"{before:+.3f} -> " if isinstance(before, float) else ""
    return f"{item['item_id']} {change}{item['score']:+.3f}"


def _pairing(found: Gathered, kind: PairKind, settings: Settings) -> Iterator[str]:
    entry, answer = found.entries.get(kind), found.answers.get(kind)
    if entry is None or answer is None:
        yield "not judged, or not decided yet"
        return
    pairs = [pair for pair in found.pairs if pair.get("kind") == kind]
    if entry.outcome == PAIRED:
        yield f"paired, with a reward of {entry.reward if entry.reward is not None else 0:+.4g} then"
        for pair in pairs:
            chosen = pair["chosen_experience_id"] == found.experience_id
            other = pair["rejected_experience_id" if chosen else "chosen_experience_id"]
            yield (
                f"pair {pair['pair_id']}: {'chosen' if chosen else 'rejected'}, against {other}, gap "
                f"{pair['reward_gap']:.3g}, shared domains {', '.join(pair['shared_domains'])}"
            )
            judging = pair.get("chosen_feedback_ids" if chosen else "rejected_feedback_ids")
            if judging:
                rest = "other feedback was superseded, came later, or changed nothing"
                yield f"  its reward is of {', '.join(judging)}; {rest}"
            yield from _where(found.places.get(str(pair["pair_id"])), settings.pairs.threshold, "pairs")
        return
    if entry.outcome == UNPAIRED:
        side = "good" if side_of(entry.reward, settings.pairs) == "chosen" else "bad"
        yield f"not paired in time: it trains by itself as a {side} answer, with a reward of {entry.reward or 0:+.4g}"
        yield from _where(
            found.places.get(example_id(kind, found.experience_id)), settings.unpaired.threshold, "answers"
        )
        return
    yield from _not_paired(found, kind, entry, answer, settings)


def _not_paired(found: Gathered, kind: PairKind, entry: Entry, answer: Answer, settings: Settings) -> Iterator[str]:
    rules = settings.pairs
    reason = drop_reason(answer, rules)
    if entry.outcome == EVICTED:
        yield f"not paired: it had to leave a full side, {rules.bucket_size} answers wait at most (pairs.bucket_size)"
    elif reason is not None:
        reward = "none" if answer.reward is None else f"{answer.reward:+.4g}"
        confidence = confidence_of(answer, rules)
        told = "none" if confidence is None else f"{confidence:.3g}"
        yield f"not paired: {reason} (reward {reward}, confidence {told}); the rules: {_rules(settings)}"
    elif entry.outcome in DROP_REASONS:
        yield f"not paired: it was dropped as {entry.outcome} under earlier rules, until it is judged again"
    elif entry.outcome == WAITING:
        yield from _waits(found, kind, entry, answer, settings)
    else:
        yield f"not paired: {entry.outcome}"


def _waits(found: Gathered, kind: PairKind, entry: Entry, answer: Answer, settings: Settings) -> Iterator[str]:
    rules, side = settings.pairs, side_of(answer.reward, settings.pairs)
    against = [o for o in found.others[kind] if side_of(o.reward, rules) not in (None, side)]
    candidates = [other for other in against if drop_reason(other, rules) is None]
    waiting = found.waiting.get(kind, set())
    why: Counter[str] = Counter()
    for other in candidates:
        reason = reject_reason(*((answer, other) if side == "chosen" else (other, answer)), rules)
        why[reason or ("another query, waits too" if other.experience_id in waiting else "paired with another")] += 1
    told = ", ".join(f"{name} {count}" for name, count in why.most_common())
    yield f"not paired: it waits as {side}; {len(candidates)} answers of intent {answer.intent_type} are opposite"
    if rules.patience:
        yield (
            f"it waits for one to the same query until {instant(entry.waits_since + rules.patience)} (pairs.patience), "
            "then one to another query will do that has waited as long"
        )
    if settings.unpaired.enabled and settings.unpaired.kinds in ("both", kind):
        yield f"from {instant(entry.waits_since + 2 * rules.patience)} on it trains by itself (unpaired.enabled)"
    if told:
        yield f"why none of them: {told}"


def _rules(settings: Settings) -> str:
    rules = settings.pairs
    return (
        f"chosen above {rules.chosen_reward_above:g} with confidence from {rules.min_evaluation_confidence:g} on, "
        f"rejected below {rules.rejected_reward_below:g}"
    )


def _where(place: Place | None, threshold: int, unit: str) -> Iterator[str]:
    if place is None or place.sequence is None or place.run_start is None:
        yield "  not counted towards a job yet"
        return
    if not place.jobs:
        yield f"  {place.sequence - place.run_start + 1}. of the {threshold} {unit} of the next job"
    for job in place.jobs:
        promoted = {True: ", promoted", False: ", not promoted"}.get(job["promoted"], "")
        yield f"  in job {job['job_id']} ({job['state']}), {_used(job)}{promoted}"


def _used(job: Mapping[str, Any]) -> str:
    """Say what a job made of an example."""
    version = job["version"]
    if job["state"] not in END_STATES:
        return "which says at its end whether it was trained on, held out or dropped"
    if not version:
        return "no version came of it"
    if job.get("use") == "training":
        return f"trained in version {version}" + (", shortened to max_length" if job.get("cut") else "")
    if job.get("use") == "held_out":
        return f"held out: never trained on, it judges version {version}"
    if job.get("use") in ("dropped", "left_out"):  # the latter in lineages of earlier releases
        return f"dropped as {job.get('reason', 'held_out_prompt')}, not trained in version {version}"
    return f"in version {version}"


def _traces(found: Gathered, settings: Settings) -> Iterator[str]:
    if not found.traces:
        yield "no trace names this experience"
    for name in found.traces:
        yield f"trace {name}"
        yield from _where(found.places.get(name), settings.traces.threshold, "traces")
