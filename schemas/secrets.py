"""Secrets: each is a setting of its own, or the name of a file that holds it."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from schemas.errors import SettingsError

MAX_SECRET_BYTES = 16 * 1024


def read_secret(value: SecretStr | None, file: str | None, key: str) -> str | None:
    """Return a secret: the setting's own value, or the first line of its file; None where neither is set.

    Args:
        value: of the setting.
        file: of the setting with `_file` at its end.
        key: of the setting, for the message.

    Raises:
        SettingsError: the file cannot be read, is empty, or is too long to be a secret.
    """
    if file is None:
        return None if value is None else value.get_secret_value()
    try:
        with Path(file).open("rb") as opened:
            data = opened.read(MAX_SECRET_BYTES + 1)
        line = data.decode().strip("\r\n")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise SettingsError(f"{key}_file = {file!r} cannot be read: {reason}", "name a file of one line") from error
    if not line or len(data) > MAX_SECRET_BYTES or len(line.splitlines()) > 1:
        raise SettingsError(f"{key}_file = {file!r} holds no secret", "write the secret into it, alone on one line")
    return line
