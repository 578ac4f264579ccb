"""`python -m benchmarks.intake`: how soon a posted feedback changes a score, and how many posts a second are taken.

`tierstream up` runs as it stands; each feedback is one post. First one after the other, by `curl`, while nothing else
happens: from the start of the command until a consumer has the score update. Then over keep-alive connections at a
rate, and as fast as they are answered.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path

import click
import psutil

from benchmarks.load import Load, feedback_id, percentile, values
from benchmarks.machine import in_words, machine
from benchmarks.posting import post_all
from benchmarks.processes import cpu_seconds
from benchmarks.system import RunningSystem
from benchmarks.topics import ends, reader
from schemas.events import ScoreUpdate
from streams import topics

CURLS, WARM = 200, 20
EXPERIENCES = 2_000
PAUSE_SECONDS = 0.05
"""Between two curls."""


@click.command()
@click.option("--rate", default=1000.0, show_default=True, help="Posts a second.")
@click.option("--seconds", default=60.0, show_default=True, help="How long at that rate, and then without one.")
@click.option(
    "--settle", default=30.0, show_default=True, help="Seconds between the parts, for the stream to catch up."
)
def main(rate: float, seconds: float, settle: float) -> None:
    """Measure, one after the other.

    Example: python -m benchmarks.intake --seconds 20
    """
    with tempfile.TemporaryDirectory(prefix="intake-") as folder, RunningSystem(Path(folder), {}) as system:
        load = Load(system.settings, EXPERIENCES)
        system.produce(topics.EXPERIENCES, values(load.experiences()))
        time.sleep(settle)
        curls, many = CURLS + WARM, int(rate * seconds)
        bodies = iter(values(load.feedback(0, curls + 2 * many)))
        curled = asyncio.run(_curl_all(system, [next(bodies) for _ in range(curls)]))[WARM:]
        click.echo(f"machine: {in_words(machine())}, load {psutil.getloadavg()[0]:.1f}")
        click.echo(f"curl to score update, {len(curled)} posts: {_spread(curled)}")
        for at in (rate, inf):
            before = cpu_seconds(system.up.process.pid)
            posted = asyncio.run(post_all(f"{system.web}/v1/feedback", [next(bodies) for _ in range(many)], at))
            spent = cpu_seconds(system.up.process.pid) - before
            asked = "as fast as they are answered" if at == inf else f"{at:g}/s asked"
            click.echo(
                f"{asked}: {posted}, CPU {spent / posted.seconds:.2f} cores, answers {_spread(posted.answer_ms)}"
            )
            time.sleep(settle)


async def _curl_all(system: RunningSystem, bodies: list[bytes]) -> list[float]:
    """Post bodies one by one; return the milliseconds until each one's score update was read."""
    taken = []
    async with reader(system.settings, topics.SCORE_UPDATES, await ends(system.settings, topics.SCORE_UPDATES)) as seen:
        for number, body in enumerate(bodies):
            began = time.monotonic()
            command = ["curl", "-sf", "-H", "Content-Type: application/json", f"{system.web}/v1/feedback", "-d"]
            curl = await asyncio.create_subprocess_exec(*command, body, stdout=subprocess.DEVNULL)
            async for record in seen:
                if ScoreUpdate.from_json(record.value).feedback_id == feedback_id(number):
                    break
            taken.append((time.monotonic() - began) * 1000)
            if await curl.wait():
                raise click.ClickException(f"curl ended with {curl.returncode}")
            await asyncio.sleep(PAUSE_SECONDS)
    return taken


def _spread(milliseconds: list[float]) -> str:
    told: Iterator[str] = (f"p{share * 100:g} {percentile(milliseconds, share):.0f}" for share in (0.5, 0.9, 0.99, 1.0))
    return f"{', '.join(told)} ms"


if __name__ == "__main__":
    main()
