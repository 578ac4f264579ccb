"""A base model is read back whole, its template proves itself, and what a user handed in never crashes a job."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trainers.jobs import tiny
from tests.trainers.jobs.running import run
from trainers.jobs.chat_template import CHATML, MARKED_CHATML
from trainers.jobs.formats import parse_plan
from trainers.jobs.process import reason_of
from trainers.versions import VersionStore

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"), pytest.mark.long]

EMBEDDING = "model.embed_tokens.weight"
LAYER = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def base(tiny_base, tmp_path) -> Path:
    return shutil.copytree(tiny_base, tmp_path / "base")


def failing(base: Path, tmp_path: Path, tier: str = "sft") -> str:
    examples: Any = tiny.pairs(24) if tier == "dpo" else tiny.traces(24)
    code, result = run(tiny.job(tmp_path / "data", tier, examples, tiny.settings(base, max_steps=1)))
    assert (code, result["state"]) == (1, "failed")
    assert "\n" not in result["error"]
    return str(result["error"])


def change_weights(base: Path, change: Any) -> None:
    weights = load_file(base / "model.safetensors")
    save_file(change(weights), base / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: {k: v for k, v in w.items() if k != LAYER}, f"it lacks {LAYER}"),
        (lambda w: {k: v for k, v in w.items() if "layers.1." not in k}, "lacks model.layers.1."),
        (lambda w: {k: v for k, v in w.items() if k != EMBEDDING}, "lacks "),
        (lambda w: {f"wrapped.{k}": v for k, v in w.items()}, "lacks "),
        (lambda w: {**w, "model.layers.7.odd": torch.zeros(2)}, "has beside it model.layers.7.odd"),
        (lambda w: {**w, LAYER: torch.zeros(3, 32)}, LAYER),
    ],
    ids=["a tensor", "a layer", "embeddings", "prefixed", "unexpected", "reshaped"],
)
def test_a_base_model_that_is_not_whole_is_refused_by_the_tensors_name(base, tmp_path, change, words):
    """Its missing tensors would be random numbers, trained and promoted without a word."""
    change_weights(base, change)
    error = failing(base, tmp_path)
    assert f"base model {base}" in error
    assert words in error


def write_template(base: Path, template: str) -> None:
    (base / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))


STRIPS_THINKING = MARKED_CHATML.replace(
    "{% generation %}{{ message['content'] + '<|im_end|>' }}",
    "{% generation %}{{ message['content'].split('</think>')[-1] + '<|im_end|>' }}",
)
MARKS_NOTHING = CHATML + "{% if false %}{% generation %}{% endgeneration %}{% endif %}"
NO_STOP = MARKED_CHATML.replace(
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}",
    "{% generation %}{{ message['content'] }}{% endgeneration %}{{ '<|im_end|>' }}",
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + MARKED_CHATML


@pytest.mark.parametrize(
    ("template", "tier", "words"),
    [
        (STRIPS_THINKING, "sft", "leaves out the reasoning"),
        (MARKS_NOTHING, "sft", "marks nothing"),
        (NO_STOP, "sft", "leaves out the token that ends the assistant's turn"),
        (NO_STOP, "dpo", "leaves out the token that ends the assistant's turn"),
        (NO_SYSTEM, "dpo", "refused_by_template 24 (the chat template refuses a conversation: no system here)"),
        ("{% if %}", "sft", "chat template does not parse"),
        ("{{ messages[0]['content'] }}", "sft", "does not mark what the assistant says"),
    ],
    ids=["strips", "nothing", "no stop", "no stop dpo", "no system", "no jinja", "unknown"],
)
def test_a_template_that_would_teach_something_else_is_refused_with_the_remedy(base, tmp_path, template, tier, words):
    write_template(base, template)
    error = failing(base, tmp_path, tier)
    assert words in error
    assert "chat" in error.rpartition(";")[2]
    assert error.endswith("then tierstream jobs retry --new-settings")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda base: write_template(base, MARKED_CHATML.replace("AI assistant", "assistant")), "chat template"),
        (lambda base: (base / "tokenizer.json").write_text((base / "tokenizer.json").read_text() + "\n"), "tokenizer"),
    ],
)
def test_a_tokenizer_or_template_that_changes_between_jobs_is_noticed_as_weights_are(base, tmp_path, change, part):
    wanted = tiny.settings(base)
    _, first = run(tiny.job(tmp_path / "data", "sft", tiny.traces(24), wanted))
    assert first["promoted"]
    record = VersionStore(tmp_path / "data").get(first["version"])
    assert set(record.base_model_parts) == {"weights", "tokenizer", "chat_template"}
    change(base)
    _, second = run(tiny.job(tmp_path / "data", "sft", tiny.traces(24, start=24), wanted))
    assert f"the {part} of base model {base} changed since version {first['version']}" in second["error"]


def test_a_context_shorter_than_the_texts_may_be_is_refused(base, tmp_path):
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 100}))
    assert "max_length = 128, but base model" in (error := failing(base, tmp_path))
    assert "a context of 100 tokens; lower max_length" in error


def test_a_tokenizer_larger_than_the_embeddings_is_refused(base, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<|more|>", "<|and more|>"])
    tokenizer.save_pretrained(base)
    assert "the model embeddings for" in failing(base, tmp_path)


def test_what_a_library_raises_is_the_users_to_mend_and_what_our_code_raises_is_a_crash():
    with pytest.raises(IndexError) as theirs:
        torch.nn.functional.embedding(torch.tensor([5]), torch.zeros(2, 2))
    said = reason_of(theirs.value)
    assert said is not None
    assert said.startswith("IndexError in torch: index out of range")
    assert "fix the base model, its template or the settings" in said
    with pytest.raises(ValueError, match="a JSON list") as ours:
        parse_plan("{}")
    assert reason_of(ours.value) is None
