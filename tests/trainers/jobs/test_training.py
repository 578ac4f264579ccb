"""Jobs' processes on a tiny model, in this process: what they train, judge, register and resume."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from schemas.events import LabelledAnswer, PreferencePair
from tests.trainers.jobs import tiny
from tests.trainers.jobs.running import TIERS, read_lines, run
from trainers.jobs import dpo, kto, process, sft
from trainers.jobs.arguments import common_arguments
from trainers.jobs.formats import trace_messages
from trainers.jobs.heldout import prompts_of, split
from trainers.jobs.judge import Judge
from trainers.jobs.lora import load_policy, load_tokenizer
from trainers.jobs.progress import JobCallback
from trainers.jobs.snapshot import CHECKPOINTS
from trainers.versions import VersionStore

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"), pytest.mark.long]

TIER_MODULES = {"dpo": dpo, "kto": kto, "sft": sft}
EXAMPLES = {"dpo": tiny.pairs, "kto": tiny.labelled, "sft": tiny.traces}
COUNTS = {"dpo": 40, "kto": 60, "sft": 40}
LN_2 = math.log(2)


def version_files(data_dir: Path, tier: str, version: str) -> Path:
    return data_dir / "models" / tier / version


# What a finished job leaves


@pytest.fixture(scope="module")
def finished(tiny_base, tmp_path_factory) -> dict[str, Any]:
    """A job of each tier that has run, each in a data directory of its own."""
    wanted = tiny.settings(tiny_base)
    folders = {
        tier: tiny.job(tmp_path_factory.mktemp(tier), tier, make(COUNTS[tier]), wanted)
        for tier, make in EXAMPLES.items()
    }
    return {"folders": folders, "results": {tier: run(folder) for tier, folder in folders.items()}}


def data_dir_of(folder: Path) -> Path:
    return folder.parent.parent


@pytest.mark.parametrize("tier", EXAMPLES)
def test_a_job_trains_a_version_that_is_better_and_put_into_use(finished, tier):
    code, result = finished["results"][tier]
    assert (code, result["state"], result["error"], result["promoted"]) == (0, "finished", None, True)
    if tier != "kto":  # whose loss depends on how many of a step's few answers are good
        assert result["metrics"]["loss_last"] < result["metrics"]["loss_first"]
    assert result["metrics"]["improvement"]["low"] > 0
    assert VersionStore(data_dir_of(finished["folders"][tier])).in_use("policy").version == result["version"]


def test_dpo_begins_at_its_reference_and_learns_what_is_preferred(finished):
    metrics = finished["results"]["dpo"][1]["metrics"]
    assert metrics["losses"][0] == pytest.approx(LN_2, abs=1e-5)  # policy and reference agree
    assert metrics["implicit_accuracy"] == 1.0
    assert metrics["accuracy"] > metrics["accuracy_in_use"]


def test_kto_begins_at_its_reference_and_tells_good_answers_from_bad_ones(finished):
    metrics = finished["results"]["kto"][1]["metrics"]
    assert metrics["implicit_accuracy"] == 1.0
    record = VersionStore(data_dir_of(finished["folders"]["kto"])).get(finished["results"]["kto"][1]["version"])
    lines = read_lines(VersionStore(data_dir_of(finished["folders"]["kto"])).folder(record.version) / "lineage.jsonl")
    good = sum(line["good"] for line in lines if line["use"] == "training")
    bad = sum(not line["good"] for line in lines if line["use"] == "training")
    # All log-ratios are 0, so each answer's loss is 1/2, times the weight of the rarer side.
    work = TIERS["kto"].prepare(finished["folders"]["kto"])
    trainer = kto.kto_trainer(work, load_policy(work.base, None, work.training), work.received())
    assert (trainer.desirable_weight, trainer.undesirable_weight) == (max(1, bad / good), max(1, good / bad))
    batch = trainer.train_dataset[:4]["label"]
    weights = [trainer.desirable_weight if label else trainer.undesirable_weight for label in batch]
    assert metrics["losses"][0] == pytest.approx(0.5 * sum(weights) / 4, abs=1e-5)


@pytest.mark.parametrize("tier", EXAMPLES)
def test_a_version_says_what_it_was_made_of(finished, tier):
    folder, result = finished["folders"][tier], finished["results"][tier][1]
    store = VersionStore(data_dir_of(folder))
    record = store.get(result["version"])
    job = json.loads((folder / "job.json").read_bytes())
    assert record.job_id == job["job_id"]
    assert record.dataset_sha256 == job["dataset_sha256"]
    effective = record.settings["effective"]
    assert record.settings == {**job["settings"], "effective": effective, "format_version": 1}
    assert {"torch", "trl", "peft", "transformers", "python"} <= set(record.libraries)
    assert (record.parent_version, record.seed) == (None, 0)
    lines = read_lines(store.folder(record.version) / "lineage.jsonl")
    examples = EXAMPLES[tier](COUNTS[tier])
    parts = split(examples, tiny.ONE_IN)
    wanted = {"training": len(parts.training), "held_out": len(parts.held_out)}
    assert {use: sum(line["use"] == use for line in lines) for use in wanted} == wanted
    first = parts.training[0]
    if isinstance(first, PreferencePair):
        assert lines[0]["experience_ids"] == [first.chosen_experience_id, first.rejected_experience_id]
        assert lines[0]["feedback_ids"] == [f"{name}/judged" for name in lines[0]["experience_ids"]]
    else:
        assert lines[0]["experience_ids"] == [first.experience_id]
    if isinstance(first, LabelledAnswer):
        assert (lines[0]["good"], lines[0]["feedback_ids"]) == (first.good, [f"{first.experience_id}/judged"])


@pytest.mark.parametrize("tier", EXAMPLES)
def test_a_version_reloads_from_its_folder_and_gives_its_figures_again(finished, tier):
    version = finished["results"][tier][1]["version"]
    work = TIERS[tier].prepare(finished["folders"][tier])
    folder = version_files(work.data_dir, tier, version)
    tokenizer = load_tokenizer(work.base)
    reloaded = load_policy(work.base, folder, work.training)
    again = TIERS[tier].judge(work, Judge(reloaded, tokenizer, None, work.training.max_length), frozenset())
    rows = read_lines(folder / "gate.jsonl")
    assert again.rows == rows


@pytest.mark.parametrize("tier", EXAMPLES)
def test_what_is_trained_in_bf16_is_judged_in_float32(tiny_base, tmp_path, monkeypatch, tier):
    """As a GPU trains; the trainer would leave the model in bf16, and the gate's figures would be another model's."""
    monkeypatch.setattr(
        TIER_MODULES[tier], "common_arguments", lambda *given: {**common_arguments(*given), "bf16": True}
    )
    examples = EXAMPLES[tier](24)
    folder = tiny.job(tmp_path, tier, examples, tiny.settings(tiny_base, max_steps=3))
    _, result = run(folder)
    at = version_files(tmp_path, tier, result["version"])
    work = TIERS[tier].prepare(folder)
    judge = Judge(load_policy(work.base, at, work.training), load_tokenizer(work.base), None, work.training.max_length)
    assert TIERS[tier].judge(work, judge, frozenset()).rows == read_lines(at / "gate.jsonl")


@pytest.mark.parametrize("tier", EXAMPLES)
def test_one_process_that_sees_two_gpus_trains_on_one(tiny_base, tmp_path, monkeypatch, tier):
    module, name = TIER_MODULES[tier], f"{tier.upper()}Config"
    config = getattr(module, name)

    def seeing_two(**given: Any) -> Any:
        arguments = config(**given)
        assert arguments.n_gpu == 0
        arguments._n_gpu = 2
        return arguments

    monkeypatch.setattr(module, name, seeing_two)
    examples = EXAMPLES[tier](12)
    work = TIERS[tier].prepare(tiny.job(tmp_path, tier, examples, tiny.settings(tiny_base)))
    # TRL refuses a trainer for several GPUs in one process.
    trainer = TIERS[tier].trainer(work, load_policy(work.base, None, work.training), work.received())
    assert trainer.args.n_gpu == 1


def test_what_a_gpu_held_at_most_is_told_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert process.gpu_peak() == {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**20 + 1)
    assert process.gpu_peak() == {"peak_gpu_memory_mib": 3}


def test_nothing_of_a_held_out_prompt_reaches_the_trainer(tiny_base, tmp_path):
    folder = tiny.job(tmp_path, "dpo", tiny.pairs(40), tiny.settings(tiny_base))
    work = dpo.DPO.prepare(folder)
    tokenizer = load_tokenizer(work.base)
    trainer = dpo.dpo_trainer(work, load_policy(work.base, None, work.training), work.received())
    seen = "".join(map(tokenizer.decode, trainer.train_dataset["prompt_ids"]))
    held = [pair.prompt + "<|im_end|>" for pair in work.examples.held_out]
    assert len(held) == len(split(tiny.pairs(40), tiny.ONE_IN).held_out) > 5
    assert not [prompt for prompt in held if prompt in seen]
    assert all(pair.prompt + "<|im_end|>" in seen for pair in work.examples.training)


def test_the_loss_of_sft_is_on_the_assistants_words_alone(tiny_base, tmp_path):
    folder = tiny.job(tmp_path, "sft", tiny.traces(12), tiny.settings(tiny_base))
    work = sft.SFT.prepare(folder)
    tokenizer = load_tokenizer(work.base)
    trainer = sft.sft_trainer(work, load_policy(work.base, None, work.training), work.received())
    for row, trace in zip(trainer.train_dataset, work.examples.training, strict=True):
        learned = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
        assert tokenizer.decode(learned) == trace_messages(trace)[-1]["content"] + "<|im_end|>"
        assert all(label in (-100, token) for token, label in zip(row["input_ids"], row["labels"], strict=True))


# Continuing from the version in use


def test_a_second_job_continues_from_the_version_in_use_which_is_its_reference(tiny_base, tmp_path):
    wanted = tiny.settings(tiny_base)
    _, first = run(tiny.job(tmp_path, "dpo", tiny.pairs(40), wanted))
    second = tiny.job(tmp_path, "dpo", tiny.pairs(40, start=40), wanted)
    work = dpo.DPO.prepare(second)
    assert work.parent == first["version"]
    parent = work.adapter(work.parent)
    trainer = dpo.dpo_trainer(work, load_policy(work.base, parent, work.training), work.received())
    batch = next(iter(trainer.get_train_dataloader()))
    reference = torch.cat(trainer.compute_ref_log_probs(trainer.model, batch))

    def under(adapter: Path | None) -> torch.Tensor:
        model = load_policy(work.base, adapter, work.training)
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        each = logits.log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
        return (each * batch["completion_mask"][:, 1:]).sum(1)

    torch.testing.assert_close(reference, under(parent))
    assert (reference - under(None)).abs().min() > 0.1


def test_a_second_job_is_judged_against_the_first_and_never_on_what_that_was_trained_on(tiny_base, tmp_path):
    wanted = tiny.settings(tiny_base)
    _, first = run(tiny.job(tmp_path, "dpo", tiny.pairs(40), wanted))
    _, second = run(tiny.job(tmp_path, "dpo", tiny.pairs(40, start=40), wanted))
    metrics = second["metrics"]
    assert metrics["judged_against"] == first["version"]
    assert metrics["losses"][0] == pytest.approx(LN_2, abs=1e-5)
    assert metrics["held_out"] == len(split(tiny.pairs(80), tiny.ONE_IN).held_out)
    store = VersionStore(tmp_path)
    before = {row["id"]: row["gap"] for row in read_lines(store.folder(first["version"]) / "gate.jsonl")}
    again = {row["id"]: row["gap_in_use"] for row in read_lines(store.folder(second["version"]) / "gate.jsonl")}
    assert {name: again[name] for name in before} == pytest.approx(before, abs=1e-4)
    assert store.get(second["version"]).parent_version == first["version"]
    rows = read_lines(store.folder(second["version"]) / "gate.jsonl")
    trained = {p for pair in split(tiny.pairs(80), tiny.ONE_IN).training for p in prompts_of(pair)}
    assert trained.isdisjoint(row["prompt"] for row in rows)


def test_another_adapter_form_than_the_version_in_uses_does_not_start(tiny_base, tmp_path):
    _, first = run(tiny.job(tmp_path, "sft", tiny.traces(24), tiny.settings(tiny_base)))
    folder = tiny.job(tmp_path, "sft", tiny.traces(12, start=24), tiny.settings(tiny_base, lora_rank=8))
    code, result = run(folder)
    assert (code, result["state"]) == (1, "failed")
    assert f"jobs.sft.lora_rank = 8, but version {first['version']} in use has 4" in result["error"]


def test_a_kto_job_continues_from_a_dpo_version_which_is_its_reference(tiny_base, tmp_path):
    wanted = tiny.settings(tiny_base)
    _, first = run(tiny.job(tmp_path, "dpo", tiny.pairs(40), wanted))
    folder = tiny.job(tmp_path, "kto", tiny.labelled(60, start=40), wanted)
    code, second = run(folder)
    assert (code, second["metrics"]["judged_against"]) == (0, first["version"])
    assert VersionStore(tmp_path).get(second["version"]).parent_version == first["version"]
    # What is held out of DPO's jobs is asked for its accuracy, too.
    assert second["metrics"]["other_tier_accuracy_in_use"] == 1.0
    work = kto.KTO.prepare(tiny.job(tmp_path, "kto", tiny.labelled(24, start=100), wanted))
    trainer = kto.kto_trainer(work, load_policy(work.base, work.adapter(work.parent), work.training), work.received())
    batch = next(iter(trainer.get_train_dataloader()))
    reference, _ = trainer.compute_ref_log_probs(trainer.model, batch)
    model = load_policy(work.base, work.adapter(work.parent), work.training)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    each = logits.log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
    torch.testing.assert_close(reference, (each * batch["completion_mask"][:, 1:]).sum(1))


@pytest.mark.parametrize(
    ("answers", "settings", "words"),
    [
        ([one for one in tiny.labelled(40) if one.good], {}, "all examples to train on are good"),
        (tiny.labelled(24), {"batch_size": 1}, "jobs.dpo.batch_size is 1"),
    ],
)
def test_a_kto_job_that_has_nothing_to_compare_fails_in_one_line(tiny_base, tmp_path, answers, settings, words):
    code, result = run(tiny.job(tmp_path, "kto", answers, tiny.settings(tiny_base, **settings)))
    assert (code, result["state"]) == (1, "failed")
    assert words in result["error"]


# The gate


@pytest.mark.parametrize("tier", ["dpo", "sft"])
def test_a_version_that_is_no_better_is_kept_and_rejected(tiny_base, tmp_path, tier):
    examples = EXAMPLES[tier](24)
    folder = tiny.job(tmp_path, tier, examples, tiny.settings(tiny_base, learning_rate=1e-12))
    code, result = run(folder)
    assert (code, result["state"], result["promoted"]) == (0, "finished", False)
    store = VersionStore(tmp_path)
    assert store.in_use("policy").version is None
    assert store.get(result["version"]).status == "rejected"
    assert "not shown to be better" in result["metrics"]["reason"]


def test_labels_that_say_the_opposite_make_no_better_version(tiny_base, tmp_path):
    """Trained on labels that say the opposite, and judged on held-out answers as they are."""
    parts = split(tiny.labelled(60), tiny.ONE_IN)
    wrong = [
        one.model_copy(update={"good": not one.good, "reward": -one.reward, "evaluation_confidence": 0.9})
        for one in parts.training
    ]
    code, result = run(tiny.job(tmp_path, "kto", wrong + parts.held_out, tiny.settings(tiny_base, epochs=2)))
    assert (code, result["promoted"]) == (0, False)
    assert result["metrics"]["improvement"]["high"] < 0


def test_a_version_that_is_worse_is_rejected(tiny_base, tmp_path):
    """Trained to prefer the bad answers, and judged on held-out pairs as they are."""
    good = split(tiny.pairs(40), tiny.ONE_IN)
    swapped = [
        pair
        for pair in tiny.pairs(40, swapped=True)
        if prompts_of(pair)[0] not in {prompts_of(held)[0] for held in good.held_out}
    ]
    code, result = run(tiny.job(tmp_path, "dpo", swapped + good.held_out, tiny.settings(tiny_base)))
    assert (code, result["promoted"]) == (0, False)
    assert result["metrics"]["improvement"]["high"] < 0


def test_a_version_that_spoils_the_other_tiers_text_is_rejected(tiny_base, tmp_path):
    """Good answers of pairs that are unlike any trace get less likely the more the model learns of traces."""
    wanted = tiny.settings(tiny_base, learning_rate=0.03, epochs=2)
    gate = wanted.jobs.gate.model_copy(update={"max_regression": 0.05, "max_accuracy_loss": 1})
    strict = wanted.model_copy(update={"jobs": wanted.jobs.model_copy(update={"gate": gate})})
    unlike = [
        pair.model_copy(update={"chosen": "@@ %% ^^ ~~ ## $$"}) for pair in tiny.pairs(24) if pair.kind == "voice"
    ]
    tiny.job(tmp_path, "dpo", unlike, strict)
    _, result = run(tiny.job(tmp_path, "sft", tiny.traces(24), strict))
    assert result["metrics"]["improvement"]["low"] > 0
    assert result["metrics"]["other_tier_regression"] > 0.05
    assert not result["promoted"]
    assert "but held-out pairs' good answers lose" in result["metrics"]["reason"]


# Resuming


class Killed(BaseException):
    """Ends a job's process in the middle, as a signal would."""


@contextmanager
def killed_after(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the training in its `step`-th step, after the checkpoint of the one before."""
    begin = JobCallback.on_step_end

    def on_step_end(self: JobCallback, args: Any, state: Any, control: Any, **others: Any) -> Any:
        if state.global_step == step:
            raise Killed
        return begin(self, args, state, control, **others)

    with monkeypatch.context() as patch:
        patch.setattr(JobCallback, "on_step_end", on_step_end)
        yield


@pytest.mark.parametrize("tier", EXAMPLES)
def test_a_killed_job_goes_on_as_if_nothing_had_been(tiny_base, tmp_path, monkeypatch, tier):
    examples = EXAMPLES[tier](24)
    wanted = tiny.settings(tiny_base, checkpoint_interval=1e-6, epochs=3)
    whole = run(tiny.job(tmp_path / "whole", tier, examples, wanted))[1]
    folder = tiny.job(tmp_path / "killed", tier, examples, wanted)
    for step in (3, 6):
        with killed_after(step, monkeypatch), pytest.raises(Killed):
            run(folder)
        assert not (folder / "result.json").exists()
    # What a death in the midst of writing leaves is not resumed from.
    shutil.copytree(folder / CHECKPOINTS / "checkpoint-5", folder / CHECKPOINTS / "checkpoint-9")
    (folder / CHECKPOINTS / "checkpoint-9" / "complete").unlink()
    resumed = run(folder)[1]
    assert resumed["metrics"]["steps"] == whole["metrics"]["steps"] > 6
    assert resumed["metrics"]["losses"] == whole["metrics"]["losses"]
    assert resumed["version"] == whole["version"]
    weights = [
        load_file(version_files(tmp_path / name, tier, whole["version"]) / "adapter_model.safetensors")
        for name in ("whole", "killed")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_job_that_is_taken_up_after_a_promotion_begins_anew_from_what_is_in_use(tiny_base, tmp_path, monkeypatch):
    wanted = tiny.settings(tiny_base, checkpoint_interval=1e-6)
    folder = tiny.job(tmp_path, "dpo", tiny.pairs(24), wanted)
    with killed_after(3, monkeypatch), pytest.raises(Killed):
        run(folder)
    _, other = run(tiny.job(tmp_path, "dpo", tiny.pairs(40, start=40), wanted))
    assert other["promoted"]
    _, result = run(folder)
    assert VersionStore(tmp_path).get(result["version"]).parent_version == other["version"]
    assert result["metrics"]["judged_against"] == other["version"]
    assert result["metrics"]["losses"][0] == pytest.approx(LN_2, abs=1e-5)


@pytest.mark.parametrize("place", [(VersionStore, "promote"), (process, "_finish")])
def test_a_death_between_version_and_result_is_made_good_without_training(tiny_base, tmp_path, monkeypatch, place):
    folder = tiny.job(tmp_path, "sft", tiny.traces(24), tiny.settings(tiny_base))
    with monkeypatch.context() as patch:
        patch.setattr(*place, _die)
        with pytest.raises(Killed):
            run(folder)
    with monkeypatch.context() as patch:
        patch.setattr(process, "load_policy", _die)
        _, result = run(folder)
    assert result["promoted"]
    assert VersionStore(tmp_path).in_use("policy").version == result["version"]


def _die(*_: Any, **__: Any) -> None:
    raise Killed
