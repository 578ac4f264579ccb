"""The main job on recorded data: everything through the running system, one table, and what it must show.

`python -m benchmarks.real_input` starts `tierstream up`, publishes the recorded control of homes and the reasoning
traces, waits until all is processed, prints the table, and exits with 1 and a line for every expectation that fails.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click
from rich.console import Console

from benchmarks import expectations
from benchmarks.check_pairs import read_raw
from benchmarks.ends import counted_ends, failed_ends
from benchmarks.real_run import CSV, Inputs, Run, load_inputs, run_once, with_shuffled_labels
from benchmarks.report import figures, markdown_table, rich_table
from benchmarks.system import CommandFailedError

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SHUFFLE_SEED = 20250403

Runs = dict[str, Run]


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=DATA, help="Folder of the recorded data.")
@click.option("--skip-shuffled", is_flag=True, help="Leave out the second run, with shuffled labels.")
@click.option("--kill", "kills", type=click.IntRange(0, 4), default=0, help="SIGKILL the worker so often, and compare.")
@click.option("--partitions", type=click.IntRange(1), help="Of the keyed topics; with --kill one, so that ids compare.")
@click.option("--rank", type=click.IntRange(1), default=32, show_default=True, help="Rank of the scorer.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the table there.")
@click.option(
    "--train", is_flag=True, help="Train the jobs of the first run too, on a tiny model, and compare all records."
)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep data directories and logs in this empty folder.")
def main(
    data: Path,
    skip_shuffled: bool,
    kills: int,
    partitions: int | None,
    rank: int,
    json_file: Path | None,
    markdown_file: Path | None,
    train: bool,
    keep: Path | None,
) -> None:
    """Run the main job on recorded data and check what it must show.

    Example: python -m benchmarks.real_input --skip-shuffled --kill 3
    """
    console = Console(stderr=True, log_path=False)
    variables = {"TIERSTREAM_SCORER__RANK": str(rank)}
    if partitions or kills:
        # Between several partitions the order of arrival is free, and so is who is paired with whom.
        variables["TIERSTREAM_TOPICS__PARTITIONS"] = str(partitions or 1)
    try:
        inputs = load_inputs(data)
        with _folder(keep) as folder:
            runs = _run(Path(folder), inputs, variables, kills, skip_shuffled, train, lambda line: console.log(line))
            ends = _ends(Path(folder), runs["true labels"]) if train else []
    except OSError as error:
        raise click.ClickException(f"{error}; name the folder of the data with --data") from error
    except CommandFailedError as error:
        raise click.ClickException(str(error)) from error
    failed = [*_failed(runs, inputs, data, rank, kills), *ends]
    shown = {title: figures(run, inputs.published) for title, run in runs.items()}
    Console().print(rich_table(shown))
    if json_file:
        json_file.write_text(json.dumps({"runs": shown, "failed": failed}, indent=2) + "\n", "utf-8")
    if markdown_file:
        markdown_file.write_text(markdown_table(shown), "utf-8")
    for line in failed:
        click.echo(f"failed: {line}", err=True)
    click.echo("all expectations hold" if not failed else f"{len(failed)} expectations failed")
    sys.exit(1 if failed else 0)


def _folder(keep: Path | None) -> AbstractContextManager[str]:
    if keep is not None:
        return nullcontext(str(keep))
    return tempfile.TemporaryDirectory(prefix="tierstream-", ignore_cleanup_errors=True)


def _run(
    folder: Path,
    inputs: Inputs,
    variables: Mapping[str, str],
    kills: int,
    skip_shuffled: bool,
    train: bool,
    say: Callable[[str], None],
) -> Runs:
    def go(name: str, given: Inputs, times: int, train: bool = False) -> Run:
        say(f"run: {name}")
        more = {**variables, **(on_a_tiny_model(folder) if train else {})}
        return run_once(folder / name, given, inputs.rows, more, times, say, train)

    runs = {"true labels": go("true", inputs, 0, train)}
    if kills:
        runs["worker killed"] = go("killed", inputs, kills)
    if not skip_shuffled:
        runs["shuffled labels"] = go("shuffled", with_shuffled_labels(inputs, SHUFFLE_SEED), 0)
    return runs


def on_a_tiny_model(folder: Path) -> dict[str, str]:
    """Return settings by which jobs train a model of a few kilobytes, which is built in `folder`."""
    from tests.trainers.jobs.tiny import build_model

    context = {f"TIERSTREAM_JOBS__{tier}__MAX_LENGTH": "512" for tier in ("DPO", "SFT")}
    return {"TIERSTREAM_JOBS__BASE_MODEL": str(build_model(folder.absolute() / "base")), **context}


def _ends(folder: Path, run: Run) -> list[str]:
    """Return where the jobs' records disagree about an example; what became of them is printed."""
    data_dir, names = folder / "true" / "data", list(run.seen.jobs)
    ends = counted_ends(data_dir, names)
    click.echo(f"{ends.total()} examples of {len(names)} jobs: {', '.join(f'{n} {end}' for end, n in ends.items())}")
    return failed_ends(data_dir, names)


def _failed(runs: Runs, inputs: Inputs, data: Path, rank: int, kills: int) -> list[str]:
    failed = []
    raw = read_raw(data / CSV)
    for title, run in runs.items():
        found = expectations.failed_expectations(run.seen, inputs.published, rank)
        if not run.refusal:
            found.append("a worker of another rank was not refused, or the checkpoint was touched")
        if title != "shuffled labels":
            found += [*expectations.failed_data(run.seen), *expectations.failed_pairs(run.seen, raw)]
        failed += [f"{title}: {what}" for what in found]
    if kills:
        failed += expectations.differences(runs["worker killed"].seen, runs["true labels"].seen)
    shuffled = runs.get("shuffled labels")
    if shuffled and not (runs["true labels"].accuracy.value or 0) > (shuffled.accuracy.value or 0):
        failed.append("the scorer orders unseen answers no better than with shuffled labels")
    return failed


if __name__ == "__main__":
    main()
