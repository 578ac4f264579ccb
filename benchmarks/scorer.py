"""What the scorer learns, how fast, and at what cost as it grows: `python -m benchmarks.scorer`.

It took 24 minutes on two cores that others used, too.

Tables go to the terminal, all figures to `--json`, the learning curves to `--plot`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from benchmarks import scorer_growth, scorer_learning, scorer_room, scorer_speed
from benchmarks.folds import examples_of
from benchmarks.home_assistant import DATA, load_rows
from benchmarks.machine import machine
from benchmarks.progress import Progressed
from benchmarks.scorer_report import draw_curves, report
from schemas.settings import ScorerSettings
from trainers.embedding import build_embedder

PARTS = ("speed", "growth", "room", "home_assistant", "hh_rlhf")


def main() -> int:
    """Measure the parts that are asked for."""
    options = _options()
    if not DATA.is_file():
        print(f"{DATA} is not there: it lies beside the project", file=sys.stderr)
        return 1
    console = Console()
    found: dict[str, Any] = {"machine": machine()}
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("home_assistant", total=1.0)
        examples = examples_of(load_rows(), build_embedder(ScorerSettings()))
        for part in options.only:
            bar.reset(task, total=1.0, description=part)

            def tell(what: str, share: float, part: str = part) -> None:
                bar.update(task, description=f"{part}: {what}", completed=share)

            found[part] = _measure(part, options, examples, tell)
            if options.json:
                options.json.write_text(json.dumps(found, indent=2) + "\n")
    text = report(found)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    if options.plot and {*scorer_learning.DATA, "room"} & set(found):
        draw_curves(found, options.plot)
    return 0


def _measure(part: str, options: argparse.Namespace, examples: Any, progress: Progressed) -> Any:
    if part == "speed":
        return scorer_speed.measure(examples)
    if part == "room":
        return scorer_room.measure(options.seeds, progress)
    if part in scorer_learning.DATA:
        return scorer_learning.measure(part, options.seeds, options.workers, progress)
    with tempfile.TemporaryDirectory() as folder:
        return scorer_growth.measure(examples, Path(folder), options.samples, progress)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scorer", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure, in this order")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of the scorer, and rooms (default 5)")
    parser.add_argument("--workers", type=int, default=2, help="processes that learn (default 2)")
    parser.add_argument("--samples", type=int, default=1_000_000, help="how far cost growth goes (default 1,000,000)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--plot", type=Path, help="PNG of the learning curves")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
