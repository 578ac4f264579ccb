"""The failures that an audit found in the replaced system, each with a test that fails if it comes back.

1. Rank 32 was configured and rank 8 trained, because the scorer was built in a place that did not read the settings.
2. Two traces existed that the training did not see, because writer and reader disagreed on the file format.
3. A person had to find out by hand why 52,104 possible pairs gave 15.
4. So a setting could be without effect: `test_every_setting_has_an_effect` walks over all of them.

`scenarios/test_audit_day.py` repeats the audit's own day.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas.settings as settings_module
import streams
import trainers
from schemas import job_settings
from schemas.config import load, setting_fields
from schemas.errors import ArchitectureMismatchError
from schemas.events import Experience, Feedback, Trace
from schemas.records import Answer
from schemas.settings import Settings
from streams.history.importing import Imported, found_in
from streams.history.legacy import tell_of_old_traces
from streams.imports.events import Making
from streams.imports.files import Files
from streams.imports.found import Ready
from streams.imports.tierstream import FORMAT
from streams.transport.batch import RecordBatch
from streams.worker.app import build_app
from streams.worker.role_app import TierstreamApp
from tests.effects.learning import trace
from tests.scenarios.audit_day import write_legacy_traces
from tests.streams.offline import batch, hand_over, joined, offline_app, record
from tests.test_every_setting_has_an_effect import EFFECTS
from tests.trainers.scorer.making import arrival_of, entry
from trainers.scorer.network import ScorerNetwork
from trainers.traces import store as trace_store
from trainers.traces.store import TraceStore

# 1. The configured rank is in effect


def scorer_of(app: TierstreamApp, checkpoint: bool = False) -> dict[str, Any]:
    """Let the scorer's agent learn one feedback, and return its own account."""

    scorer = app.agents_of_ours.scorer
    assert scorer is not None

    async def run() -> None:
        await hand_over(app, joined(arrival_of(entry(0))), joined(entry(0)))
        if checkpoint:
            await scorer.checkpoint()

    asyncio.run(run())
    status = scorer.status()
    assert status is not None
    return status


def of_rank(rank: int | None, folder: Path) -> Settings:
    """Return settings as a worker loads them."""
    chosen = {} if rank is None else {"TIERSTREAM_SCORER__RANK": str(rank)}
    return load(None, chosen, {"data_dir": str(folder)}).settings


@pytest.mark.parametrize(("rank", "parameters"), [(None, 28_193), (8, 7_145), (32, 28_193), (3, 2_760)])
def test_the_rank_that_is_set_is_the_rank_that_learns(rank: int | None, parameters: int, tmp_path: Path) -> None:
    with offline_app(of_rank(rank, tmp_path), "scorer") as (app, kept):
        status = scorer_of(app)
        assert (status["rank"], status["parameters"], status["groups_learned"]) == (rank or 32, parameters, 1)
        [_, update] = map(json.loads, kept.values("score-updates"))
        assert update["scorer_version"].startswith(f"online-r{rank or 32}-")


def test_a_network_of_another_rank_than_the_settings_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the network were built in a place that does not read the settings."""
    monkeypatch.setattr(
        "trainers.scorer.network.ScorerNetwork", lambda rank, seed, hidden: ScorerNetwork(8, seed, hidden)
    )
    with pytest.raises(ArchitectureMismatchError, match=r"rank = 32 means 28,193 .* rank 8 and 7,145"):
        build_app(of_rank(32, tmp_path), "scorer")


def test_a_checkpoint_of_another_rank_stops_the_start_and_stays_as_it_was(tmp_path: Path) -> None:
    """The replaced system said "rank changed: 32 -> 8, starting fresh" and went on."""
    with offline_app(of_rank(8, tmp_path), "scorer") as (app, _):
        scorer_of(app, checkpoint=True)
    [path] = tmp_path.rglob("*.safetensors")
    content = path.read_bytes()
    with pytest.raises(ArchitectureMismatchError) as refused:
        build_app(of_rank(32, tmp_path), "scorer")
    for words in ("rank 8", "parameters 7145", "rank 32", "parameters 28193", "set it back", "tierstream retrain"):
        assert words in str(refused.value)
    assert path.read_bytes() == content
    with offline_app(of_rank(8, tmp_path).model_copy(update={"state_dir": str(tmp_path / "other")}), "scorer"):
        pass


def callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every class and function of the program by name."""
    for package in (streams, trainers):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                for name, value in vars(importlib.import_module(found.name)).items():
                    ours = getattr(value, "__module__", None) == found.name
                    if ours and (inspect.isfunction(value) or (inspect.isclass(value) and "__init__" in vars(value))):
                        yield f"{found.name}.{name}", value


def test_nothing_that_takes_settings_can_be_built_without_them() -> None:
    """`ContinuousLowRankTrainer()` had a rank of its own; here nothing does."""
    sections = {
        name for module in (settings_module, job_settings) for name in vars(module) if name.endswith("Settings")
    }
    assert {"Settings", "ScorerSettings", "JobsSettings", "DpoSettings"} <= sections
    taking = {
        f"{name}({parameter.name})": parameter.default is parameter.empty
        for name, value in callables()
        for parameter in inspect.signature(value).parameters.values()
        if str(parameter.annotation).removesuffix(" | None") in sections
    }
    assert [name for name, needed in taking.items() if not needed] == []
    assert {
        "trainers.scorer.learner.OnlineLearner(settings)",
        "streams.worker.app.build_app(settings)",
    } <= taking.keys()
    assert all(p.default is p.empty for p in inspect.signature(ScorerNetwork).parameters.values())


# 2. What is written as a trace is read as one


def in_memory(folder: Path, **sections: Any) -> Settings:
    values = {"data_dir": str(folder), "topics": {"partitions": 1}}
    return Settings.model_validate({**values, **sections})


texts = st.text(max_size=12)


@settings(max_examples=30, deadline=None)
@given(written=st.lists(st.tuples(st.integers(0, 8), texts, texts, st.none() | texts), max_size=8))
def test_every_trace_that_the_agent_stores_is_found(written: list[tuple[int, str, str, str | None]]) -> None:
    traces = [trace(f"t{n}", prompt=p, response=r, thinking=thinking) for n, p, r, thinking in written]
    with TemporaryDirectory() as folder, offline_app(in_memory(Path(folder)), "traces") as (app, _):
        if traces:
            asyncio.run(app.agents_of_ours.traces.process(batch("claude-traces", *traces)))
        app.agents_of_ours.forget()
        found = {stored.trace.trace_id: stored.trace for stored in TraceStore(Path(folder) / "traces").read()}
    first: dict[str, Trace] = {}
    for one in traces:
        first.setdefault(one.trace_id, one)
    assert found == first


def test_one_class_writes_and_reads_and_no_other_module_knows_the_files() -> None:
    assert trace_store.TraceWriter.__module__ == TraceStore.__module__ == "trainers.traces.store"
    root = Path(trace_store.__file__).parents[2]
    knowing = {
        str(path.relative_to(root))
        for package in ("streams", "trainers")
        for path in (root / package).rglob("*.py")
        if '"traces.jsonl"' in (text := path.read_text("utf-8")) or 'f"traces-' in text
    }
    assert knowing == {"trainers/traces/store.py"}


def test_the_two_traces_of_the_replaced_system_are_told_of_until_they_are_imported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line each in `traces.jsonl`, and a third as a file of its own: both forms were in use."""
    folder = tmp_path / "traces"
    write_legacy_traces(folder)
    single = {"id": "single", "query": "why", "reasoning": "hm", "answer": "so", "usage": {"output_tokens": 5}}
    (folder / "2026-02-08.json").write_text(json.dumps(single))
    chosen = in_memory(tmp_path)
    assert tell_of_old_traces(chosen) == 3
    assert "3 traces of the replaced system are not in the stream" in caplog.text
    assert f"tierstream import tierstream {folder}/traces.jsonl {folder}/2026-02-08.json" in caplog.text
    found = found_in(Files([folder]), FORMAT, Making(), Imported())
    events = [one.event.to_json() for one in found if isinstance(one, Ready)]
    with offline_app(chosen, "traces") as (app, kept):
        asyncio.run(app.agents_of_ours.traces.process(batch("claude-traces", *events)))
        eligible = [Trace.from_json(value).output_tokens for value in kept.values("eligible-traces")]
    assert sorted(eligible, key=str) == [5, 504]
    stored = list(TraceStore(folder).read())
    assert sorted(one.trace.output_tokens or 0 for one in stored) == [5, 504, 679]
    assert {one.partition for one in stored} == {0}
    assert tell_of_old_traces(chosen) == 0


# 3. No event and no answer goes without a counted reason

NAMES = ("e1", "e2", "e3")
rewards = st.none() | st.sampled_from([-1.0, -0.5, -0.12, 0.0, 0.15, 0.5, 1.0])

experiences = st.builds(
    lambda name, intent, domain, device, plan, reply: Experience.model_validate(
        {
            "experience_id": name,
            "timestamp": 1,
            "query": "q",
            "intent": {"type": intent, "domains": [domain], "devices": device},
            "widget_plan": [{"widget_id": "w1", "widget_type": plan}] if plan else [],
            "voice_reply": reply,
        }
    ),
    st.sampled_from(NAMES),
    st.sampled_from(["status", "status", "control"]),
    st.sampled_from(["hvac", "power"]),
    st.sampled_from([[], ["pump"], ["fan"]]),
    st.sampled_from(["", "gauge", "table"]),
    st.sampled_from([None, "", "yes", "no"]),
)
feedbacks = st.builds(
    lambda number, of, source, reward, voice, widget, confidence: {
        "feedback_id": f"f{number}",
        "experience_id": of,
        "timestamp": number,
        "source": source,
        "reward": reward,
        "voice_reward": voice,
        "per_widget_feedback": widget,
        "evaluation_confidence": confidence,
    },
    st.integers(0, 12),
    st.sampled_from(NAMES),
    st.sampled_from(["user", "evaluator", "evaluator", "implicit"]),
    rewards,
    rewards,
    st.sampled_from([[], [{"widget_id": "w1", "reward": 1.0}], [{"widget_id": "w9", "reward": -1.0}]]),
    st.sampled_from([None, 0.2, 0.9]),
)
judgements = feedbacks.filter(
    lambda one: one["reward"] is not None or one["voice_reward"] is not None or bool(one["per_widget_feedback"])
).map(Feedback.model_validate)
unusable = st.sampled_from([b"", b"\xff", b"{}", b'{"schema_version": 7}'])
stream_strategy = st.lists(st.one_of(experiences, judgements, judgements, judgements, unusable), max_size=30)

ENDS_OF_FEEDBACK = {"joined", "unusable", "superseded", "duplicate_feedback", "early", "dead_lettered", "forwarded"}


def through_the_agents(events: list[Experience | Feedback | bytes], folder: Path, **sections: Any) -> Any:
    """Run events through join and pairing, one record a batch; return counts, answers handed on, and the funnel."""
    chosen = in_memory(folder, **sections)
    with offline_app(chosen, "join") as (app, kept):
        join = app.agents_of_ours.join
        assert join is not None

        async def decide() -> None:
            for offset, event in enumerate(events):
                topic = "experiences" if isinstance(event, Experience) else "feedback"
                await join.process(batch(topic, event, start=offset))

        asyncio.run(decide())
        values, counts = kept.values("answers"), app.services.metrics.totals()
    answers = [answer for value in values for answer, _ in Answer.each_from(value)]
    with offline_app(chosen, "pairs") as (app, _):
        pairs = app.agents_of_ours.pairs
        assert pairs is not None
        if values:
            records = [record(value, offset) for offset, value in enumerate(values)]
            asyncio.run(pairs.process(RecordBatch("answers", 0, records)))
        return counts | app.services.metrics.totals(), answers, pairs.funnel(0, 0.0), kept


@given(events=stream_strategy, one_to_one=st.booleans(), bucket_size=st.sampled_from([1, 500]))
def test_every_event_and_every_answer_has_a_counted_reason(
    events: list[Experience | Feedback | bytes], one_to_one: bool, bucket_size: int
) -> None:
    rules = {"one_to_one": one_to_one, "bucket_size": bucket_size}
    with TemporaryDirectory() as folder:
        counts, answers, funnel, kept = through_the_agents(events, Path(folder), pairs=rules)
    kinds = Counter("experiences" if isinstance(event, Experience) else "feedback" for event in events)
    of_feedback = {name: count for name, count in counts.get("feedback", {}).items() if name in ENDS_OF_FEEDBACK}
    assert sum(of_feedback.values()) == kinds["feedback"]
    arrived = counts.get("experiences", {})
    assert arrived.get("arrived", 0) + arrived.get("duplicate_experience", 0) == kinds["experiences"]
    # Early feedback is counted once more when its experience comes; what is left of it waits.
    came = {event.experience_id for event in events if isinstance(event, Experience)}
    waits = {(e.experience_id, e.feedback_id) for e in events if isinstance(e, Feedback)}
    later = sum(arrived.get(name, 0) for name in ("joined", "unusable", "superseded"))
    assert of_feedback.get("early", 0) - later == len({pair for pair in waits if pair[0] not in came})
    assert len(kept.values("dead-letters")) == sum(isinstance(event, bytes) for event in events)
    outcomes = counts.get("answers", {})
    assert sum(outcomes.values()) == len(answers)
    for kind in ("widget", "voice"):
        into = len({answer.experience_id for answer in answers if answer.kind == kind})
        found = funnel[kind]
        dropped, waiting = sum(found["dropped"].values()), sum(found["waiting"].values())
        assert found["answers"] == into == dropped + waiting + found["paired"]
        assert sum(found["comparisons"].values()) == found["waiting"]["chosen"] * found["waiting"]["rejected"]


# 4. No setting is without effect


def test_every_setting_is_shown_to_have_an_effect() -> None:
    assert EFFECTS.keys() == {key for key, _ in setting_fields()}
    assert "scorer.rank" in EFFECTS
