"""Jobs of both tiers on one line: each continues what the one before has left in use, whichever tier made that."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.jobs import tiny
from tests.trainers.jobs.running import read_lines, run
from tests.trainers.jobs.test_export import OURS, logprobs_alone
from trainers.jobs import sft
from trainers.jobs.export import export
from trainers.jobs.formats import pair_messages, trace_messages
from trainers.jobs.heldout import prompts_of, split
from trainers.jobs.work import trained_prompts
from trainers.versions import VersionStore

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"), pytest.mark.long]

PAIRS, FIRST, SECOND = tiny.pairs(40), tiny.traces(40), tiny.traces(40, start=40)


@pytest.fixture(scope="module")
def line(tiny_base, tmp_path_factory) -> tuple[Path, list[dict[str, Any]]]:
    """SFT, DPO, SFT, all requested before the first one runs: the data directory, and the results."""
    data_dir = tmp_path_factory.mktemp("line")
    # DPO has to teach enough for SFT to leave something of it.
    slow, fast = tiny.settings(tiny_base, learning_rate=2e-3), tiny.settings(tiny_base, learning_rate=2e-2, epochs=2)
    wanted = slow.model_copy(update={"jobs": slow.jobs.model_copy(update={"dpo": fast.jobs.dpo})})
    jobs: Any = (("sft", FIRST), ("dpo", PAIRS), ("sft", SECOND))
    folders = [tiny.job(data_dir, tier, examples, wanted) for tier, examples in jobs]
    return data_dir, [run(folder)[1] for folder in folders]


def test_each_job_continues_from_the_one_before_and_is_judged_against_it(line):
    data_dir, results = line
    store = VersionStore(data_dir)
    names = [result["version"] for result in results]
    assert [result["promoted"] for result in results] == [True, True, True], [r["metrics"]["reason"] for r in results]
    assert [(one.tier, one.version, one.parent_version) for one in store.versions("policy")] == [
        ("sft", names[0], None),
        ("dpo", names[1], names[0]),
        ("sft", names[2], names[1]),
    ]
    assert [result["metrics"]["judged_against"] for result in results[1:]] == names[:2]
    assert [one.version for one in store.in_use("policy").history] == names


def test_dpo_begins_at_the_sft_version_that_it_refers_to(line):
    assert line[1][1]["metrics"]["losses"][0] == pytest.approx(math.log(2), abs=1e-5)


def test_the_figures_of_one_version_are_those_that_the_next_one_is_compared_with(line):
    """So the version in use is what is loaded beside the next one, with all that came before in it."""
    data_dir, results = line
    store = VersionStore(data_dir)
    before, after = (read_lines(store.folder(results[place]["version"]) / "gate.jsonl") for place in (0, 2))
    now = {row["id"]: row["loss"] for row in before}
    before_dpo, taught = results[0]["metrics"]["other_tier_accuracy"], results[1]["metrics"]["accuracy"]
    assert (results[1]["metrics"]["accuracy_in_use"], results[2]["metrics"]["other_tier_accuracy_in_use"]) == (
        pytest.approx(before_dpo),
        pytest.approx(taught),
    )
    assert taught > before_dpo + 0.3
    # DPO has changed what the first SFT version said.
    assert any(row["loss_in_use"] != pytest.approx(now[row["id"]], abs=1e-4) for row in after if row["id"] in now)
    assert results[1]["metrics"]["other_tier_regression"] != 0


def test_the_other_tiers_held_out_examples_are_judged_or_said_to_be_none_yet(line, tiny_base, tmp_path):
    figures = [result["metrics"] for result in line[1]]
    pairs, traces = split(PAIRS, tiny.ONE_IN).held_out, split([*FIRST, *SECOND], tiny.ONE_IN).held_out
    assert [one["other_tier_held_out"] for one in figures] == [len(pairs), len(traces), len(pairs)]
    assert figures[2]["other_tier_accuracy_loss"] is not None
    assert "to see what they lose" not in figures[2]["reason"]
    _, alone = run(tiny.job(tmp_path, "sft", FIRST, tiny.settings(tiny_base)))
    assert alone["metrics"]["other_tier_held_out"] == 0
    assert alone["metrics"]["reason"].endswith("; no held-out pairs yet to see what they lose")


def test_a_version_that_takes_from_what_dpo_has_taught_is_rejected_and_nothing_changes(line, tiny_base, tmp_path):
    """The same answers as DPO has taught to avoid, to be said."""
    wanted = tiny.settings(tiny_base, learning_rate=1e-2)
    gate = wanted.jobs.gate.model_copy(update={"max_regression": 1e9})
    strict = wanted.model_copy(update={"jobs": wanted.jobs.model_copy(update={"gate": gate})})
    _, first = run(tiny.job(tmp_path, "dpo", PAIRS, strict))
    refusals = [one.model_copy(update={"response": PAIRS[1].rejected}) for one in FIRST]
    _, result = run(tiny.job(tmp_path, "sft", refusals, strict))
    assert result["metrics"]["improvement"]["low"] > 0
    assert result["metrics"]["other_tier_accuracy_loss"] > 0.3
    assert not result["promoted"]
    assert "but held-out pairs lose" in result["metrics"]["reason"]
    assert VersionStore(tmp_path).in_use("policy").version == first["version"]


def test_no_held_out_example_was_trained_on_by_any_version_of_the_line(line):
    data_dir, results = line
    store = VersionStore(data_dir)
    known = trained_prompts(store, results[2]["version"])
    examples: list[Any] = [*FIRST, *PAIRS, *SECOND]
    parts = [split(some, tiny.ONE_IN) for some in (FIRST, PAIRS, SECOND)]
    assert known == {prompt for part in parts for one in part.training for prompt in prompts_of(one)}
    assert known.isdisjoint(prompts_of(one)[0] for part in parts for one in part.held_out)
    assert len(known) < len({prompt for one in examples for prompt in prompts_of(one)})


@pytest.mark.parametrize("merged", [False, True], ids=["adapter", "merged"])
def test_the_last_version_exported_gives_the_gates_figures(line, tmp_path, merged):
    data_dir, results = line
    version = results[2]["version"]
    export(data_dir, version, tmp_path / "out", merged=merged)
    rows = read_lines(VersionStore(data_dir).folder(version) / "gate.jsonl")
    by_id = {one.trace_id: one for one in (*FIRST, *SECOND)}
    pairs = split(PAIRS, tiny.ONE_IN).held_out
    conversations: list[Any] = [trace_messages(by_id[row["id"]]) for row in rows]
    for pair in pairs:
        messages = pair_messages(pair)
        conversations += [messages["prompt"] + messages[side] for side in ("chosen", "rejected")]
    found = logprobs_alone(tmp_path / "out", conversations, OURS | ({"peft"} if merged else set()))
    for row, (logprob, tokens) in zip(rows, found, strict=False):
        assert -logprob / tokens == pytest.approx(row["loss"], abs=1e-4)
    # What DPO has taught is in it: the share of pairs whose good answer is the likelier one.
    said = [logprob for logprob, _ in found[len(rows) :]]
    ranked = [good > bad for good, bad in zip(said[::2], said[1::2], strict=True)]
    assert sum(ranked) / len(ranked) == pytest.approx(results[2]["metrics"]["other_tier_accuracy"])


def test_a_job_does_not_run_before_release_0_1s_two_lines_are_one(line, tiny_base, tmp_path):
    _, first = run(tiny.job(tmp_path, "sft", FIRST, tiny.settings(tiny_base)))
    in_use = tmp_path / "models" / "policy" / "in-use.json"
    in_use.rename(tmp_path / "models" / "sft" / "in-use.json")
    folder = tiny.job(tmp_path, "dpo", PAIRS, tiny.settings(tiny_base))
    code, result = run(folder)
    assert (code, result["state"]) == (1, "failed")
    assert f"has {first['version']} in use of the two before; begin with one of them" in result["error"]
    VersionStore(tmp_path).promote(first["version"], "by hand")
    _, result = run(folder)
    assert VersionStore(tmp_path).get(result["version"]).parent_version == first["version"]


def test_a_job_that_waited_names_what_is_in_use_when_it_starts(line, tiny_base):
    """Its id follows from its examples, its version from what it continues, which is known at its start."""
    data_dir, results = line
    late = tiny.job(data_dir, "sft", tiny.traces(12, start=80), tiny.settings(tiny_base))
    assert json.loads((late / "job.json").read_bytes())["job_id"] == late.name
    assert sft.SFT.prepare(late).parent == results[2]["version"]
    VersionStore(data_dir).rollback("policy")
    try:
        assert sft.SFT.prepare(late).parent == results[1]["version"]
    finally:
        VersionStore(data_dir).promote(results[2]["version"], "again")
