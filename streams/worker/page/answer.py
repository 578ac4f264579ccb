"""How a page is answered: the policy that every one has, and what went wrong as a page of one line."""

from __future__ import annotations

import asyncio
import hashlib
import re
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from importlib import resources

from aiohttp import web

from schemas.errors import ConnectionFailedError, TierstreamError, disk_failure
from streams.audit.page import STYLE as PAGE_STYLE
from streams.worker.charts import STYLE
from streams.worker.page.parts import error_page


@cache
def read(name: str) -> str:
    """Return a file of this folder, as it was when it was first read: the policy has its hash."""
    return resources.files("streams.worker.page").joinpath(name).read_text("utf-8")


def _allowed_styles() -> str:
    """Return the hashes of the styles that stand in pages and charts; what was read from elsewhere is none of them."""
    own = [PAGE_STYLE, *re.findall("<style>(.*?)</style>", read("login.html") + STYLE, re.DOTALL)]
    return " ".join(f"'sha256-{b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" for style in own)


POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    f"style-src 'self' {_allowed_styles()}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser would not say whose form it sends
    "Cache-Control": "no-store",
}


def html_response(html: str, status: int = 200) -> web.Response:
    """Return a page as an answer."""
    return web.Response(text=html, content_type="text/html", status=status, headers=HEADERS)


async def made(make: Callable[[], str], refused: HTTPStatus = HTTPStatus.NOT_FOUND) -> web.Response:
    """Return the page that `make` returns, from a thread: reading topics must not hold up the stream.

    Args:
        make: what does it.
        refused: status of what it refuses.
    """
    try:
        return html_response(await asyncio.to_thread(make))
    except TierstreamError as error:
        status = HTTPStatus.SERVICE_UNAVAILABLE if isinstance(error, ConnectionFailedError) else refused
        said = str(error)
    except OSError as error:
        status, said = HTTPStatus.INTERNAL_SERVER_ERROR, disk_failure(error) or str(error)
    return html_response(error_page(said, "Not found" if status == HTTPStatus.NOT_FOUND else "Not done"), status)
