"""What can go wrong and be said to a person in one line.

::

    TierstreamError             a message, and where there is one a remedy
    ├── SettingsError           an unknown key, or an invalid value
    ├── InputError              a file or record that was handed in cannot be used
    ├── ConnectionFailedError   the broker cannot be reached
    ├── TopicsError             topics are missing, or are not as the settings say
    ├── StateError              state on disk was written under other settings
    ├── BrokerError             the embedded broker does not start
    │   └── JarsUnavailableError    Apache Kafka's jars cannot be fetched
    ├── JobError                a training job cannot be run as requested
    ├── VersionError            a trained version is not there, or is not as it was added
    ├── ServingError            the server that answers from trained versions does not take one
    ├── ArchitectureMismatchError   what is there is not what the settings ask for
    ├── LogError                the scorer's log cannot be folded
    ├── MissingExtraError       a part of the package that was not installed is needed
    └── LagError                a consumer is further behind than allowed

The command line prints any of these as `error: <message>` and its remedy, and exits with 1.
"""

from __future__ import annotations

import errno


class TierstreamError(Exception):
    """A failure with a message for a person: one line, and where there is one a remedy.

    Args:
        message: what is wrong, in one line, naming the thing and the value.
        remedy: what to do about it, in one line.
    """

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message if self.remedy is None else f"{self.message}; {self.remedy}"


class SettingsError(TierstreamError):
    """A setting's key is unknown or its value cannot be."""


class InputError(TierstreamError):
    """A file or record that was handed in cannot be used."""


class ConnectionFailedError(TierstreamError):
    """The broker cannot be reached."""


class TopicsError(TierstreamError):
    """Topics are missing, or are not as the settings say."""


class StateError(TierstreamError):
    """State on disk was written under other settings, or by another version of the program."""


class BrokerError(TierstreamError):
    """The embedded broker does not start."""


class JarsUnavailableError(BrokerError):
    """Apache Kafka's jars are neither in the cache nor can they be fetched."""


class JobError(TierstreamError):
    """A training job cannot be run as requested."""


class VersionError(TierstreamError):
    """A trained version is not there, or is not as it was added."""


class ServingError(TierstreamError):
    """The server that answers from trained versions does not answer, or does not take one."""


class ArchitectureMismatchError(TierstreamError):
    """What is there is not what the settings ask for; the message names both and the remedies."""


class LogError(TierstreamError):
    """The scorer's log holds what cannot be folded: nothing of it may be skipped."""


class MissingExtraError(TierstreamError):
    """A part of the package that was not installed is needed."""


class LagError(TierstreamError):
    """A consumer is further behind than allowed."""


def disk_failure(error: BaseException) -> str | None:
    """Return one line, with the remedy, where an error says that a disk takes nothing any more; else None."""
    if not isinstance(error, OSError) or error.errno not in _DISK_REMEDIES:
        return None
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror}{where}; {_DISK_REMEDIES[error.errno]}"


_DISK_REMEDIES = {
    errno.ENOSPC: "free room where data_dir and state_dir are",
    errno.EDQUOT: "raise the quota where data_dir and state_dir are",
    errno.EROFS: "mount data_dir and state_dir writable",
    errno.EIO: "look at the disk that data_dir and state_dir are on",
}
