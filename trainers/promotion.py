"""Changing which version is in use so that it cannot hurt: it fits the settings, and there is a way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.errors import VersionError
from schemas.events import ModelLine, ModelVersion
from schemas.job_settings import ADAPTER_SETTINGS
from schemas.settings import Settings
from schemas.versions import BASES, line_of
from trainers.serving import take_up
from trainers.versions import VersionStore


def settings_needed(settings: Settings, version: str) -> dict[str, Any]:
    """Return the settings that would have to be others for a version, by dotted name, with the values it needs.

    What learns next continues from the version in use: under other settings a scorer would refuse it, and jobs would
    fail.

    Raises:
        VersionError: there is no such version, its files are not as they were added, or no settings fit it.
    """
    store = VersionStore(settings.data_dir)
    if line_of(version) != "scorer":
        return {} if version in BASES.values() else _of_adapter(store, version, settings)
    from trainers.scorer import kept  # it needs torch, which takes seconds to load

    needed, fixed = kept.settings_needed(store, version, settings.scorer)
    if fixed:
        raise VersionError(
            f"{version} was made with other {' and '.join(fixed)} than the retained events",
            "relearn one: `tierstream retrain`",
        )
    return {f"scorer.{name}": value for name, value in needed.items()}


def _of_adapter(store: VersionStore, version: str, settings: Settings) -> dict[str, Any]:
    record = store.get(version)
    made_with = record.settings.get("training")
    needed = made_with if isinstance(made_with, dict) else {}
    # Jobs of any tier may be the next to continue from it.
    sections = {"jobs.dpo": settings.jobs.dpo, "jobs.sft": settings.jobs.sft}
    wanted = {
        f"{at}.{name}": (needed.get(name), getattr(of, name))
        for at, of in sections.items()
        for name in ADAPTER_SETTINGS
    }
    wanted["jobs.base_model"] = record.base_model, settings.jobs.base_model
    return {key: value for key, (value, here) in wanted.items() if value is not None and value != here}


def promote(settings: Settings, version: str, reason: str, agreed: Mapping[str, Any] | None = None) -> ModelVersion:
    """Put a version into use; what was in use until then, the live scorer too, is a version that can be returned to.

    Args:
        settings: as they are in effect.
        version: to be in use from now on.
        reason: why.
        agreed: settings that will be others with it, as `settings_needed` returned them.

    Returns:
        The event, still to be published.

    Raises:
        VersionError: there is no such version, its files are not as they were added, or it needs other settings.
        ServingError: the server that is to answer from it does not; nothing has changed.
        OSError: the registry cannot be written; nothing has changed.
    """
    store = VersionStore(settings.data_dir)
    _check(settings, version, agreed or {})
    take_up(settings.serving, store, version)
    before = None
    if line_of(version) == "scorer" and store.in_use("scorer").version != version:
        from trainers.scorer import kept  # as above

        before = kept.keep_in_use(store, settings.data_dir, settings.scorer)
    return store.promote(version, reason, instead_of=before)


def rollback_target(settings: Settings, line: ModelLine, to: str | None = None) -> str:
    """Return what a rollback goes back to.

    Raises:
        VersionError: there is nothing to go back to.
    """
    target = to or VersionStore(settings.data_dir).back_to(line)
    if target is None:
        raise VersionError(f"no version of {line} was in use before", "nothing was changed")
    return target


def rollback(
    settings: Settings,
    line: ModelLine,
    to: str | None = None,
    reason: str = "",
    agreed: Mapping[str, Any] | None = None,
    *,
    only_from: str | None = None,
) -> ModelVersion:
    """Go back to what was in use before, or to `to`, which has been in use; arguments and errors as of `promote`.

    With `only_from`, nothing changes where another version is in use by now, which is a `VersionError`.
    """
    target = rollback_target(settings, line, to)
    _check(settings, target, agreed or {})
    store = VersionStore(settings.data_dir)
    take_up(settings.serving, store, target)
    return store.rollback(line, target, reason, only_from=only_from)


def _check(settings: Settings, version: str, agreed: Mapping[str, Any]) -> None:
    needed = settings_needed(settings, version)
    if any(agreed.get(key) != value for key, value in needed.items()):
        told = " and ".join(f"{key} = {value}" for key, value in needed.items())
        raise VersionError(
            f"{version} needs {told}, and the settings have otherwise",
            "add --change-settings, which changes both, or set it and run this again",
        )
