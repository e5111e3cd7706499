"""Comparing whole steps of several libraries: a process for each, one after the other in turn."""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.benchmarks.measure import Worker, WorkerError
from experiments.common.machine import describe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that comparisons of steps share."""
    parser.add_argument("--size", type=int, default=32, help="height and width of the images or latents")
    add_timing(parser)


def add_timing(parser: argparse.ArgumentParser, rounds: int = 7) -> None:
    """The options of every comparison with PyTorch."""
    parser.add_argument("--rounds", type=int, default=rounds, help="alternated rounds")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's threads; JAX takes the machine's cores")
    parser.add_argument("--json", type=Path, help="write the rows here")


def compare(
    module: str, cases: Mapping[str, Mapping], operations: Sequence[str], *, rounds: int, title: str,
    json_file: Path | None = None, column: str = "library",
) -> list[dict]:
    """Prints a table, by medians and by least times, and returns its rows.

    Args:
        module: whose `prepare(case)` gives the operations, and "compile".
        cases: by the library's name; the first one is what the others are compared with.
        operations: which ones to time.
        rounds: each runs every operation of every library once.
        title: printed above the table.
        json_file: where to write the rows too, or None.
        column: what the cases are, above their names.
    """
    workers = {}
    for name, case in cases.items():
        try:
            workers[name] = Worker(module, dict(case))
        except WorkerError as error:
            print(f"left out {name}: {error}")
    print(f"{title}; {describe()}")
    over = "ours" if column == "library" else "the first"
    print(f"| operation | {column} | median ms | least ms | median over {over} | least over {over} | system ms | "
          "page faults | peak MB | compilation s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    compile_seconds = {name: worker.seconds("compile") for name, worker in workers.items()}
    peaks, runs = {}, {(name, operation): [] for operation in operations for name in workers}
    for name, operation in runs:
        peaks[name, operation] = workers[name].peak_bytes(operation)
        workers[name].seconds(operation)
    for _ in range(rounds):
        for name, operation in runs:
            runs[name, operation].append(workers[name].usage(operation))
    rows, first = [], {}
    for (name, operation), usages in runs.items():
        seconds, system, faults = ([usage[key] for usage in usages] for key in ("seconds", "system", "faults"))
        row = {"operation": operation, "library": name, "median": statistics.median(seconds), "least": min(seconds),
               "system": statistics.median(system), "faults": statistics.median(faults),
               "peak": peaks[name, operation], "compile": compile_seconds[name]}
        ours = first.setdefault(operation, row)
        row |= {f"{key}_over_ours": row[key] / ours[key] for key in ("median", "least")}
        rows.append(row)
        print(f"| {operation} | {name} | {_milliseconds(row['median'])} | {_milliseconds(row['least'])} | "
              f"{row['median_over_ours']:.2f} | {row['least_over_ours']:.2f} | {1e3 * row['system']:.0f} | "
              f"{row['faults']:,.0f} | {row['peak'] / 1e6:,.0f} | {row['compile']:.1f} |", flush=True)
    for worker in workers.values():
        worker.close()
    if json_file:
        json_file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.{0 if seconds > 0.02 else 1}f}"
