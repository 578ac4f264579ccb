"""What the scorer writes into its own log: the settings that it learns with, and the version that is in use."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from schemas.errors import LogError, VersionError
from schemas.records import Configure
from schemas.settings import Settings
from streams.kafka.publisher import Publisher
from streams.state.scorer_log import publish_control
from streams.state.scorer_state import ScorerState
from trainers.scorer.architecture import architecture
from trainers.scorer.checkpoint import fitting_version
from trainers.scorer.fold import architecture_in
from trainers.scorer.log_settings import learning_settings, settings_in
from trainers.scorer.snapshot import check_architecture

log = logging.getLogger("tierstream.scorer")


class ScorerControl:
    """Compares what the log has said with the settings and the registry of this process."""

    def __init__(self, settings: Settings, state: ScorerState) -> None:
        self._settings = settings
        self._state = state
        self._written: Configure | None = None
        self._unreadable: tuple[str, str] | None = None
        """The version in use that cannot be read, and why."""

    async def write_due(self, publisher: Publisher) -> None:
        """Write the control record that is due, once.

        Raises:
            TierstreamError: as `due`.
        """
        control = await asyncio.to_thread(self.due)
        if control is not None and control != self._written:
            await publish_control(self._settings, publisher, control)
            self._written = control

    def due(self) -> Configure | None:
        """Return the control record that is due: other settings, or another version in use.

        Raises:
            ArchitectureMismatchError: the settings have another architecture, and no version of it is in use.
            LogError: the log's entries were made with another layout of features.
        """
        fold, settings = self._state.fold, self._settings
        if fold is None:
            return None
        wanted, built = learning_settings(settings.scorer), architecture(settings.scorer)
        if fold.learning != wanted:
            if architecture_in(fold.learning) == built or not fold.has_learned:
                return Configure(wanted)
            fitting = fitting_version(settings.data_dir, settings.scorer)
            if fitting is None:
                check_architecture(architecture(settings_in(fold.learning)), built, "the scorer's log")
                raise LogError(
                    "the scorer's log was made with another layout of the structured features",
                    "begin anew with another --data-dir and topics.prefix, or use the release that made it",
                )
            return Configure(wanted, *fitting)
        history = self._state.versions.in_use("scorer")
        if history.version is None or len(history.history) <= fold.changes:
            return None
        return Configure(wanted, history.version, len(history.history)) if self._is_readable(history.version) else None

    def status(self) -> dict[str, Any]:
        """Return why the version in use is not taken over, where it cannot be read."""
        return {} if self._unreadable is None else {"version_refused": dict([self._unreadable])}

    def _is_readable(self, version: str) -> bool:
        try:
            self._state.load_version(version)
        except VersionError as error:
            if self._unreadable is None or self._unreadable[0] != version:
                log.error("%s; until then the scorer before goes on", error)
            self._unreadable = version, str(error)
            return False
        self._unreadable = None
        return True
