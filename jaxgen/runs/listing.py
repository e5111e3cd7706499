"""Which runs there are, how they differ, and which is the best. Reads files; loads no model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.core.checks import choose
from jaxgen.core.errors import unknown_name
from jaxgen.runs import manifest
from jaxgen.runs.directory import MISSING, expand, flat, read_config
from jaxgen.runs.lock import Holder, holder
from jaxgen.show import read_records

MODES = {"min": np.argmin, "max": np.argmax}
INSIDE = ("checkpoints", "images")  # folders of a run that hold no runs
NOT_METRICS = ("step", "time")


class RunSummary(NamedTuple):
    """What a run's files say of it."""

    path: Path
    model: str  # the model's name, and its kind where it has one
    data: str  # the name of its data set
    steps: int  # of the newest checkpoint or the newest record, whichever is later
    num_steps: int | None  # the goal
    metrics: Mapping[str, float]  # the last value of each, where that is finite
    finished: bool  # there is a checkpoint of the last step
    holder: Holder | None  # the process that trains there now
    config: Mapping[str, Any]
    problem: str | None  # why the rest could not be read


class Comparison(NamedTuple):
    """What `compare` gives; each value stands at its run's place."""

    config: dict[str, list]  # the values that differ, by dotted name; "nothing" where a run has no such value
    metrics: dict[str, list]  # of all runs; None where a run lacks one


def find_runs(folder: str | Path) -> list[RunSummary]:
    """The runs in a folder and in the folders below it, in the order of their paths.

    Args:
        folder: a folder of runs, or one run. Hidden folders are left out, linked ones are not followed.

    Returns:
        A summary of each; of a run that is damaged one whose `problem` says so.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    path = expand(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is no folder: give one that holds runs")
    return [summarize(run) for run in sorted(_directories(path))]


def summarize(directory: str | Path) -> RunSummary:
    """The summary of one run; an error in its files becomes its `problem`."""
    path, problems = expand(directory), []

    def attempt(read, default):
        try:
            return read()
        except (OSError, ValueError) as error:
            problems.append(str(error))
            return default

    config = attempt(lambda: read_config(path / "config.json"), {})
    saved = attempt(lambda: manifest.find_steps(path / "checkpoints"), [])
    records = attempt(lambda: read_records(path / "metrics.jsonl"), [])
    last = {name: value for record in records for name, value in record.items() if name not in NOT_METRICS}
    metrics = {name: value for name, value in last.items() if value is not None}
    num_steps = config.get("num_steps")
    return RunSummary(
        path=path, model=_model(config), data=str(_part(config, "data").get("name", "")),
        steps=max([*saved, *(record["step"] for record in records)], default=0), num_steps=num_steps, metrics=metrics,
        finished=num_steps is not None and max(saved, default=0) >= num_steps,
        holder=attempt(lambda: holder(path), None), config=config, problem="; ".join(problems) or None,
    )


def compare(runs: Sequence[RunSummary]) -> Comparison:
    """The values of the configurations that are not the same in all runs, and the metrics of each.

    Args:
        runs: of `find_runs` or `summarize`.

    Example:
        >>> a, b = (RunSummary(Path(n), "vqvae", "mnist_5k", 9, 9, {"loss": x}, True, None, {"seed": s}, None)
        ...         for n, x, s in [("a", 0.5, 0), ("b", 0.25, 1)])
        >>> compare([a, b])
        Comparison(config={'seed': [0, 1]}, metrics={'loss': [0.5, 0.25]})
        >>> best([a, b], "loss").path.name
        'b'
    """
    configs = [dict(flat(run.config)) for run in runs]
    values = {key: [config.get(key, MISSING) for config in configs] for key in _names(configs)}
    differing = {key: row for key, row in values.items() if any(value != row[0] for value in row)}
    metrics = {name: [run.metrics.get(name) for run in runs] for name in _names([run.metrics for run in runs])}
    return Comparison(differing, metrics)


def best(runs: Sequence[RunSummary], metric: str, mode: str = "min") -> RunSummary:
    """The run whose last value of a metric is the smallest or the largest; the first one of several.

    Args:
        runs: of `find_runs`; those without the metric are passed over.
        metric: such as "eval/loss".
        mode: "min" or "max".

    Raises:
        ValueError: no run has the metric, or `mode` is neither.
    """
    pick = choose("mode", mode, MODES)
    measured = [run for run in runs if metric in run.metrics]
    if not measured:
        names = _names([run.metrics for run in runs])
        if not names:
            raise ValueError(f"metric {metric!r} cannot be compared: none of the {len(runs)} runs has any metrics")
        raise unknown_name("metric", metric, names)
    return measured[int(pick([run.metrics[metric] for run in measured]))]


def _directories(folder: Path) -> Iterator[Path]:
    is_run = (folder / "config.json").is_file()
    if is_run:
        yield folder
    for path in folder.iterdir():
        inside = is_run and path.name in INSIDE
        if inside or path.name.startswith(".") or path.is_symlink() or not path.is_dir():
            continue
        try:
            yield from _directories(path)
        except PermissionError:
            continue


def _model(config: Mapping[str, Any]) -> str:
    model = _part(config, "model")
    return " ".join(str(model[name]) for name in ("name", "kind") if name in model)


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name)
    return part if isinstance(part, Mapping) else {}


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """All keys, in the order in which they come first."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))
