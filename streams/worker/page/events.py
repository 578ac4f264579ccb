"""Pages of dead letters and of one experience."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from urllib.parse import quote

from schemas.errors import InputError
from schemas.settings import Settings
from streams.audit.blocks import Note, Section, Table, text
from streams.audit.collect import fields
from streams.audit.explain import compose
from streams.audit.page import section_html
from streams.audit.story import gather
from streams.history.dead_letter_queue import Filter, Letter, key_of, obstacle, read_letters, row_of, value_of
from streams.worker.page.parts import Links, button, commands, experience_link, facts_table, preformatted, whole_page

NEWEST = 100
"""Dead letters that a page lists."""


def letters_page(settings: Settings, reason: str | None) -> str:
    """Return the counts of dead letters by reason and source, and the newest ones.

    Raises:
        TopicsError: the topic of dead letters is missing.
        ConnectionFailedError: the broker cannot be reached.
    """
    newest: deque[Letter] = deque(maxlen=NEWEST)
    counts: Counter[tuple[str, str]] = Counter()
    waiting: Counter[tuple[str, str]] = Counter()

    def take(letter: Letter) -> None:
        newest.append(letter)
        of = (letter.content.error_type, letter.content.topic)
        counts[of] += 1
        waiting[of] += not letter.retried

    _read(settings, Filter(reason), take)
    links: Links = {why: f"/dead-letters?reason={quote(why)}" for why, _ in counts}
    links |= {f"letter {letter.offset}": f"/dead-letters/{letter.offset}" for letter in newest}
    by_reason = tuple((*of, text(count), text(waiting[of])) for of, count in counts.most_common())
    rows = tuple(
        (f"letter {row['number']}", row["at"], row["source"], row["reason"], row["error"])
        for row in map(row_of, reversed(newest))
    )
    sections = [
        section_html(
            Section("reasons", "By reason", (Table("", ("reason", "from", "records", "not retried"), by_reason),)),
            commands(
                *(f"tierstream dead-letters retry --reason {why}" for why in dict.fromkeys(why for why, _ in counts))
            )
            if counts
            else "<p>None.</p>",
        ),
        section_html(
            Section("newest", f"Newest {len(rows)}", (Table("", ("letter", "at", "from", "reason", "what"), rows),))
        ),
    ]
    return whole_page("Dead letters", reason or "of every reason", sections, links)


def letter_page(settings: Settings, number: int) -> str:
    """Return one dead letter whole: why it could not be used, the record, and how it is sent again.

    Raises:
        InputError: there is none of this number.
        TopicsError: the topic of dead letters is missing.
        ConnectionFailedError: the broker cannot be reached.
    """
    letter = letter_of(settings, number)
    key, value = _content(letter)
    why_not, how = obstacle(letter, settings), ""
    if why_not is None:
        how = button("Send it again", f"/dead-letters/{number}/retry") + commands(
            f"tierstream dead-letters retry {number}"
        )
    facts = {**row_of(letter), "key": key, "cannot be retried": why_not}
    sections = [
        section_html(Section("letter", "Why", (facts_table(facts.items()),)), how),
        section_html(Section("record", "The record", ()), preformatted([value.decode("utf-8", "backslashreplace")])),
    ]
    return whole_page(f"Dead letter {number}", f"{facts['reason']}: {facts['error']}", sections, _named(letter))


def letter_of(settings: Settings, number: int) -> Letter:
    """Return a dead letter by its number; errors as of `letter_page`."""
    found: list[Letter] = []
    _read(settings, Filter(offsets=[number]), found.append)
    if not found:
        raise InputError(f"there is no dead letter {number}", "/dead-letters lists those that are there")
    return found[0]


def _content(letter: Letter) -> tuple[str, bytes]:
    """Return its key and value, empty where it is no base64."""
    try:
        return (key_of(letter) or b"").decode("utf-8", "backslashreplace"), value_of(letter)
    except ValueError:
        return "", b""


def _named(letter: Letter) -> Links:
    """Return the experiences that it says it is about, which may be told of elsewhere."""
    key, value = _content(letter)
    names = {key, str(fields(value).get("experience_id") or "")} - {""}
    return {name: experience_link(name) for name in names}


def _read(settings: Settings, chosen: Filter, take: Callable[[Letter], None]) -> None:
    async def read() -> None:
        async for letter in read_letters(settings, chosen, lambda done, of: None):
            take(letter)

    asyncio.run(read())


def experience_page(settings: Settings, experience_id: str) -> str:
    """Return the story of one experience through every tier.

    Raises:
        InputError: nothing in the stream has this id.
        ConnectionFailedError: the broker cannot be reached.
    """
    found = asyncio.run(gather(settings, experience_id))
    links: Links = {}
    for pair in found.pairs:
        ends = (pair["chosen_experience_id"], pair["rejected_experience_id"])
        links |= {name: experience_link(name) for name in ends if name != experience_id}
    for job in (job for place in found.places.values() for job in place.jobs):
        links[job["job_id"]] = f"/jobs/{job['job_id']}"
        links |= {job["version"]: f"/versions/{job['version']}"} if job["version"] else {}
    told = compose(found, settings)
    sections = [
        section_html(Section(f"chapter-{place}", chapter.title, tuple(map(Note, chapter.lines))))
        for place, chapter in enumerate(told.chapters)
    ]
    return whole_page(f"Experience {experience_id}", "what became of it", sections, links)
