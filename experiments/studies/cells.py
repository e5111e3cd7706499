"""What studies share: trainings and measures that are not repeated, samples with their time, tables and plots.

A study's `table(rows)` makes the Markdown that it prints and that `experiments.results` puts into the documentation.
"""

import argparse
import json
import math
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common import results
from jaxgen import generate
from jaxgen.runs import Run, summarize
from jaxgen.runs.directory import expand, read_config
from jaxgen.show import read_records

GALLERY = Path(__file__).parents[1] / "gallery"
Columns = Mapping[str, tuple[str, str]]  # a row's key: (heading, format of its numbers; "" of words)


def add_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """The options of every study."""
    parser.add_argument("--workdir", type=expand, default=Path(default), help="the study's directory; default: "
                        f"{default}")
    parser.add_argument("--record", action="store_true", help="keep the table in experiments/results.json and the plot "
                        "in experiments/gallery; otherwise the plot is in the study's directory")


def save(args: argparse.Namespace, name: str, figure: Any) -> None:
    """Writes a figure of matplotlib to the study's directory, or with `--record` to the gallery."""
    file = GALLERY / f"study_{name}.png" if args.record else args.workdir / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
    print(f"wrote {file}")


def record(args: argparse.Namespace, name: str, head: Mapping[str, Any], rows: Sequence[Mapping]) -> None:
    """Keeps the rows with `--record`, see `experiments.common.results.record_study`."""
    if args.record:
        print(f"recorded in {results.record_study(name, head, rows)}")


def train(script: str, directory: Path, options: Sequence[str], steps: int) -> float:
    """Trains by the command that a user would type, unless it is done; returns the seconds that the steps took.

    Raises:
        ChildProcessError: the training failed; its last lines are in the message.
        ValueError: the directory holds a training of more steps, or one by another command.
    """
    command = [sys.executable, "-m", f"experiments.{script}", f"--workdir={directory}", *options,
               f"--config.num_steps={steps}"]
    log, typed = directory.with_suffix(".log"), shlex.join(command[1:])
    directory.parent.mkdir(parents=True, exist_ok=True)
    if not _is_done(directory, steps, log, typed):
        with log.open("w", encoding="utf-8") as output:
            print(typed, file=output, flush=True)
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
        if code:
            raise ChildProcessError(f"python {typed} ended with status {code}: "
                                    f"{log.read_text(encoding='utf-8')[-400:].strip()}")
    return seconds_of_steps(directory)


def _is_done(directory: Path, steps: int, log: Path, typed: str) -> bool:
    found = summarize(directory)
    if found.steps > steps:
        raise ValueError(f"{directory} holds a training of {found.steps} steps: give --steps={found.steps}, or another "
                         "--workdir")
    if not found.finished or found.num_steps != steps:  # the script itself refuses to go on with other options
        return False
    before = log.read_text(encoding="utf-8").partition("\n")[0] if log.is_file() else "an unknown command"
    if before != typed:
        raise ValueError(f"{directory} holds a training by {before}, and the study asks for {typed}: give the same "
                         "options, or another --workdir")
    return True


def seconds_of_steps(directory: Path) -> float:
    """The time of a run's training steps by its records of speed, without evaluations, compilation and pauses."""
    config = read_config(directory / "config.json")
    rows = [row for row in read_records(directory / "metrics.jsonl") if "examples_per_second" in row]
    seconds, before = 0.0, 0
    for row in rows:
        seconds += (row["step"] - before) * config["data"]["batch_size"] / row["examples_per_second"]
        before = row["step"]
    return seconds


def timed_samples(trained: Run, count: int, settings: Mapping[str, Any]) -> tuple[np.ndarray, Any, float]:
    """(samples [count, ...] of all classes in turn, their classes [count] or None, seconds of one).

    The time is the median of the batches after the first one, which compiles.

    Args:
        trained: a run whose model samples.
        count: 2 at least.
        settings: changes of the run's sampling.
    """
    batch = min(generate.sampler.BATCH, count // 2)
    cond = trained.model.conditions.parse(count, classes=None, prompts=None, names=trained.class_names)
    parts, times = [], [time.perf_counter()]
    for part in generate.sample_batches(trained.sampler(**settings), trained.variables, jax.random.key(0), cond, count,
                                        batch=batch):
        parts.append(part)
        times.append(time.perf_counter())
    return np.concatenate(parts), cond.get("classes"), statistics.median(np.diff(times)[1:]) / batch


def once(file: Path, depends_on: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
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
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")  # a study may be stopped while it writes
    part.write_text(content, encoding="utf-8")
    part.replace(file)
    return json.loads(content)["numbers"]


def used_of(values: Mapping[str, float], prefix: str = "") -> float:
    """The share of the codes in use, a mean over the quantizers of a residual or grouped one."""
    return float(np.mean([value for name, value in values.items()
                          if name.startswith(prefix) and name.removeprefix(prefix).endswith("used")]))


def use_of_codes(directory: Path) -> list[tuple[int, float]]:
    """(step, share of the codes that held-out data use) of a run, over its training."""
    return [(row["step"], used_of(row, "eval/")) for row in read_records(directory / "metrics.jsonl")
            if "eval/psnr" in row]


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and std with one degree of freedom less; 0 of one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def table(rows: Sequence[Mapping[str, Any]], columns: Columns) -> str:
    """A Markdown table of rows; see `line`."""
    return "\n".join([heading(columns), *(line(row, columns) for row in rows)])


def heading(columns: Columns) -> str:
    """The first two lines of a table."""
    return f"| {' | '.join(text for text, _ in columns.values())} |\n{'|---' * len(columns)}|"


def line(row: Mapping[str, Any], columns: Columns) -> str:
    """A row of a table; a value that is missing, None or NaN leaves its cell empty."""
    return f"| {' | '.join(_cell(row.get(key), form) for key, (_, form) in columns.items())} |"


def _cell(value: Any, form: str) -> str:
    """A word, a number, or `mean ± std` of a pair; a std of 0 is left out, which that of one value is."""
    if isinstance(value, list | tuple):
        mean, std = value
        return f"{mean:{form}} ± {std:{form}}" if std else _cell(mean, form)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:{form}}"
