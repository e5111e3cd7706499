"""Runs in a folder: a list of them, how they differ, and which is the best.

    python -m experiments.runs list runs
    python -m experiments.runs compare runs/a runs/b
    python -m experiments.runs best runs --metric=eval/loss
    python -m experiments.runs best runs --metric=eval/psnr --mode=max --json
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from jaxgen import runs
from jaxgen.runs import RunSummary

SHOWN = ("loss", "eval/loss", "eval/psnr")  # metrics of a list where none are asked for


def main(arguments: Sequence[str]) -> None:
    """Runs the command line, without the program's name.

    Raises:
        ValueError, OSError: there is no such folder, run or metric.
    """
    options = _parser().parse_args(arguments)
    found = [run for folder in options.folders for run in runs.find_runs(folder)]
    if not found:
        raise ValueError(f"no run in {', '.join(options.folders)}: a run's directory has a config.json")
    if options.action == "best":
        found = [runs.best(found, options.metric, options.mode)]
    show = {"list": _list, "compare": _compare, "best": _list}[options.action]
    show(found, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.runs", description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    for name, what in (("list", "each run on a line"), ("compare", "configuration values that differ, and metrics"),
                       ("best", "the run with the best last value of a metric")):
        action = actions.add_parser(name, help=what, description=what)
        action.add_argument("folders", nargs="*", default=["runs"], help="folders of runs, or runs (default: runs)")
        action.add_argument("--json", action="store_true", help="print JSON")
        if name == "best":
            action.add_argument("--metric", required=True, help="such as eval/loss")
            action.add_argument("--mode", choices=("min", "max"), default="min", help="which value is the best")
        else:
            action.add_argument("--metric", action="append", default=None, help="show this one; may be repeated")
    return parser


def _list(found: Sequence[RunSummary], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps([_plain(run) for run in found], indent=2))
        return
    metrics = [options.metric] if options.action == "best" else options.metric or [
        name for name in SHOWN if any(name in run.metrics for run in found)]
    rows = [["run", "configuration", "data", "step", "of", "state", *metrics]]
    for run in found:
        trained = run.config.get("configuration") or run.model
        values = [run.path, trained, run.data, run.steps, run.num_steps, _state(run)]
        rows.append([*map(_text, values), *(_text(run.metrics.get(name)) for name in metrics)])
    _print_table(rows)
    for run in found:
        if run.problem:
            print(f"{run.path} is damaged: {run.problem}")


def _compare(found: Sequence[RunSummary], options: argparse.Namespace) -> None:
    comparison = runs.compare(found)
    metrics = {name: comparison.metrics.get(name, [None] * len(found)) for name in options.metric or comparison.metrics}
    if options.json:
        print(json.dumps({"runs": [str(run.path) for run in found], "config": comparison.config, "metrics": metrics},
                         indent=2))
        return
    rows = [["", *(str(run.path) for run in found)]]
    for name, values in {**comparison.config, **metrics}.items():
        rows.append([name, *map(_text, values)])
    _print_table(rows)


def _state(run: RunSummary) -> str:
    if run.holder is not None:
        return f"training ({run.holder.host}, process {run.holder.process})"
    if run.problem:
        return "damaged"
    return "finished" if run.finished else "stopped"


def _plain(run: RunSummary) -> dict[str, Any]:
    return {**run._asdict(), "path": str(run.path), "holder": run.holder and run.holder._asdict()}


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns; the last one is as long as it is."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # a name may hold what the locale cannot print
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
