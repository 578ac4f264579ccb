"""What the state in a folder was written under: `state.json`, made at the first start and compared at every later one.

A data directory holds offsets in one deployment's topics, and a state directory its tables. Under another prefix,
another partition count or another form of the events, either would skip or repeat events without anybody noticing.
`streams.state.belonging` compares cluster and topics, and the checkpoint the architecture and the embedder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import ValidationError

from schemas.base import Event, Part
from schemas.errors import StateError, TierstreamError
from schemas.settings import Settings
from trainers.files import missing_guarantee, write_atomically

MANIFEST_NAME = "state.json"

_FORM = 1
_GUIDE = "docs/operations.md"


class Manifest(Part):
    """What decides whether state can be used."""

    form: int
    """Version of the state's own form."""
    schema_version: int
    """Version of the events' form."""
    prefix: str
    """`topics.prefix`."""
    app_id: str
    """`kafka.app_id`."""
    partitions: int
    """`topics.partitions`."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what these settings write."""
        return cls(
            form=_FORM,
            schema_version=Event.model_fields["schema_version"].default,
            prefix=settings.topics.prefix,
            app_id=settings.kafka.app_id,
            partitions=settings.topics.partitions,
        )


def state_folder(settings: Settings) -> Path:
    """Return the folder of local table state."""
    return Path(settings.state_dir or Path(settings.data_dir) / "state")


def make_data_dir(settings: Settings) -> Path:
    """Make the data directory, and see that it can be written and shared.

    Raises:
        TierstreamError: it cannot.
    """
    folder = Path(settings.data_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = missing_guarantee(folder)
    except OSError as error:
        raise TierstreamError(
            f"the data directory {folder} cannot be written: {error.strerror}",
            "give another with --data-dir, or fix its permissions",
        ) from error
    if missing is not None:
        raise TierstreamError(
            f"the data directory {folder} lacks {missing}, and what shares it would lose or repeat work",
            "put it on a file system that has it, as NFS 4 or a local disk do (docs/deployment.md)",
        )
    return folder


def check_state(settings: Settings, *, local: bool = False, record: bool = True) -> None:
    """See that the data directory, and local table state, were written under these settings.

    Args:
        settings: all settings.
        local: whether this process has table state of its own.
        record: note the settings in a folder that has no note yet.

    Raises:
        StateError: names the folder, what is there, what is set, and the remedy.
    """
    wanted = Manifest.of(settings)
    folders = [Path(settings.data_dir), *([state_folder(settings)] if local else [])]
    for folder in folders:
        path = folder / MANIFEST_NAME
        found = _read(path)
        if found is not None:
            _compare(folder, found, wanted)
        elif record:
            _write(path, wanted)


def _read(path: Path) -> Manifest | None:
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}", "fix its permissions") from error
    except ValidationError as error:
        raise StateError(f"{path} is not as it was written", f"restore it from a backup ({_GUIDE})") from error


def _write(path: Path, manifest: Manifest) -> None:
    try:
        write_atomically(path, manifest.model_dump_json(indent=2).encode() + b"\n")
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}", "fix its folder's permissions") from error


def _compare(folder: Path, found: Manifest, wanted: Manifest) -> None:
    if (found.form, found.schema_version) != (wanted.form, wanted.schema_version):
        raise StateError(
            f"{folder} was written by another version of the program: form {found.form}, events of schema_version "
            f"{found.schema_version}, and this one has {wanted.form} and {wanted.schema_version}",
            f"run the version that wrote it, or see 'Upgrades' in {_GUIDE}",
        )
    keys = {"prefix": "topics.prefix", "app_id": "kafka.app_id", "partitions": "topics.partitions"}
    for name, key in keys.items():
        there, set_to = getattr(found, name), getattr(wanted, name)
        if there != set_to:
            raise StateError(
                f"{folder} was written under {key} = {there!r}, and the settings say {set_to!r}",
                f"set it back, or see 'Changing {key}' in {_GUIDE}",
            )
