"""The bearer token of the web server: set, read from a file, or made once."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from schemas.errors import SettingsError
from schemas.secrets import read_secret
from schemas.settings import WebSettings
from trainers.files import temporary_path

_RANDOM_BYTES = 32


def web_token(web: WebSettings) -> str | None:
    """Return the token in effect, None where there is none; a token file that does not exist is made.

    Raises:
        SettingsError: the token file can be neither read nor made, or holds no token.
    """
    if web.token_file is not None and not Path(web.token_file).exists():
        try:
            _make(Path(web.token_file))
        except OSError as error:
            raise SettingsError(
                f"web.token_file = {web.token_file!r} cannot be made: {error.strerror}",
                "name a file in a folder of ours",
            ) from error
    return read_secret(web.token, web.token_file, "web.token")


def bearer(web: WebSettings) -> dict[str, str]:
    """Return the header that the web server asks for; none where there is no token.

    Raises:
        SettingsError: as `web_token`.
    """
    token = web_token(web)
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def _make(path: Path) -> None:
    """Write a random token that only its owner reads; of processes that do so at once, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(f"{secrets.token_urlsafe(_RANDOM_BYTES)}\n")
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink()
