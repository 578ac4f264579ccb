import json

import pytest

from schemas.events import Turn, flat_prompt
from tests.trainers.jobs import tiny
from trainers.jobs.heldout import (
    earlier_prompts_of,
    held_out_pairs,
    held_out_traces,
    prompt_hash,
    prompts_of,
    split,
    use_of,
)

SETTINGS = tiny.settings("nowhere")


def test_case_and_white_space_make_no_other_prompt():
    assert prompt_hash("Turn  ON\nthe light ") == prompt_hash("turn on the light")
    assert prompt_hash("turn on the light") != prompt_hash("turn off the light")


@pytest.mark.parametrize(
    "spelt",
    [
        "Why is Jan's caf\u00e9 hot",
        "why is jan\u2019s cafe\u0301 hot?",
        "WHY is Jan's  caf\u00c9 hot!?",
        " why is\u200b jan's caf\u00e9 hot . ",
    ],
)
def test_a_prompt_is_one_however_it_is_spelt(spelt):
    assert prompt_hash(spelt) == prompt_hash("Why is Jan's caf\u00e9 hot?")
    assert prompt_hash("?!") != prompt_hash("")


def test_the_turns_of_one_talk_fall_on_one_side():
    first = Turn(role="user", content="Hello, pump 3 is loud")
    turns = [first]
    sides = set()
    for number in range(6):
        talk = tiny.traces(1)[0].model_copy(
            update={"trace_id": f"talk-{number}", "messages": tuple(turns), "prompt": flat_prompt(turns)}
        )
        sides.add((prompts_of(talk), use_of(talk, 2)))
        turns += [Turn(role="assistant", content=f"answer {number}"), Turn(role="user", content=f"more {number}")]
    assert len(sides) == 1


def test_what_an_earlier_releases_lineage_names_is_held_out_no_more(tmp_path):
    """It spelt prompts apart that are one now."""
    everyone = [one for one in tiny.traces(40) if use_of(one, 2) == "held_out"]
    tiny.job(tmp_path, "sft", everyone, tiny.settings("no base needed"))
    before = frozenset(earlier_prompts_of(everyone[0]))
    assert before != frozenset(prompts_of(everyone[0]))
    kept = held_out_traces(tmp_path, 2, 100, before)
    assert [one.trace_id for one in kept] == [one.trace_id for one in everyone[1:]]


def test_no_held_out_prompt_is_ever_trained_on():
    parts = split(tiny.pairs(400), 10)
    trained = {prompt for pair in parts.training for prompt in prompts_of(pair)}
    assert trained.isdisjoint(prompts_of(pair)[0] for pair in parts.held_out)
    assert 0.05 < len(parts.held_out) / 400 < 0.15
    assert len(parts.training) + len(parts.held_out) + len(parts.left_out) == 400


def test_a_pair_whose_rejected_answer_alone_is_of_a_held_out_prompt_is_left_out():
    parts = split(tiny.pairs(100), 4)
    held, trained = parts.held_out[0], parts.training[0]
    assert use_of(trained.model_copy(update={"rejected_prompt": held.prompt}), 4) == "left_out"
    assert use_of(held.model_copy(update={"rejected_prompt": trained.prompt}), 4) == "held_out"


def test_held_out_examples_add_up_over_jobs_each_once_the_newest_kept(tmp_path):
    tiny.job(tmp_path, "dpo", tiny.pairs(40), SETTINGS)
    first = [pair.pair_id for pair in split(tiny.pairs(40), 4).held_out]
    assert [pair.pair_id for pair in held_out_pairs(tmp_path, 4, 200, frozenset())] == first
    tiny.job(tmp_path, "dpo", tiny.pairs(60, start=20), SETTINGS)
    tiny.job(tmp_path, "sft", tiny.traces(40), SETTINGS)
    found = [pair.pair_id for pair in held_out_pairs(tmp_path, 4, 200, frozenset())]
    assert found == [pair.pair_id for pair in split(tiny.pairs(80), 4).held_out]
    assert [pair.pair_id for pair in held_out_pairs(tmp_path, 4, 5, frozenset())] == found[-5:]
    traces = split(tiny.traces(40), 4).held_out
    assert held_out_traces(tmp_path, 4, 200, frozenset()) == traces


def test_a_bounded_set_is_spread_over_prompts(tmp_path):
    once = split(tiny.pairs(40), 4).held_out[:3]
    first, second, third = once
    again = [one.model_copy(update={"pair_id": f"{one.pair_id}-{n}"}) for n in range(4) for one in (first, second)]
    tiny.job(tmp_path, "dpo", [third, *again], SETTINGS)
    found = held_out_pairs(tmp_path, 4, 5, frozenset())
    assert [pair.prompt for pair in found] == [third.prompt, *[first.prompt, second.prompt] * 2]
    assert [pair.pair_id for pair in found][1:] == [pair.pair_id for pair in again[-4:]]


def test_what_a_version_was_trained_on_is_held_out_no_more(tmp_path):
    """A share that is raised holds out prompts that were trained on before."""
    tiny.job(tmp_path, "dpo", tiny.pairs(40), SETTINGS)
    everyone = held_out_pairs(tmp_path, 4, 200, frozenset())
    known = frozenset(prompts_of(everyone[0]))
    assert held_out_pairs(tmp_path, 4, 200, known) == everyone[1:]


def test_a_job_that_cannot_be_read_or_was_changed_adds_nothing(tmp_path):
    good, bad, changed = (tiny.job(tmp_path, "dpo", tiny.pairs(40, start=40 * n), SETTINGS) for n in range(3))
    (bad / "job.json").write_text(json.dumps({"tier": "dpo"}))
    with (changed / "dataset.jsonl").open("ab") as file:
        file.write(b"{}\n")
    found = held_out_pairs(tmp_path, 4, 200, frozenset())
    assert found == split(tiny.pairs(40), 4).held_out
    assert good.is_dir()
