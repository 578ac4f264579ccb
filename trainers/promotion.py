"""Changing which version is in use so that it cannot hurt: it fits the settings, and there is a way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from schemas.errors import VersionError
from schemas.events import JobTier, ModelTier, ModelVersion
from schemas.job_settings import ADAPTER_SETTINGS
from schemas.settings import Settings
from schemas.versions import BASES
from trainers.serving import take_up
from trainers.versions import VersionStore


def tier_of(version: str) -> ModelTier:
    """Return the tier that a version's name begins with.

    Raises:
        VersionError: it begins with none.
    """
    tiers: tuple[ModelTier, ...] = get_args(ModelTier)
    for tier in tiers:
        if version.startswith(f"{tier}-"):
            return tier
    raise VersionError(f"{version!r} is no name of a version", "`tierstream models list` has them")


def settings_needed(settings: Settings, version: str) -> dict[str, Any]:
    """Return the settings that would have to be others for a version, by dotted name, with the values it needs.

    What learns next continues from the version in use: under other settings a scorer would refuse it, and jobs would
    fail.

    Raises:
        VersionError: there is no such version, its files are not as they were added, or no settings fit it.
    """
    store, tier = VersionStore(settings.data_dir), tier_of(version)
    if tier != "scorer":
        return {} if version == BASES[tier] else _of_adapter(store, tier, version, settings)
    from trainers.scorer import kept  # it needs torch, which takes seconds to load

    needed, fixed = kept.settings_needed(store, version, settings.scorer)
    if fixed:
        raise VersionError(
            f"{version} was made with other {' and '.join(fixed)} than the retained events",
            "relearn one: `tierstream retrain`",
        )
    return {f"scorer.{name}": value for name, value in needed.items()}


def _of_adapter(store: VersionStore, tier: JobTier, version: str, settings: Settings) -> dict[str, Any]:
    record, training = store.get(tier, version), getattr(settings.jobs, tier)
    made_with = record.settings.get("training")
    values = {} if not isinstance(made_with, dict) else {f"jobs.{tier}.{n}": made_with.get(n) for n in ADAPTER_SETTINGS}
    here: dict[str, Any] = {f"jobs.{tier}.{name}": getattr(training, name) for name in ADAPTER_SETTINGS}
    values["jobs.base_model"], here["jobs.base_model"] = record.base_model, settings.jobs.base_model
    return {key: value for key, value in values.items() if value is not None and value != here[key]}


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
    store, tier = VersionStore(settings.data_dir), tier_of(version)
    _check(settings, version, agreed or {})
    take_up(settings.serving, store, tier, version)
    if version == BASES.get(tier):
        return store.rollback(tier, version, reason)
    before = None
    if tier == "scorer" and store.in_use(tier).version != version:
        from trainers.scorer import kept  # as above

        before = kept.keep_in_use(store, settings.data_dir, settings.scorer)
    return store.promote(tier, version, reason, instead_of=before)


def rollback_target(settings: Settings, tier: ModelTier, to: str | None = None) -> str:
    """Return what a rollback goes back to.

    Raises:
        VersionError: there is nothing to go back to.
    """
    target = to or VersionStore(settings.data_dir).one_before(tier)
    if target is None:
        raise VersionError(f"no version of {tier} was in use before", "nothing was changed")
    return target


def rollback(
    settings: Settings,
    tier: ModelTier,
    to: str | None = None,
    reason: str = "",
    agreed: Mapping[str, Any] | None = None,
    *,
    only_from: str | None = None,
) -> ModelVersion:
    """Go back to what was in use before, or to `to`, which has been in use; arguments and errors as of `promote`.

    With `only_from`, nothing changes where another version is in use by now, which is a `VersionError`.
    """
    target = rollback_target(settings, tier, to)
    _check(settings, target, agreed or {})
    store = VersionStore(settings.data_dir)
    take_up(settings.serving, store, tier, target)
    return store.rollback(tier, target, reason, only_from=only_from)


def _check(settings: Settings, version: str, agreed: Mapping[str, Any]) -> None:
    needed = settings_needed(settings, version)
    if any(agreed.get(key) != value for key, value in needed.items()):
        told = " and ".join(f"{key} = {value}" for key, value in needed.items())
        raise VersionError(
            f"{version} needs {told}, and the settings have otherwise",
            "add --change-settings, which changes both, or set it and run this again",
        )
