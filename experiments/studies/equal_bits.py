"""Quantizers with the same number of bits per image: reconstruction, use of the codes and time, over several seeds.

Each one replaces the quantizer of one configuration, whose networks, data, steps and optimizer stay as they are; every
position of the latent map has 9 bits (one of 512 codes, 3 of 8, or 9 binary ones). Latents have 9 channels, so that
three groups of three and nine bits fit without a projection; FSQ is projected to its three levels of 8. PSNR, SSIM and
the distance are of held-out images, as bytes; the distance is LPIPS's formula in the features of a classifier
(`--classifier`, a run of `experiments.train_classifier` on the same data), or LPIPS itself (`--lpips`). "agreement" is
the share of reconstructions that this classifier reads as it reads the original.

Trainings may share the machine with other work. The time of a training step is measured when all are done, on a machine
that should then be quiet: all quantizers in turn, `--rounds` times, and the median is taken.
"""

import argparse
import ast
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments.benchmarks import roofline
from experiments.common.command_line import check_value_name, find_config
from experiments.common.machine import describe
from experiments.common.training import load_data
from experiments.studies import cells
from jaxgen import data, evaluate, runs
from jaxgen.core.checks import check_count
from jaxgen.core.digest import digest
from jaxgen.evaluate.reconstruction import SMALLEST_LPIPS
from jaxgen.losses import LpipsParams

EMA = "ema_decay=0.99, kmeans_iterations=5, revive_below=0.05"
QUANTIZERS = {
    "VQ": "vq(512)",
    "VQ, EMA": f"vq(512, {EMA})",
    "VQ, cosine": f"vq(512, metric='cosine', {EMA})",
    "VQ, rotation": f"vq(512, estimator='rotation', {EMA})",
    "FSQ": "projected(fsq((8, 8, 8)), 3)",
    "LFQ": "lfq(9)",
    "BSQ": "lfq(9, spherical=True)",
    "residual": f"residual(vq(8, {EMA}), depth=3)",
    "grouped": f"grouped(vq(8, {EMA}), 3)",
    "SimVQ": "simvq(512)",
    "Gumbel": "gumbel(512)",
}
BITS = 9
COLUMNS = {"quantizer": ("quantizer", ""), "psnr": ("PSNR [dB]", ".2f"), "ssim": ("SSIM", ".3f"),
           "distance": ("distance", ".4f"), "lpips": ("LPIPS", ".4f"), "agreement": ("agreement", ".1%"),
           "used": ("codes in use", ".0%"), "entropy_bits": ("entropy [bits per position]", ".2f"),
           "step": ("milliseconds per step", ".1f")}
OF_CLASSIFIER = ("distance", "agreement")
STEPS = 10  # of a round, for their time
CONFIG = "vqvae_fashion_mnist"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.study equal_bits`."""
    cells.add_arguments(parser, "runs/equal_bits")
    parser.add_argument("--config", default=CONFIG, help="the configuration whose quantizer is replaced")
    parser.add_argument("--steps", type=int, default=1500, help="of each training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each quantizer")
    parser.add_argument("--only", nargs="+", choices=list(QUANTIZERS), default=list(QUANTIZERS), metavar="NAME",
                        help=f"some of {', '.join(QUANTIZERS)}")
    parser.add_argument("--classifier", help="the run of a classifier, for distance and agreement")
    parser.add_argument("--lpips", choices=("vgg", "alex"), help="the network of LPIPS, which is measured of images of "
                        f"{SMALLEST_LPIPS}x{SMALLEST_LPIPS} or larger")
    parser.add_argument("--option", nargs="+", default=[], metavar="KEY=VALUE", help="changes of the configuration in "
                        "all trainings, such as model.encoder.channels=16 model.decoder.channels=16")
    parser.add_argument("--rounds", type=int, default=3, help="of the times of steps; 0 measures none")


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the table, draws it, and returns its rows."""
    config = check_arguments(args)
    classifier = runs.load_classifier("--classifier", args.classifier) if args.classifier else None
    lpips = lpips_for(config, args.lpips) if args.lpips else None
    rows, curves, seconds = [], {}, 0.0
    print(f"{args.config}, {args.steps} steps, {args.seeds} seeds, {BITS} bits per position; {describe()}")
    columns = {name: column for name, column in COLUMNS.items()
               if name != "step" and (classifier or name not in OF_CLASSIFIER) and (lpips or name != "lpips")}
    print(cells.heading(columns))
    for name in args.only:
        measured = []
        for seed in range(args.seeds):
            directory = args.workdir / f"{args.config}-{'-'.join(name.replace(',', '').split())}-{seed}"
            options = [f"--config={args.config}", f"--config.seed={seed}",
                       *(f"--config.{key}={value}" for key, value in changes_of(name).items()),
                       *(f"--config.{option}" for option in args.option)]
            seconds += cells.train("train_vqvae", directory, options, args.steps)
            depends_on = {"steps": args.steps, "classifier": classifier and digest(classifier.variables)}
            if lpips:
                depends_on["lpips"] = args.lpips
            measured.append(cells.once(directory / "study.json", depends_on,
                                       lambda d=directory: measure(d, classifier, lpips)))
            curves.setdefault(name, []).append(cells.use_of_codes(directory))
        values = {key: cells.mean_and_std([one[key] for one in measured]) for key in COLUMNS if key in measured[0]}
        rows.append({"quantizer": name, **values})
        print(cells.line(rows[-1], columns), flush=True)
    if args.rounds:
        changes = {key: literal(value) for key, value in (option.split("=", 1) for option in args.option)}
        times = milliseconds({name: {**changes_of(name), **changes} for name in args.only}, args.config, args.rounds)
        rows = [{**row, "step": times[row["quantizer"]]} for row in rows]
        print(f"\nwith the times of steps, medians of {args.rounds} rounds; {describe()}\n{table(rows)}")
    head = {"config": args.config, "options": args.option, "steps": args.steps, "seeds": args.seeds,
            "training_hours": seconds / 3600}
    name = args.config.partition(":")[0]
    cells.save(args, "equal_bits" if name == CONFIG else f"equal_bits_{name}", draw(rows, curves))
    cells.record(args, "equal_bits", head, rows)
    return rows


def table(rows: list[dict]) -> str:
    """The Markdown of rows, with the columns that were measured."""
    return cells.table(rows, {name: column for name, column in COLUMNS.items() if any(name in row for row in rows)})


def check_arguments(args: argparse.Namespace) -> ConfigDict:
    """The configuration; raises ValueError for options with which no training could run."""
    for name, least in (("steps", 1), ("seeds", 1), ("rounds", 0)):
        check_count(f"--{name}", getattr(args, name), least)
    _, config = find_config("config", args.config, CONFIG, models=("vqvae",))
    for option in args.option:
        if "=" not in option:
            raise ValueError(f"--option {option} has no value: write KEY=VALUE, as model.encoder.channels=16")
        check_value_name("config", f"--config.{option}", config)
    return config


def lpips_for(config: ConfigDict, net: str) -> LpipsParams:
    """LPIPS's parameters; raises ValueError where the configuration's images are too small, or there are none."""
    lpips, reason = evaluate.find_lpips(None, net, load_data(config)[1].example_shape)
    if lpips is None:
        raise ValueError(f"--lpips={net}: leave it out. {reason}")
    return lpips


def changes_of(quantizer: str) -> dict[str, Any]:
    """The values of the configuration that a quantizer changes."""
    return {"quantizer": QUANTIZERS[quantizer], "model.latent_channels": BITS}


def literal(value: str) -> Any:
    """A number, a list and so on that is written as Python has it, or the word itself."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def milliseconds(changes: Mapping[str, Mapping[str, Any]], config: str, rounds: int) -> dict[str, float]:
    """{name: the time of a training step}, a median over rounds in which each configuration takes STEPS steps in turn.

    Args:
        changes: {name: values of the configuration by dotted names}.
        config: the configuration.
        rounds: how many.
    """
    steps = {name: roofline.prepare(config, changes=values)[0] for name, values in changes.items()}
    times = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            times[name].append(1e3 * (time.perf_counter() - start) / STEPS)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(directory: Path, classifier: runs.Run | None, lpips: LpipsParams | None) -> dict[str, float]:
    """The columns of one run but its time."""
    trained = runs.load(directory)
    dataset = trained.dataset()
    values = trained.evaluate(dataset, lpips=lpips)
    bits = BITS * values["entropy_bits_per_pixel"] / values["bits_per_pixel"]
    columns = {"psnr": values["psnr"], "ssim": values["ssim"], "used": cells.used_of(values), "entropy_bits": bits}
    if lpips:
        columns["lpips"] = values["lpips"]
    return columns if classifier is None else {**columns, **by_classifier(trained, classifier, dataset)}


def by_classifier(trained: runs.Run, classifier: runs.Run, dataset: data.Dataset) -> dict[str, float]:
    """Distance of the features, and agreement of the classes, of images and reconstructions."""
    distance = evaluate.perceptual_distance(classifier.model, classifier.variables)

    def compared(variables, batch):
        x = batch["x"]
        x_r = data.to_float(data.to_uint8(reconstruct(variables, x)))
        classes, restored = (classifier.model.logits(classifier.variables, one).argmax(1) for one in (x, x_r))
        return {"distance": distance(x, x_r), "agreement": classes == restored}

    reconstruct = runs.reconstructor(trained.model)
    return evaluate.each_example(compared, batch_size=100)(trained.variables, dataset)


def draw(rows: list[dict], curves: Mapping[str, list]) -> Any:
    """A figure: left PSNR with its std, right the use of the codes over training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [row["quantizer"] for row in rows]
    left.errorbar(names, [row["psnr"][0] for row in rows], [row["psnr"][1] for row in rows], fmt="o", capsize=3)
    left.set_ylabel("PSNR of held-out images [dB]")
    left.tick_params(axis="x", rotation=60)
    left.grid(alpha=0.3)
    for index, (name, seeds) in enumerate(curves.items()):
        colour = f"C{index % 10}"
        for seed, points in enumerate(seeds):
            right.plot(*zip(*points), color=colour, linestyle="-" if index < 10 else "--",
                       label=name if not seed else None)
    right.set_xlabel("step")
    right.set_ylabel("share of the codes in use")
    right.grid(alpha=0.3)
    right.legend(fontsize=7, ncols=2)
    return figure
