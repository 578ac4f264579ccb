"""What the page changes: a line goes back to the version before, a dead letter is sent again.

Each asks first, on a page that needs no script, and is done where the token is given with the consent: to be logged in
is to look. That a form is one of ours is seen to before (`Cors`).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from html import escape
from http import HTTPStatus

from aiohttp import web

from schemas.errors import InputError, VersionError
from schemas.settings import Settings
from schemas.versions import BASES, line_of
from streams.history.dead_letter_queue import Letter, obstacle, retry
from streams.training.model_versions import announce
from streams.worker.page.answer import html_response, made
from streams.worker.page.events import letter_of
from streams.worker.page.parts import Links, commands, error_page, paragraphs, whole_page
from trainers import promotion
from trainers.versions import VersionStore

WRONG_TOKEN_SECONDS = 0.5
"""A wrong token is answered so late: guessing is slow."""

Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Question:
    """What would be done, before somebody agrees."""

    title: str
    effects: tuple[str, ...]
    """What it does, a sentence each."""
    button: str
    command: str
    """It does the same."""
    back: str
    """Where somebody goes who does not agree."""
    asks_why: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a page offers to do."""

    path: str
    """With `of`: to what it is done."""
    ask: Callable[[Settings, str], Question]
    """Raises a `TierstreamError` where it cannot be done."""
    do: Callable[[Settings, str, str], str]
    """Does it to what is named, with a reason, and returns the page that says so; errors as of `ask`."""


class Changes:
    """Handlers of everything that the page changes.

    Args:
        settings: the worker's, in effect.
        token: to be given with the consent; None where there is none.
    """

    def __init__(self, settings: Settings, token: str | None) -> None:
        self._settings = settings
        self._token = token

    def routes(self) -> list[web.RouteDef]:
        """Return the routes: GET asks, POST does it."""
        return [
            route
            for change in (ROLLBACK, RETRY)
            for route in (web.get(change.path, self._asks(change)), web.post(change.path, self._does(change)))
        ]

    def _asks(self, change: Change) -> Handler:
        def ask(of: str) -> str:
            return _question_page(change.ask(self._settings, of), needs_token=self._token is not None)

        async def answer(request: web.Request) -> web.Response:
            return await made(lambda: ask(request.match_info["of"]), HTTPStatus.CONFLICT)

        return answer

    def _does(self, change: Change) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            given = await request.post()
            if not is_token(self._token, str(given.get("token", ""))):
                await asyncio.sleep(WRONG_TOKEN_SECONDS)
                why = "That is not the token (web.token): nothing was changed."
                return html_response(error_page(why, "Not done"), HTTPStatus.UNAUTHORIZED)
            of, why = request.match_info["of"], " ".join(str(given.get("reason", "")).split())
            return await made(lambda: change.do(self._settings, of, why), HTTPStatus.CONFLICT)

        return answer


def is_token(token: str | None, given: str) -> bool:
    """Tell whether the token was given, in constant time; where there is none, nobody has to."""
    return token is None or hmac.compare_digest(given.strip().encode(errors="surrogateescape"), token.encode())


def _question_page(question: Question, *, needs_token: bool) -> str:
    fields = '<label for="reason">Why</label><input id="reason" name="reason" maxlength="200">'
    token = (
        '<label for="token">Token (web.token)</label>'
        '<input id="token" name="token" type="password" autocomplete="current-password" required>'
    )
    form = (
        f'<form method="post" class="consent">{fields if question.asks_why else ""}{token if needs_token else ""}'
        f'<button>{escape(question.button)}</button><a href="{escape(question.back)}">Leave it as it is</a></form>'
    )
    body = f"<section>{paragraphs(question.effects)}{form}{commands(question.command)}</section>"
    return whole_page(question.title, "nothing is changed before you agree", [body], {})


def _done_page(title: str, said: str, links: Links) -> str:
    return whole_page(title, "done", [f'<section role="status">{paragraphs([said])}</section>'], links)


def _rollback_question(settings: Settings, version: str) -> Question:
    """Raises `VersionError`: there is nothing to go back to, or another version is in use by now."""
    line, store = line_of(version), VersionStore(settings.data_dir)
    target, used = promotion.rollback_target(settings, line), store.in_use(line).version or BASES.get(line)
    if used != version:
        raise VersionError(f"{used} is in use by now, not {version}", "nothing was changed")
    effects = [f"The line {line} goes back from {version} to {target}, which was in use before it."]
    if line in BASES:
        effects += [f"Who follows model-versions is told, and the next job continues from {target}."]
        if settings.serving.url is not None:
            effects += [f"First the server at {settings.serving.url} loads it and answers from it, or nothing changes."]
    else:
        effects += [f"Every worker scores with {target} from then on, and goes on learning from there."]
    command, back = f"tierstream models rollback {line}", f"/versions/{version}"
    return Question(f"Roll back {version}?", tuple(effects), f"Roll back to {target}", command, back, asks_why=True)


def _roll_back(settings: Settings, version: str, why: str) -> str:
    _rollback_question(settings, version)  # a page that is not of now must not have a server load what it names
    event = promotion.rollback(settings, line_of(version), reason=why, only_from=version)
    asyncio.run(announce(settings, event))
    links = {} if event.version in BASES.values() else {event.version: f"/versions/{event.version}"}
    return _done_page("Rolled back", f"{event.version} is in use: {event.reason}", links)


def _retry_question(settings: Settings, number: str) -> Question:
    """Raises `InputError`: there is no such letter, or it cannot be sent again."""
    content = (letter := _letter(settings, number)).content
    effects = [f"Letter {number} is sent to {content.topic} again, as attempt {content.attempt + 1}."]
    effects += ["It was sent again before; the same ids change nothing."] if letter.retried else []
    command, back = f"tierstream dead-letters retry {number}", f"/dead-letters/{number}"
    return Question(f"Send letter {number} again?", tuple(effects), "Send it again", command, back)


def _retry(settings: Settings, number: str, why: str) -> str:
    letter = _letter(settings, number)

    async def chosen() -> AsyncIterator[Letter]:
        yield letter

    asyncio.run(retry(settings, chosen(), lambda *_: None))
    said = f"letter {number} was sent to {letter.content.topic} again"
    return _done_page("Sent again", said, {f"letter {number}": f"/dead-letters/{number}"})


def _letter(settings: Settings, number: str) -> Letter:
    letter = letter_of(settings, int(number))
    if (why_not := obstacle(letter, settings)) is not None:
        raise InputError(f"letter {number} cannot be sent again: {why_not}")
    return letter


ROLLBACK = Change("/versions/{of}/rollback", _rollback_question, _roll_back)
RETRY = Change(r"/dead-letters/{of:\d{1,18}}/retry", _retry_question, _retry)
