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
from typing import Any

from jaxgen.runs import summarize
from jaxgen.runs.directory import expand, read_config
from jaxgen.show import read_records


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
    found = summarize(directory)
    if found.steps > steps:
        raise ValueError(f"{directory} holds a training of {found.steps} steps: give --steps={found.steps}, or another "
                         "--workdir")
    return found.finished and found.num_steps == steps


def seconds_of_steps(directory: Path) -> float:
    """The time of a run's training steps by its records of speed, without evaluations, compilation and pauses."""
    config = read_config(directory / "config.json")
    rows = [row for row in read_records(directory / "metrics.jsonl") if "examples_per_second" in row]
    seconds, before = 0.0, 0
    for row in rows:
        seconds += (row["step"] - before) * config["data"]["batch_size"] / row["examples_per_second"]
        before = row["step"]
    return seconds


def once(file: Path, depends_on: Mapping[str, Any], measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """`measure()`, or what it returned when the same was asked before.

    Args:
        file: of the numbers, with what they depend on.
        depends_on: models by their digests, steps, settings.
        measure: gives the numbers.
    """
    wanted = json.loads(json.dumps(dict(depends_on)))
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["depends_on"] == wanted:
            return found["numbers"]
    content = json.dumps({"depends_on": wanted, "numbers": dict(measure())}, indent=2) + "\n"
    part = file.with_suffix(".part")  # a study may be stopped while it writes
    part.write_text(content, encoding="utf-8")
    part.replace(file)
    return json.loads(content)["numbers"]


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and std with one degree of freedom less; 0 of one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def line(name: str, cells: Sequence[tuple[float, float]], formats: Sequence[str]) -> str:
    """A row of a Markdown table, `mean ± std` in each cell; a measure that is missing leaves its cell empty."""
    shown = ["" if math.isnan(mean) else f"{mean:{form}} ± {std:{form}}" for (mean, std), form in zip(cells, formats)]
    return f"| {name} | {' | '.join(shown)} |"
