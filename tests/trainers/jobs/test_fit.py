"""What a trainer is given is what the record says: examples fit before they are parted, and each has one end."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch

from schemas.events import Turn
from tests.trainers.jobs import tiny
from tests.trainers.jobs.running import read_lines, run
from trainers.jobs import received
from trainers.jobs.encode import encode
from trainers.jobs.fit import fit
from trainers.jobs.formats import trace_messages
from trainers.jobs.heldout import prompts_of
from trainers.jobs.lora import load_tokenizer
from trainers.jobs.received import Noting, Received
from trainers.jobs.work import BaseModel
from trainers.versions import VersionStore

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

LENGTH = 128


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return load_tokenizer(BaseModel("tiny", tiny_base, "0" * 64))


def long(pair, **changes):
    """A pair of replies with something of it as given."""
    assert pair.kind == "voice"
    return pair.model_copy(update=changes)


def test_a_long_prompt_loses_its_beginning_and_the_answers_nothing(tokenizer):
    pair = long(tiny.pairs(2)[1], prompt="I count rows. " * 60 + "Turn on the light?", chosen="On.", rejected="No.")
    fitted = fit(tokenizer, pair, LENGTH)
    assert fitted.cut
    assert fitted.example is not None
    assert fitted.example.prompt.endswith("Turn on the light?")
    assert max(len(row.ids) for row in fitted.rows) <= LENGTH
    said = [tokenizer.decode([t for t, s in zip(row.ids, row.said, strict=True) if s]) for row in fitted.rows]
    assert said == ["On.<|im_end|>", "No.<|im_end|>"]
    assert prompts_of(pair) != prompts_of(fitted.example)  # so the split is by the prompt as it was


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("many words " * 200, "No.", "too_long"),
        ("many words " * 200 + "good", "many words " * 200 + "bad", "same_within_length"),
        ("On.", "On.", "same_within_length"),
    ],
)
def test_a_pair_that_teaches_nothing_within_the_length_is_dropped_with_a_reason(tokenizer, chosen, rejected, reason):
    fitted = fit(tokenizer, long(tiny.pairs(2)[1], chosen=chosen, rejected=rejected), LENGTH)
    assert (fitted.example, fitted.reason) == (None, reason)


def test_of_a_long_conversation_the_oldest_turns_go_and_the_last_answer_alone_is_learned(tokenizer):
    turns = [
        Turn(role=role, content=f"{role} {n} " + "says more " * 8) for n in range(6) for role in ("user", "assistant")
    ]
    trace = tiny.traces(1)[0].model_copy(update={"messages": (*turns, Turn(role="user", content="And now?"))})
    fitted = fit(tokenizer, trace, LENGTH)
    assert fitted.example is not None
    assert fitted.example.messages is not None
    assert 1 <= len(fitted.example.messages) < 13
    assert fitted.example.messages[0].role == "user"
    assert fitted.example.messages[-1].content == "And now?"
    (row,) = fitted.rows
    said = tokenizer.decode([token for token, mark in zip(row.ids, row.said, strict=True) if mark])
    assert said == trace_messages(trace)[-1]["content"] + "<|im_end|>"
    assert len(row.ids) <= LENGTH


# Whole jobs

LONG = "many words " * 200


def spoilt_pairs():
    pairs = tiny.pairs(40)
    pairs[1] = long(pairs[1], chosen=LONG)
    pairs[2] = long(pairs[2], chosen=LONG + "good", rejected=LONG + "bad")
    pairs[4] = long(pairs[4], prompt="I count rows. " * 60, rejected_prompt="I count rows. " * 60)
    return pairs


def spoilt_traces():
    traces = tiny.traces(40)
    traces[0] = traces[0].model_copy(update={"response": LONG})
    traces[1] = traces[1].model_copy(update={"thinking": "I count rows. " * 60})
    return traces


@pytest.mark.long
@pytest.mark.parametrize(
    ("tier", "examples", "dropped"),
    [("dpo", spoilt_pairs(), {"too_long": 1, "same_within_length": 1}), ("sft", spoilt_traces(), {"too_long": 1})],
)
def test_every_example_has_exactly_one_end_and_the_sums_are_equal(tiny_base, tmp_path, tier, examples, dropped):
    """Fitting after the split recorded 22 of 32 answers as trained on where 4 were."""
    code, result = run(tiny.job(tmp_path, tier, examples, tiny.settings(tiny_base)))
    metrics = result["metrics"]
    assert (code, metrics["dropped"], metrics["examples"]) == (0, dropped, 40)
    assert metrics["trained_on"] + metrics["held_out_of_job"] + sum(metrics["dropped"].values()) == 40
    store = VersionStore(tmp_path)
    lines = read_lines(store.folder(result["version"]) / "lineage.jsonl")
    ids = [getattr(one, "pair_id", None) or one.trace_id for one in examples]
    assert sorted(line["id"] for line in lines) == sorted(ids)
    assert Counter(line["use"] for line in lines) == {
        "training": metrics["trained_on"],
        "held_out": metrics["held_out_of_job"],
        "dropped": sum(dropped.values()),
    }
    assert {line["reason"]: line["id"] for line in lines if line["use"] == "dropped"}["too_long"] == ids[
        1 if tier == "dpo" else 0
    ]
    cut = ids[4 if tier == "dpo" else 1]
    assert [line["id"] for line in lines if line.get("cut")] in ([cut], [])
    assert metrics["cut"] == len([line for line in lines if line.get("cut")])


def test_examples_that_max_steps_ends_before_are_not_said_to_be_trained_on(tiny_base, tmp_path):
    _, result = run(tiny.job(tmp_path, "sft", tiny.traces(40), tiny.settings(tiny_base, max_steps=2)))
    metrics = result["metrics"]
    assert metrics["trained_on"] == 8  # 2 steps of 2 passes of 2
    assert metrics["dropped"] == {"not_reached": 40 - 8 - metrics["held_out_of_job"]}


@pytest.mark.parametrize("tier", ["dpo", "sft"])
def test_a_trainer_that_drops_or_cuts_an_example_fails_the_job_by_name(tiny_base, tmp_path, monkeypatch, tier):
    examples = tiny.pairs(24) if tier == "dpo" else tiny.traces(24)
    folder = tiny.job(tmp_path, tier, examples, tiny.settings(tiny_base))

    def forgetful(self: Noting, notes: Received) -> None:
        kept(self, notes)
        self.train_dataset = self.train_dataset.select(range(1, len(self.train_dataset)))

    kept = Noting.note_steps
    monkeypatch.setattr(received.Noting, "note_steps", forgetful)
    code, result = run(folder)
    assert (code, result["state"]) == (1, "failed")
    assert "the trainer's examples are not the job's: 1 of" in result["error"]
    assert "never reached it" in result["error"]


def test_an_example_that_the_trainer_cut_is_named():
    notes = Received(["a", "b"], [[5, 6], [4, 4]])
    notes.note([0, 1], [[5, 6], [4, 3]], [[2, 2], [1, 1]])
    with pytest.raises(received.JobError, match=r"1 of 2 were trained on otherwise than prepared \(b\)"):
        notes.trained(whole_pass=False)


def test_an_example_without_a_learned_token_is_named():
    notes = Received(["a"], [[5]])
    notes.note([0], [[5]], [[0]])
    with pytest.raises(received.JobError, match=r"otherwise than prepared \(a\)"):
        notes.trained(whole_pass=True)


def test_the_rows_of_a_batch_are_told_by_example():
    batch = {
        "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]),
        "completion_mask": torch.tensor([[0, 1, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]]),
    }
    assert received._rows(batch, 2) == ([[3, 1], [2, 3]], [[2, 0], [1, 1]])


def test_a_job_of_which_nothing_fits_says_what_to_do(tiny_base, tmp_path):
    traces = [trace.model_copy(update={"response": LONG}) for trace in tiny.traces(12)]
    code, result = run(tiny.job(tmp_path, "sft", traces, tiny.settings(tiny_base)))
    assert code == 1
    assert result["error"].endswith(
        "can be trained on with max_length = 128: too_long 12; "
        "raise jobs.sft.max_length, then tierstream jobs retry --new-settings"
    )


def test_earlier_answers_of_a_conversation_are_no_part_of_the_loss(tokenizer):
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "second"},
    ]
    row = encode(tokenizer, messages)
    assert tokenizer.decode([t for t, said in zip(row.ids, row.said, strict=True) if said]) == "second<|im_end|>"
    assert json.dumps([turn["content"] for turn in messages])
