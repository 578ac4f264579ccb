"""Commands about what could not be used: `dead-letters list`, `show`, `retry`."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from schemas.config import LoadedSettings
from schemas.errors import InputError
from schemas.setting_types import parse_duration
from streams.cli.lines import progress_bar
from streams.cli.options import json_option, settings_options
from streams.cli.tables import print_table

if TYPE_CHECKING:
    from streams.history.dead_letter_queue import Filter, Letter


class Since(click.ParamType):
    """A duration back from now, or a time."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time that is meant."""
        if isinstance(value, datetime):
            return value
        try:
            return datetime.now(UTC) - timedelta(seconds=float(parse_duration(value)))
        except (ValueError, OverflowError):
            pass
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a duration such as 2h nor a time such as 2026-11-22T10:00:00Z", param, ctx)
        return at if at.tzinfo else at.replace(tzinfo=UTC)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--reason`, `--topic` and `--since`."""
    for option in (
        click.option("--since", type=Since(), metavar="TIME", help="Dead-lettered since: 2h, or 2026-11-22T10:00:00Z."),
        click.option("--topic", metavar="TOPIC", help="Read from this topic, for example feedback."),
        click.option("--reason", metavar="REASON", help="Dead-lettered for this reason, for example invalid_event."),
    ):
        command = option(command)
    return command


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at records that could not be used, and try them again.

    Example: tierstream dead-letters list --since 2h
    """


@dead_letters.command("list")
@settings_options()
@filter_options
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Newest ones that are shown.")
@json_option
def list_(
    loaded: LoadedSettings, reason: str | None, topic: str | None, since: datetime | None, limit: int, as_json: bool
) -> None:
    """Count dead letters by reason, and list the newest.

    Example: tierstream dead-letters list --reason orphan_feedback --since 2h
    """
    from streams.history.dead_letter_queue import Filter, row_of

    counts: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    newest: deque[dict[str, Any]] = deque(maxlen=limit)

    def take(letter: Letter) -> None:
        row = row_of(letter)
        counts[row["reason"]] += 1
        waiting[row["reason"]] += not letter.retried
        newest.append(row)

    _read(loaded, Filter(reason, topic, since), take)
    rows = [{"reason": name, "letters": number, "not_retried": waiting[name]} for name, number in counts.most_common()]
    if as_json:
        click.echo(json.dumps({"counts": rows, "letters": list(newest)}, indent=2))
        return
    if not rows:
        click.echo("no dead letters")
        return
    print_table(rows)
    click.echo()
    print_table(newest)


@dead_letters.command()
@click.argument("number", type=click.IntRange(min=0))
@settings_options()
@json_option
def show(loaded: LoadedSettings, number: int, as_json: bool) -> None:
    """Show one dead letter whole, by its NUMBER in the list.

    Example: tierstream dead-letters show 17
    """
    from streams.history.dead_letter_queue import Filter, key_of, obstacle, printable, row_of, value_of

    found: list[Letter] = []
    _read(loaded, Filter(offsets=[number]), found.append)
    if not found:
        raise InputError(f"there is no dead letter {number}", "`tierstream dead-letters list` shows their numbers")
    letter = found[0]
    try:
        key, value = key_of(letter), value_of(letter)
    except ValueError:
        key, value = None, b""
    row = {
        **row_of(letter),
        "key": None if key is None else key.decode("utf-8", "backslashreplace"),
        "value_sha256": letter.content.value_sha256,
        "obstacle": obstacle(letter, loaded.settings),
        "value": value.decode("utf-8", "backslashreplace"),
    }
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    for name, content in row.items():
        click.echo(f"{name}: {'-' if content is None else printable(str(content))}")


@dead_letters.command()
@click.argument("numbers", type=click.IntRange(min=0), nargs=-1)
@settings_options()
@filter_options
@click.option("--all", "everything", is_flag=True, help="Every one that was not tried again yet.")
@click.option("--dry-run", is_flag=True, help="Tell what would be done only.")
@json_option
def retry(
    loaded: LoadedSettings,
    numbers: tuple[int, ...],
    reason: str | None,
    topic: str | None,
    since: datetime | None,
    everything: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send dead letters again to the topic they came from, by their NUMBERS or by filters; exit 1 where one cannot be.

    One that is valid now goes through; otherwise it comes back as a new letter with the next attempt. By filters, those
    that were sent again before are left out.

    Example: tierstream dead-letters retry --reason orphan_feedback --since 2h
    """
    from streams.history.dead_letter_queue import Filter, printable

    if not (numbers or reason or topic or since or everything):
        raise click.UsageError("say which: NUMBERS, --reason, --topic, --since or --all")
    sent: list[int] = []
    refused: list[dict[str, Any]] = []

    def told(letter: Letter, obstacle: str | None) -> None:
        if obstacle is None:
            sent.append(letter.offset)
        else:
            refused.append({"number": letter.offset, "reason": obstacle})

    _retry(loaded, Filter(reason, topic, since, set(numbers) or None), told, dry_run)
    absent = sorted(set(numbers) - set(sent) - {row["number"] for row in refused})
    refused += [{"number": number, "reason": "there is no such dead letter"} for number in absent]
    if as_json:
        click.echo(json.dumps({"retried": sent, "refused": refused, "dry_run": dry_run}, indent=2))
    else:
        for row in refused:
            click.echo(f"letter {row['number']}: {printable(row['reason'])}", err=True)
        click.echo(f"{len(sent)} {'would be retried' if dry_run else 'retried'}, {len(refused)} cannot be")
    if refused:
        click.get_current_context().exit(1)


def _read(loaded: LoadedSettings, chosen: Filter, take: Callable[[Letter], None]) -> None:
    from streams.history.dead_letter_queue import read_letters

    async def run() -> None:
        async for letter in read_letters(loaded.settings, chosen, progress):
            take(letter)

    with progress_bar("reading") as progress:
        asyncio.run(run())


def _retry(loaded: LoadedSettings, chosen: Filter, told: Callable[[Letter, str | None], None], dry_run: bool) -> None:
    from streams.history.dead_letter_queue import read_letters
    from streams.history.dead_letter_queue import retry as send_again

    async def meant() -> AsyncIterator[Letter]:
        async for letter in read_letters(loaded.settings, chosen, progress):
            if chosen.offsets or not letter.retried:
                yield letter

    with progress_bar("retrying") as progress:
        asyncio.run(send_again(loaded.settings, meant(), told, dry=dry_run))
