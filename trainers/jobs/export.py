"""A version as a folder for others: an adapter that PEFT loads, or a merged model, with a model card."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from schemas.errors import JobError, VersionError
from schemas.versions import BASES, VersionRecord, line_of
from trainers.jobs.base_model import BaseModel, ensure_base_model, is_hub_name, is_packaged
from trainers.jobs.model_card import CARD_NAME, license_of, model_card
from trainers.versions import VersionStore
from trainers.versions.store import MANIFEST

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAPTER_CONFIG = "adapter_config.json"
_BASE_KEY = "base_model_name_or_path"
_ADAPTER = (ADAPTER_CONFIG, "adapter_model.safetensors")


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    version: str
    folder: Path
    merged: bool
    base_model: str
    """A path, or a name on the hub."""
    base_license: str | None
    files: dict[str, int]
    """Bytes of every file, by name."""


def export(data_dir: Path, version: str, target: Path, *, merged: bool = False) -> Exported:
    """Write a version into a new folder; it is there as a whole or not at all.

    Args:
        data_dir: the data directory.
        version: of the line of policies.
        target: a folder that is not there, or empty.
        merged: whether the adapter goes into the base model's weights, so that neither PEFT nor the base is needed.

    Raises:
        VersionError: it is no adapter, not as it was added, or its base model is gone or another.
        InputError: the target is not empty.
        OSError: the disk is full or read-only.
    """
    if line_of(version) == "scorer" or version in BASES.values():
        what = "a scorer" if line_of(version) == "scorer" else "the base model itself"
        raise VersionError(
            f"{version} is {what}, not an adapter", "name a version of dpo or sft: `tierstream models list`"
        )
    store = VersionStore(data_dir)
    record, folder = store.get(version), store.verified(version)
    if lacking := [name for name in _ADAPTER if not (folder / name).is_file()]:
        raise VersionError(f"{version} has no {lacking[0]}", "name another version: `tierstream models list`")
    base = base_of(record, folder, data_dir)
    name = base.name if is_hub_name(base.name) else str(base.path.absolute())
    licence = license_of(base)
    with _new_folder(target) as staging:
        if merged:
            if not sys.stderr.isatty():
                from transformers.utils import logging as transformers_logging

                transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
            merged_model(base, folder).save_pretrained(str(staging))
            tokenizer_of(base).save_pretrained(str(staging))
        else:
            _write_adapter(folder, name, staging)
        shutil.copyfile(folder / MANIFEST, staging / MANIFEST)
        (staging / CARD_NAME).write_text(model_card(record, name, licence, merged=merged), "utf-8")
        files = {path.name: path.stat().st_size for path in sorted(staging.iterdir())}
    return Exported(version, target, merged, name, licence, files)


def base_of(record: VersionRecord, folder: Path, data_dir: Path) -> BaseModel:
    """Return the base model of a version, as it was when that was trained.

    Raises:
        VersionError: it is gone, or has other weights.
    """
    named = record.base_model or ""
    if not is_packaged(named) and not is_hub_name(named):
        # As a path it was relative to where the job ran; the adapter has the whole one.
        named = str(json.loads((folder / ADAPTER_CONFIG).read_bytes()).get(_BASE_KEY))
    try:
        base = ensure_base_model(named, data_dir)
    except JobError as error:
        raise VersionError(
            f"the base model of {record.version} is gone: {error.message}", f"put {named} back where it was"
        ) from error
    if record.base_model_sha256 not in (None, base.sha256):
        raise VersionError(
            f"base model {named} has other weights than when {record.version} was trained",
            f"put back those with sha256 {str(record.base_model_sha256)[:12]}...",
        )
    return base


def _write_adapter(folder: Path, base_name: str, staging: Path) -> None:
    # Without the tokenizer: PEFT would cut the model's embeddings to its length, and change every likelihood.
    for name in _ADAPTER:
        shutil.copyfile(folder / name, staging / name)
    config = json.loads((folder / ADAPTER_CONFIG).read_bytes())
    (staging / ADAPTER_CONFIG).write_text(json.dumps({**config, _BASE_KEY: base_name}, indent=2), "utf-8")


def merged_model(base: BaseModel, adapter: Path | None) -> PreTrainedModel:
    """Return a base model with an adapter's weights added to its own; the base model itself where there is none."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(base.path), local_files_only=True, dtype=torch.float32)
    merged = model if adapter is None else PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return cast("PreTrainedModel", merged)


def tokenizer_of(base: BaseModel) -> PreTrainedTokenizerBase:
    """Return the base model's tokenizer as it came."""
    from transformers import AutoTokenizer

    return cast("PreTrainedTokenizerBase", AutoTokenizer.from_pretrained(str(base.path), local_files_only=True))


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Give a folder beside the target that becomes it at the end.

    Raises:
        VersionError: the target is there and not empty.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise VersionError(f"{target} is not empty", "name a new folder with --to")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".export-", dir=target.parent))
    try:
        staging.chmod(0o755)
        yield staging
        for path in staging.iterdir():
            path.chmod(0o644)
        if target.exists():
            target.rmdir()
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
