"""Commands that run until they are stopped: `up`, `worker`, `trainer`, `broker`, `demo`."""

from __future__ import annotations

import signal
import threading

import click

from schemas.config import LoadedSettings
from schemas.errors import BrokerError
from schemas.extras import require
from streams.cli.options import json_option, settings_options
from streams.topics import ROLES, Role


@click.command()
@settings_options("web.port", "broker.port", "broker.kind")
@click.option("--no-trainer", is_flag=True, help="Leave training jobs to a trainer elsewhere.")
def up(loaded: LoadedSettings, no_trainer: bool) -> None:
    """Run everything on this machine: broker, topics, worker, trainer and web page.

    The broker is embedded unless --bootstrap-servers (or the setting) names one.

    Example: tierstream up --web-port 8321
    """
    from streams.stack.supervisor import run_up

    if all(loaded.sources[key].startswith("flag ") for key in ("kafka.bootstrap_servers", "broker.port")):
        raise click.UsageError(
            "--broker-port is the embedded broker's, and --bootstrap-servers names another: give one"
        )
    run_up(loaded.settings, loaded, with_trainer=not no_trainer)


@click.command()
@settings_options("web.port")
@click.option("--roles", metavar="ROLE,…", help="Run only these of join, scorer, pairs, traces; by default all.")
def worker(loaded: LoadedSettings, roles: str | None) -> None:
    """Run one stream worker, a process for each role; start it on several machines to share the partitions.

    Example: tierstream worker --roles join,scorer
    """
    chosen = _roles(roles)
    require("worker" if "scorer" in chosen else "stream")
    from streams.worker.service import run

    run(loaded.settings, chosen)


def _roles(text: str | None) -> tuple[Role, ...]:
    if text is None:
        return ROLES
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in ROLES]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(ROLES)}", param_hint="--roles")
    return tuple(role for role in ROLES if role in names)


@click.command()
@settings_options()
def trainer(loaded: LoadedSettings) -> None:
    """Run training jobs, each as a process of its own, as thresholds are reached.

    Example: tierstream trainer --bootstrap-servers kafka:9092
    """
    from streams.training.service import run

    run(loaded.settings)


@click.command()
@settings_options("broker.port", "broker.kind", broker=False)
def broker(loaded: LoadedSettings) -> None:
    """Run the embedded broker alone, until it is stopped.

    Example: tierstream broker --broker-port 9092
    """
    from streams.broker.embedded import EmbeddedBroker

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with EmbeddedBroker(loaded.settings) as running:
        click.echo(f"broker: {running.bootstrap}")
        click.echo("ready")
        while not stopping.wait(0.2) and running.process.poll() is None:
            pass
        if not stopping.is_set():
            raise BrokerError(
                f"the broker ended by itself with code {running.process.returncode}",
                f"look at {running.folder / 'logs'}",
            )


@click.command()
@settings_options("web.port", "broker.port", "broker.kind")
@click.option("--experiences", type=click.IntRange(min=1), hidden=True, help="Answers of the simulated assistant.")
@json_option
def demo(loaded: LoadedSettings, experiences: int | None, as_json: bool) -> None:
    """Run all three tiers on a simulated control room with a hidden taste to be learned; exit 1 where one falls short.

    Example: tierstream demo
    """
    from streams.demo import run

    run(loaded.settings, loaded, experiences, as_json=as_json)
