"""The group of all commands, and the one place where errors become exit codes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import click

from schemas.errors import TierstreamError, disk_failure
from schemas.extras import missing_extra
from streams.cli import (
    audit,
    dead_letters,
    health,
    importing,
    jobs,
    lag,
    models,
    produce,
    prune,
    replay,
    report,
    retrain,
    run,
    score,
    serve,
    topics,
    train,
    upgrade,
)
from streams.terminal import neutral_terminal

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tierstream")
def cli() -> None:
    """Turn judgements of an assistant's answers into a better assistant, continuously.

    Example: tierstream demo
    """


for command in (
    run.up,
    run.worker,
    run.trainer,
    run.broker,
    run.demo,
    topics.topics,
    upgrade.upgrade,
    dead_letters.dead_letters,
    importing.import_,
    jobs.jobs,
    prune.prune,
    train.train,
    health.health,
    lag.lag,
    models.models,
    produce.produce,
    replay.replay,
    replay.export,
    report.doctor,
    report.schema,
    retrain.retrain,
    score.score,
    serve.serve,
    audit.audit,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 when it worked, 1 for a failure, 2 for bad usage, 130 for Ctrl-C."""
    # What aiokafka would print by itself comes out as our one line; a worker sets up its own log.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    # A file of the user's, such as random.py, is no module of the processes that we start in its folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    with neutral_terminal():
        code = _exit_code(list(sys.argv[1:] if arguments is None else arguments))
    sys.exit(code)


def _exit_code(arguments: list[str]) -> int:
    try:
        code = cli.main(arguments, prog_name="tierstream", standalone_mode=False)
        sys.stdout.flush()
    except TierstreamError as error:
        click.echo(f"error: {error}", err=True)
        return EXIT_FAILURE
    except ModuleNotFoundError as error:
        if (missing := missing_extra(error)) is None:
            raise
        click.echo(f"error: {missing}", err=True)
        return EXIT_FAILURE
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        click.echo(f"error: {' '.join(error.format_message().split())}{_where_to_look(error)}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone: nothing is left to say, nor may the interpreter's last flush fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except OSError as error:
        if (line := disk_failure(error)) is None:
            raise
        click.echo(f"error: {line}", err=True)
        return EXIT_FAILURE
    return code if isinstance(code, int) else 0


def _where_to_look(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"; see {context.command_path} --help" if context else ""
