"""Comparing whole steps of several libraries: a process for each, one after the other in turn."""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.benchmarks.measure import Worker, WorkerError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that comparisons of steps share."""
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--rounds", type=int, default=7, help="alternated rounds")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's threads; JAX takes the machine's cores")
    parser.add_argument("--json", type=Path, help="write the rows here")


def compare(
    module: str, cases: Mapping[str, Mapping], operations: Sequence[str], *, rounds: int, title: str,
    json_file: Path | None = None, column: str = "library",
) -> list[dict]:
    """Prints a table of medians and of the least times, and returns its rows.

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
    compile_seconds = {name: worker.seconds("compile") for name, worker in workers.items()}
    times = {(name, operation): [] for operation in operations for name in workers}
    for worker in workers.values():
        for operation in operations:
            worker.seconds(operation)
    for _ in range(rounds):
        for name, operation in times:
            times[name, operation].append(workers[name].seconds(operation))
    rows, first = [], {}
    print(title)
    over = "ours" if column == "library" else "the first"
    print(f"| operation | {column} | median ms | least ms | median over {over} | least over {over} | compilation s |")
    print("|---|---|---|---|---|---|---|")
    for (name, operation), values in times.items():
        row = {"operation": operation, "library": name, "median": statistics.median(values), "least": min(values),
               "compile": compile_seconds[name]}
        ours = first.setdefault(operation, row)
        row |= {f"{key}_over_ours": row[key] / ours[key] for key in ("median", "least")}
        rows.append(row)
        print(f"| {operation} | {name} | {1e3 * row['median']:.0f} | {1e3 * row['least']:.0f} | "
              f"{row['median_over_ours']:.2f} | {row['least_over_ours']:.2f} | {row['compile']:.1f} |", flush=True)
    for worker in workers.values():
        worker.close()
    if json_file:
        json_file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows
