"""What studies share: trainings by command that are not repeated, and tables of means over seeds."""

import argparse
import json
import math
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jaxgen.runs import load
from jaxgen.runs.directory import expand

RESULT = "study.json"


def add_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """The options of every study."""
    parser.add_argument("--workdir", type=expand, default=Path(default), help="the study's directory; default: "
                        f"{default}")
    parser.add_argument("--record", action="store_true", help="keep the table in experiments/results.json")


def train(script: str, directory: Path, options: Sequence[str], steps: int) -> float:
    """Trains by the command that a user would type, unless it is done; returns the seconds that the steps took.

    Raises:
        ChildProcessError: the training failed; its last lines are in the message.
    """
    command = [sys.executable, "-m", f"experiments.{script}", f"--workdir={directory}", *options,
               f"--config.num_steps={steps}"]
    log = directory.with_suffix(".log")
    directory.parent.mkdir(parents=True, exist_ok=True)
    if not _is_done(directory, steps):
        with log.open("w", encoding="utf-8") as output:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
        if code:
            raise ChildProcessError(f"{shlex.join(command)} ended with status {code}: "
                                    f"{log.read_text(encoding='utf-8')[-400:].strip()}")
    return seconds_of_steps(directory)


def _is_done(directory: Path, steps: int) -> bool:
    try:
        return load(directory).step == steps
    except FileNotFoundError:
        return False


def metrics(directory: Path) -> list[dict]:
    """The rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def seconds_of_steps(directory: Path) -> float:
    """The time of a run's training steps by its records of speed, without evaluations, compilation and pauses."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    rows = [row for row in metrics(directory) if "examples_per_second" in row]
    seconds, before = 0.0, 0
    for row in rows:
        seconds += (row["step"] - before) * config["data"]["batch_size"] / row["examples_per_second"]
        before = row["step"]
    return seconds


def once(directory: Path, measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """`measure()`, or what it returned when this was asked before."""
    file = directory / RESULT
    if not file.is_file():
        file.write_text(json.dumps(measure(), indent=2) + "\n", encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and std with one degree of freedom less; 0 of one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def line(name: str, cells: Sequence[tuple[float, float]], formats: Sequence[str]) -> str:
    """A row of a Markdown table, `mean ± std` in each cell; a measure that is missing leaves its cell empty."""
    shown = ["" if math.isnan(mean) else f"{mean:{form}} ± {std:{form}}" for (mean, std), form in zip(cells, formats)]
    return f"| {name} | {' | '.join(shown)} |"
