"""The story of one experience, told from records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas.events import Experience, Feedback
from schemas.records import Answer
from schemas.settings import Settings
from streams.audit.explain import _where, compose
from streams.audit.story import Gathered, Place, jobs_with
from trainers.pairs.entry import PAIRED, UNPAIRED, WAITING, Entry
from trainers.pairs.rules import example_id

SETTINGS = Settings()
EXPERIENCE = Experience.model_validate(
    {
        "experience_id": "e1",
        "timestamp": "2026-02-01T00:00:00Z",
        "query": "why is pump 1 hot",
        "intent": {"type": "status", "domains": ["pumps"]},
        "widget_plan": [{"widget_id": "w", "widget_type": "gauge"}],
    }
)


def feedback(name: str, source: str, at: str, **more: Any) -> Feedback:
    return Feedback.model_validate(
        {"feedback_id": name, "experience_id": "e1", "timestamp": f"2026-02-01T{at}Z", "source": source, **more}
    )


def answer(name: str, reward: float, **more: Any) -> Answer:
    fields = {
        "kind": "widget",
        "query": "q",
        "intent_type": "status",
        "domains": ("pumps",),
        "device_types": (),
        "content": [{"widget_type": name}],
        "evaluation_confidence": 0.9,
        "judged_by_user": False,
    }
    return Answer(**{**fields, "experience_id": name, "reward": reward, **more})


def gathered(**more: Any) -> Gathered:
    return Gathered(experience_id="e1", experience=EXPERIENCE, arrived_at=0.0, partition=2, **more)


def lines(found: Gathered, title: str) -> list[str]:
    return [line for chapter in compose(found, SETTINGS).chapters if title in chapter.title for line in chapter.lines]


def test_rewards_are_told_with_how_they_blended() -> None:
    found = gathered(
        feedbacks=[
            (1.0, feedback("old", "user", "01:00:00", reward=-1.0)),
            (2.0, feedback("f1", "user", "02:00:00", reward=0.8)),
            (3.0, feedback("f2", "evaluator", "02:00:00", reward=0.5, evaluation_confidence=0.9)),
        ]
    )
    told = lines(found, "Judgements")
    assert told[0].endswith("reward -1 (superseded by a later one of this source)")
    assert "widget answer: reward +0.695, blended of user and evaluator, evaluation confidence 0.9" in told


def test_learned_and_held_out_are_told_apart() -> None:
    item = {"item_id": "w", "score": 0.5, "previous_score": 0.25}
    update = {"scorer_step": 7, "scorer_epoch": 2, "scorer_version": "v", "items": [item]}
    found = gathered(
        updates=[
            {**update, "reason": "feedback_learned", "feedback_id": "f1"},
            {**update, "reason": "feedback_held_out", "feedback_id": "f2"},
        ]
    )
    told = lines(found, "Tier 1")
    assert told[0] == "f1 was learned in step 7 (epoch 2, v): w +0.250 -> +0.500"
    assert told[1].startswith("f2 was held out for validation, never learned; at step 7")


def test_a_pair_is_told_with_its_job_and_version() -> None:
    pair = {
        "pair_id": "p1",
        "kind": "widget",
        "chosen_experience_id": "e1",
        "rejected_experience_id": "e9",
        "reward_gap": 1.2,
        "shared_domains": ["pumps"],
    }
    job = {"job_id": "dpo-1", "state": "finished", "version": "dpo-abc", "promoted": True}
    found = gathered(
        entries={"widget": Entry(4, PAIRED, 0.7, "e9")},
        answers={"widget": answer("e1", 0.7)},
        pairs=[pair],
        places={"p1": Place("p1", 3, 0, (job,))},
    )
    told = lines(found, "widget")
    assert told[1] == "pair p1: chosen, against e9, gap 1.2, shared domains pumps"
    assert told[2] == "  in job dpo-1 (finished), in version dpo-abc, promoted"
    for use, words in (
        ({"use": "training", "cut": True}, "trained in version dpo-abc, shortened to max_length, promoted"),
        ({"use": "held_out"}, "held out: never trained on, it judges version dpo-abc, promoted"),
        ({"use": "dropped", "reason": "too_long"}, "dropped as too_long, not trained in version dpo-abc, promoted"),
    ):
        assert next(iter(_where(Place("p", 3, 0, ({**job, **use},)), 80, "pairs"))).endswith(words)
    going = {"job_id": "dpo-1", "state": "not ended", "version": None, "promoted": None}
    assert next(iter(_where(Place("p", 3, 0, (going,)), 80, "pairs"))) == (
        "  in job dpo-1 (not ended), which says at its end whether it was trained on, held out or dropped"
    )
    assert next(iter(_where(Place("p", 3, 0, ({**going, "state": "failed"},)), 80, "pairs"))).endswith("came of it")
    found.places["p1"] = Place("p1", 3, 0, ())
    assert lines(found, "widget")[2] == "  4. of the 80 pairs of the next job"


def test_a_pair_is_told_with_the_feedback_that_reached_it_and_the_rest_is_told_as_superseded() -> None:
    """The join's answers name the latest of each source, and a pair names them as they were then."""
    pair = {
        "pair_id": "p1",
        "kind": "widget",
        "chosen_experience_id": "e9",
        "rejected_experience_id": "e1",
        "reward_gap": 1.2,
        "shared_domains": ["pumps"],
        "chosen_feedback_ids": ["other"],
        "rejected_feedback_ids": ["f2", "f3"],
    }
    found = gathered(
        entries={"widget": Entry(4, PAIRED, -0.7, "e9")},
        answers={"widget": answer("e1", -0.7)},
        pairs=[pair],
        feedbacks=[
            (1.0, feedback("f1", "user", "01:00:00", reward=1.0)),
            (2.0, feedback("f2", "user", "02:00:00", reward=-1.0)),
            (3.0, feedback("f3", "evaluator", "02:00:00", reward=-0.5)),
        ],
    )
    told = lines(found, "widget answer")
    assert told[1].startswith("pair p1: rejected, against e9")
    assert told[2] == "  its reward is of f2, f3; other feedback was superseded, came later, or changed nothing"
    superseded = [line.split()[0] for line in lines(found, "Judgements") if "superseded" in line]
    assert superseded == ["f1"]


def test_a_waiting_answer_is_told_why_none_of_the_others_fits() -> None:
    others = [answer("a", -0.5, domains=("fans",)), answer("b", -0.5, domains=("fans",)), answer("c", 0.9)]
    found = gathered(
        entries={"widget": Entry(4, WAITING, 0.7, since=1769904000.0)},
        answers={"widget": answer("e1", 0.7)},
        others={"widget": others},
    )
    assert lines(found, "widget") == [
        "not paired: it waits as chosen; 2 answers of intent status are opposite",
        "it waits for one to the same query until 2026-02-01T01:00:00+00:00 (pairs.patience), then one to another "
        "query will do that has waited as long",
        "why none of them: no_shared_domain 2",
    ]
    found.others["widget"] += [answer("d", -0.5), answer("e", -0.5), answer("f", -0.5)]
    found.waiting = {"widget": {"d", "e"}}
    assert lines(found, "widget")[2] == (
        "why none of them: no_shared_domain 2, another query, waits too 2, paired with another 1"
    )
    impatient = Settings.model_validate({"pairs": {"patience": 0}})
    told = [line for chapter in compose(found, impatient).chapters for line in chapter.lines]
    assert not any("pairs.patience" in line for line in told)


def test_an_answer_without_a_partner_is_told_that_it_trains_by_itself_and_in_which_job() -> None:
    name = example_id("widget", "e1")
    job = {"job_id": "kto-1", "state": "finished", "version": "kto-v", "promoted": True, "use": "training"}
    found = gathered(
        entries={"widget": Entry(4, UNPAIRED, -0.7)},
        answers={"widget": answer("e1", -0.7)},
        places={name: Place(name, 2, 0, ())},
    )
    assert lines(found, "widget") == [
        "not paired in time: it trains by itself as a bad answer, with a reward of -0.7",
        "  3. of the 80 answers of the next job",
    ]
    found.places[name] = Place(name, 2, 0, (job,))
    assert lines(found, "widget")[1] == "  in job kto-1 (finished), trained in version kto-v, promoted"


def test_an_answer_that_waits_is_told_when_it_will_train_by_itself() -> None:
    found = gathered(
        entries={"widget": Entry(4, WAITING, 0.7, since=1769904000.0)},
        answers={"widget": answer("e1", 0.7)},
        others={"widget": []},
    )
    on = Settings.model_validate({"unpaired": {"enabled": True}})
    told = [line for chapter in compose(found, on).chapters for line in chapter.lines]
    assert "from 2026-02-01T02:00:00+00:00 on it trains by itself (unpaired.enabled)" in told
    assert not any("by itself" in line for chapter in compose(found, Settings()).chapters for line in chapter.lines)


def test_a_dropped_answer_is_told_its_rule() -> None:
    found = gathered(
        entries={"widget": Entry(4, "chosen_no_confidence", 0.7)},
        answers={"widget": answer("e1", 0.7, evaluation_confidence=None)},
    )
    assert lines(found, "widget")[0].startswith("not paired: chosen_no_confidence (reward +0.7, confidence none)")


def test_feedback_before_its_experience_is_told() -> None:
    found = Gathered(experience_id="e1", feedbacks=[(1.0, feedback("f1", "user", "01:00:00", reward=0.5))])
    assert lines(found, "Arrival")[0].startswith("the experience itself is not in the stream")
    assert "f1 led to no score update" in lines(found, "Tier 1")[1]


def test_an_examples_jobs_are_those_whose_dataset_has_its_very_id(tmp_path: Path) -> None:
    """`story-1` was told the jobs of `story-12`."""
    for job, ids in (("sft-1", ["story-12", "other"]), ("sft-2", ["story-1"])):
        folder = tmp_path / "jobs" / job
        folder.mkdir(parents=True)
        lines = [json.dumps({"trace_id": name, "prompt": "like story-1"}) for name in ids]
        (folder / "dataset.jsonl").write_text("".join(f"{line}\n" for line in lines))
        (folder / "job.json").write_text(json.dumps({"tier": "sft"}))
        (folder / "result.json").write_text(json.dumps({"state": "finished", "version": f"{job}-v", "promoted": True}))
    lineage = tmp_path / "models" / "sft" / "sft-2-v" / "lineage.jsonl"
    lineage.parent.mkdir(parents=True)
    lineage.write_text(json.dumps({"id": "story-1", "use": "dropped", "reason": "too_long"}) + "\n")
    found = dict(jobs_with(tmp_path, {"story-1", "story-12"}))
    assert {name: [job["job_id"] for job in jobs] for name, jobs in found.items()} == {
        "story-1": ["sft-2"],
        "story-12": ["sft-1"],
    }
    assert (found["story-1"][0]["use"], found["story-1"][0]["reason"]) == ("dropped", "too_long")
    assert "use" not in found["story-12"][0]
