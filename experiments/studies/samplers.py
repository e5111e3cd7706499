"""Solvers against network evaluations, and guidance: how close samples come to real images for what they cost.

All solvers of `jaxgen.diffusion` in as many steps as some numbers of evaluations allow (what a solver really takes is
printed, in brackets where it is less), then scales of classifier-free guidance, and intervals of noise
levels in which it is applied, with one solver. The measure is the Fréchet distance in the features of a classifier, by
its name, of samples of all classes in turn to the training images; the same samples' noise in every row. The first line
is the distance of held-out images. Guidance takes a second evaluation where it is applied, which is counted; it is off
where solvers are compared. Where a sample is not finite the distance is left out.

    python -m experiments.study samplers --model=runs/digits --classifier=runs/classifier
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.machine import describe
from experiments.studies import cells
from jaxgen import diffusion, evaluate, metrics, runs, show
from jaxgen.core.checks import check_count
from jaxgen.core.digest import digest

SOLVERS = tuple(name for name in diffusion.SOLVERS if name != "consistency")  # which is for consistency models
EVALUATIONS = (5, 8, 10, 20, 50)
SCALES = (1.0, 1.5, 2.0, 3.0, 4.0)
INTERVALS = ((0.3, 5.0), (0.3, 1.0), (1.0, 5.0), (1.0, 80.0))  # noise levels
BEST = {"solver": "dpmpp_2m", "steps": 20}
COLUMNS = {"study": ("study", ""), "solver": ("solver", ""), "steps": ("steps", "d"), "guidance": ("guidance", "g"),
           "guidance_low": ("above", "g"), "guidance_high": ("up to", "g"), "evaluations": ("evaluations", "d"),
           "distance": ("distance", ".4f"), "seconds_per_sample": ("seconds per sample", ".4f")}
OF_GUIDANCE = {key: COLUMNS[key] for key in ("guidance", "guidance_low", "guidance_high", "evaluations",
                                               "distance")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.study samplers`."""
    cells.add_arguments(parser, "runs/samplers")
    parser.add_argument("--model", required=True, help="the run of a diffusion model with classes, or a checkpoint")
    parser.add_argument("--classifier", required=True, help="the run or checkpoint of a classifier of the same data")
    parser.add_argument("--count", type=int, default=500, help="samples of each row")
    parser.add_argument("--evaluations", type=int, nargs="+", default=list(EVALUATIONS))
    parser.add_argument("--only", nargs="+", choices=SOLVERS, default=list(SOLVERS), metavar="SOLVER",
                        help=f"some of {', '.join(SOLVERS)}")


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the tables, draws them, and returns their rows."""
    check_count("--count", args.count, 2)
    for evaluations in args.evaluations:
        check_count("--evaluations", evaluations, 2)
    trained, network = runs.load(args.model), runs.feature_network(args.classifier)
    train_set = trained.dataset(trained.config["data"]["train_split"])
    distance = metrics.frechet_to(metrics.moments(evaluate.extract(network, train_set)))
    held_out = evaluate.extract(network, trained.dataset())
    count = min(args.count, len(held_out))  # a distance falls with the count: both are of as many
    floor = float(distance(metrics.moments(held_out[np.random.default_rng(0).permutation(len(held_out))[:count]])))
    print(f"{trained}; {args.count} samples, {evaluate.distance_name(network)} ({network.digest[:12]}) to "
          f"{len(train_set)} training images; {describe()}")
    print(f"{count} held-out images: {floor:.4f}; the distance of samples is of as many too\n")
    rows = []
    print(cells.heading(COLUMNS))
    for kind, asked, settings in [*of_solvers(trained, args.only, args.evaluations), *of_guidance()]:
        row = row_of(args.workdir, trained, settings, args.count, count, network, distance)
        rows.append({"study": kind, "asked": asked, **settings, **row})
        print(cells.line(rows[-1], COLUMNS), flush=True)
    print(f"\n{table(rows)}")
    head = {"run": trained.config.get("configuration"), "samples": args.count, "network_digest": network.digest,
            "held_out": floor}
    cells.save(args, "samplers", draw(rows, floor, evaluate.distance_name(network)))
    cells.record(args, "samplers", head, rows)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Two tables: the distance of each solver by the number of evaluations asked for, and that of guidance.

    In brackets the evaluations that a solver takes, where they are not as many.
    """
    solvers, columns = {}, {"solver": ("solver", "")}
    for row in (row for row in rows if row["study"] == "solver"):
        key = str(row["asked"])
        columns[key] = (f"{key} evaluations", "")
        taken = "" if row["evaluations"] == row["asked"] else f" ({row['evaluations']})"
        cell = None if row["distance"] is None else f"{row['distance']:.3f}{taken}"
        solvers.setdefault(row["solver"], {"solver": row["solver"]})[key] = cell
    guidance = [row for row in rows if row["study"] != "solver"]
    return f"{cells.table(list(solvers.values()), columns)}\n\n{cells.table(guidance, OF_GUIDANCE)}"


def of_solvers(trained: runs.Run, solvers: list[str], evaluations: list[int]) -> Iterator[tuple[str, int, dict]]:
    """("solver", evaluations, settings): as many steps as the evaluations allow; the step into 0 takes one."""
    for name in solvers:
        per_step = diffusion.get_solver(name).nfe
        for count in evaluations:
            settings = {"solver": name, "steps": (count + per_step - 1) // per_step, "guidance": 1.0}
            if settings["steps"] > 1 and trained.sampler(**settings).work.evaluations() > count:
                settings["steps"] -= 1  # pndm evaluates once more
            if settings["steps"] > 1:
                yield "solver", count, settings


def of_guidance() -> Iterator[tuple[str, None, dict]]:
    """("guidance" or "interval", None, settings) of one solver."""
    for scale in SCALES:
        yield "guidance", None, {**BEST, "guidance": scale}
    for low, high in INTERVALS:
        yield "interval", None, {**BEST, "guidance": 2.0, "guidance_low": low, "guidance_high": high}


def row_of(
    workdir: Path, trained: runs.Run, settings: dict, count: int, compared: int, network: evaluate.FeatureNetwork,
    distance: Callable[..., float],
) -> dict[str, float | None]:
    """The row of some settings, or what it was when it was asked for before."""

    def measure() -> dict[str, float | None]:
        samples, _, seconds = cells.timed_samples(trained, count, settings)
        images = show.to_uint8(samples)
        features = evaluate.extract(network, evaluate.centre(images) if trained.samples_off_centre else images)
        finite = bool(np.isfinite(samples).all())
        return {"evaluations": trained.sampler(**settings).work.evaluations(), "seconds_per_sample": seconds,
                "distance": float(distance(metrics.moments(features[:compared]))) if finite else None}

    depends_on = {**settings, "count": count, "compared": compared, "weights": digest(trained.variables),
                  "network": network.digest}
    name = "-".join(str(value) for value in settings.values())
    return cells.once(workdir / f"{name}.json", depends_on, measure)


def draw(rows: list[dict], floor: float, label: str) -> Any:
    """A figure: left solvers over evaluations, right guidance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    solvers = dict.fromkeys(row["solver"] for row in rows if row["study"] == "solver")
    for index, name in enumerate(solvers):
        points = [(row["evaluations"], np.nan if row["distance"] is None else row["distance"]) for row in rows
                  if row["study"] == "solver" and row["solver"] == name]
        left.plot(*zip(*points), marker="o", markersize=3, color=f"C{index % 10}",
                  linestyle="-" if index < 10 else "--", label=name)
    left.set(xscale="log", yscale="log", xlabel="network evaluations", ylabel=label)
    scales = [(row["guidance"], row["distance"]) for row in rows if row["study"] == "guidance"]
    right.plot(*zip(*scales), marker="o", label="at all noise levels")
    for row in (row for row in rows if row["study"] == "interval"):
        right.plot([row["guidance"]], [row["distance"]], marker="s", linestyle="",
                   label=f"2.0 in ({row['guidance_low']}, {row['guidance_high']}]")
    right.set(xlabel="guidance", ylabel=label)
    for axes in (left, right):
        axes.axhline(floor, color="grey", linestyle=":", label="held-out images")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, ncols=2)
    return figure
