"""A model and tokenizer of a few kilobytes, built on the spot, and job folders to train them in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from schemas.events import JobTier, LabelledAnswer, PreferencePair, Trace, TrainingExample, TrainingJob
from schemas.records import Answer
from schemas.settings import PairsSettings, Settings
from trainers.jobs.accumulate import CompletedRun
from trainers.jobs.chat_template import CHATML
from trainers.jobs.heldout import id_of
from trainers.jobs.snapshot import freeze_job, write_job
from trainers.pairs.rules import make_pair
from trainers.pairs.unpaired import label

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONE_IN = 3
"""Prompts of which one is held out."""
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ROOMS = ("kitchen", "hall", "attic", "cellar", "garage", "office", "lobby", "roof", "yard", "studio", "gym", "shed")


def build_model(folder: Path, **changes: int) -> Path:
    """Write a Llama of two layers with its own BPE, and SmolLM2's chat template; `changes` of its sizes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [pair.model_dump_json() for pair in pairs(24)] + [trace.model_dump_json() for trace in traces(24)]
    tokenizer.train_from_iterator(texts + [CHATML] * 3, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<|im_start|>"
    )
    fast.chat_template = CHATML
    fast.save_pretrained(str(folder))
    set_seed(0)
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, **changes}
    config = LlamaConfig(
        vocab_size=len(fast),
        intermediate_size=64,
        num_hidden_layers=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=True,
        **sizes,
    )
    LlamaForCausalLM(config).save_pretrained(str(folder))
    return folder


def answer(number: int, good: bool) -> Answer:
    room = f"{ROOMS[number % len(ROOMS)]} {number // len(ROOMS)}"
    reply = f"The light in the {room} is on." if good else "Sorry, which one do you mean? I cannot do that."
    plan = [{"widget_id": "w0", "widget_type": "light" if good else "chart", "text": room}]
    is_voice = number % 3 > 0
    return Answer(
        kind="voice" if is_voice else "widget",
        experience_id=f"{'good' if good else 'bad'}-{number}",
        query=f"Turn on the light in the {room}",
        intent_type="light",
        domains=("light",),
        device_types=(),
        content=reply if is_voice else plan,
        reward=0.9 if good else -0.9,
        evaluation_confidence=0.9,
        judged_by_user=False,
        feedback_ids=(f"{'good' if good else 'bad'}-{number}/judged",),
    )


def pairs(count: int, start: int = 0, swapped: bool = False) -> list[PreferencePair]:
    """Return pairs that prefer doing to asking; each its own prompt."""
    made = [make_pair(answer(n, True), answer(n, False), PairsSettings()) for n in range(start, start + count)]
    return (
        [one.model_copy(update={"chosen": one.rejected, "rejected": one.chosen}) for one in made] if swapped else made
    )


def labelled(count: int, start: int = 0) -> list[LabelledAnswer]:
    """Return good and bad answers in turn; each its own prompt."""
    return [label(answer(n, n % 2 == 0), PairsSettings()) for n in range(start, start + count)]


def traces(count: int, start: int = 0) -> list[Trace]:
    return [
        Trace(
            trace_id=f"t{n}",
            timestamp=NOON,
            kind="user_query",
            prompt=f"How many lights has the {ROOMS[n % len(ROOMS)]} {n}?",
            thinking=f"The {ROOMS[n % len(ROOMS)]} has {n} rows of 2. So I multiply: {n} times 2.",
            response=f"It has {2 * n} lights.",
            model="m",
            experience_id=f"good-{n}",
        )
        for n in range(start, start + count)
    ]


def settings(base: Path | str, **training: object) -> Settings:
    """Return settings for the tiny model; `training` for both tiers."""
    both = {"learning_rate": 5e-3, "max_length": 128, "threads": 1, "lora_rank": 4, **training}
    # A model of this size learns the form of its answers in a few steps, and nothing of their questions.
    gate = {"held_out_one_in": ONE_IN, "sft_form_alone": True}
    return Settings.model_validate({"jobs": {"base_model": str(base), "dpo": both, "sft": both, "gate": gate}})


def job(data_dir: Path, tier: JobTier, examples: Sequence[TrainingExample], wanted: Settings) -> Path:
    """Write a job's folder, as the stream does, and return it; a later one is asked for later."""
    ids = tuple(id_of(one) for one in examples)
    later = timedelta(seconds=len(list(data_dir.glob("jobs/*"))))
    run = CompletedRun(ids, tuple(one.to_json() for one in examples))
    made: TrainingJob = freeze_job(data_dir, tier, run, wanted, NOON + later)
    return write_job(data_dir, made)
