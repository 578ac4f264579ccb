"""What events would give each tier by themselves, by the rules that the stream has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count
from math import inf

from schemas.base import Event
from schemas.events import Experience, Feedback, FeedbackSource, PairKind, Trace
from schemas.records import Answer
from schemas.settings import Settings
from trainers.pairs.funnel import KINDS
from trainers.pairs.matcher import PairMatcher
from trainers.reward import Judgement, Judgements, blended_from, is_newer, judge_answer
from trainers.traces.suitability import assess, is_eligible


class Preview:
    """Takes events as they would be published; all of them are kept until the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._experiences: dict[str, Experience] = {}
        self._feedback: list[Feedback] = []
        self._traces: Counter[str] = Counter()
        self.unsure = 0
        """Good answers that no confidence lets be chosen; known once `lines` were read."""

    def take(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Experience):
            self._experiences.setdefault(event.experience_id, event)
        elif isinstance(event, Feedback):
            self._feedback.append(event)
        elif isinstance(event, Trace):
            found = assess(event, self._settings.traces)
            self._traces["eligible" if is_eligible(found, self._settings.traces) else found.reasons[0]] += 1

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield what each tier would get, in words: name and line."""
        joined = [one for one in self._feedback if one.experience_id in self._experiences]
        missing = len(self._feedback) - len(joined)
        yield (
            "tier 1",
            f"{len(joined)} feedback to learn from" + (f", {missing} of answers not here" if missing else ""),
        )
        pairs, funnel = self._pairs(joined)
        self.unsure = funnel["chosen_no_confidence"]
        threshold = self._settings.pairs.threshold
        yield "tier 2", f"{pairs} pairs{_to_a_job(pairs, threshold)}{_reasons(funnel)}"
        eligible = self._traces["eligible"]
        reasons = Counter({name: number for name, number in self._traces.items() if name != "eligible"})
        yield "tier 3", f"{eligible} traces{_to_a_job(eligible, self._settings.traces.threshold)}{_reasons(reasons)}"

    def _pairs(self, feedback: list[Feedback]) -> tuple[int, Counter[str]]:
        matcher, offsets = PairMatcher(self._settings.pairs, None), count()
        latest: dict[str, dict[FeedbackSource, Judgement]] = {}
        for one in feedback:
            judgements, judgement = latest.setdefault(one.experience_id, {}), Judgement.of(one)
            if one.source not in judgements or is_newer(judgement, judgements[one.source]):
                judgements[one.source] = judgement
                for answer in self._answers(self._experiences[one.experience_id], judgements):
                    matcher.decide(answer, next(offsets), 0.0)
        matcher.tick(next(offsets), inf)  # once everybody has waited as long as the settings say
        funnel = matcher.funnel(inf)
        why: Counter[str] = Counter()
        for kind in KINDS:
            why.update(funnel[kind]["dropped"])
            why["waiting"] += sum(funnel[kind]["waiting"].values())
        return sum(funnel[kind]["pairs"] for kind in KINDS), why

    def _answers(self, experience: Experience, judgements: Judgements) -> Iterator[Answer]:
        """Yield the plan and the reply, where there is one: nobody misses the other kind in a chat."""
        if experience.widget_plan:
            yield self._answer(experience, "widget", judgements)
        if experience.voice_reply:
            yield self._answer(experience, "voice", judgements)

    def _answer(self, experience: Experience, kind: PairKind, judgements: Judgements) -> Answer:
        widgets = [widget.widget_id for widget in experience.widget_plan]
        judged = judge_answer(judgements, kind, self._settings.reward, widgets)
        plan = [widget.model_dump(mode="json", exclude_none=True) for widget in experience.widget_plan]
        return Answer(
            kind=kind,
            experience_id=experience.experience_id,
            query=experience.query,
            intent_type=experience.intent.type,
            domains=experience.intent.domains,
            device_types=tuple(device.type for device in experience.intent.devices),
            content=plan if kind == "widget" else experience.voice_reply,
            reward=judged.reward,
            evaluation_confidence=judged.confidence,
            judged_by_user=judged.by_user,
            feedback_ids=tuple(blended_from(judgements)),
        )


def _to_a_job(count_: int, threshold: int) -> str:
    jobs, more = divmod(count_, threshold)
    return (f", {jobs} job{'s' if jobs > 1 else ''}" if jobs else "") + f", {threshold - more} missing to the next job"


def _reasons(counts: Counter[str]) -> str:
    told = ", ".join(f"{number} {name}" for name, number in counts.most_common() if number > 0)
    return f" ({told})" if told else ""
