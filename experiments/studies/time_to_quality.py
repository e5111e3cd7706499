"""Time to quality: the same autoencoder and U-Net trained by jaxgen and by PyTorch with diffusers' modules.

Both start from the same weights, in diffusers' format, and see the same batches of mnist_5k with the same loss, AdamW,
learning rate and its warm-up. The autoencoder is VQModel, the U-Net UNet2DModel, in the sizes of `experiments.benchmark
autoencoder` and `unet`; the first is measured by the PSNR of held-out images, the second by the loss of their predicted
noise, with fixed noise at times from 0 to 999. Each library has a process of its own, the same cores (`--threads`; on
Linux, elsewhere JAX takes all) and the same seconds of wall time, in parts that alternate, so that a machine's moods
meet both alike; the other one waits meanwhile. Compilation counts, with no compiled programs kept from before;
evaluation does not. PyTorch runs eagerly in the faster of its two layouts, which is found out before its time
begins. Curves begin at the weights that both start from.

    python -m experiments.study time_to_quality --seconds=600
"""

import argparse
import contextlib
import functools
import importlib.util
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks import autoencoder, roofline, unet
from experiments.benchmarks.measure import Worker
from experiments.common.machine import cores, describe
from experiments.studies import cells, sides
from jaxgen.core.checks import check_count

LIBRARIES = ("jaxgen", "PyTorch")
TASKS = {"autoencoder": {"learning_rate": 5e-4, "quality": "PSNR [dB]"},
         "unet": {"learning_rate": 2e-4, "quality": "loss"}}
SHARED = {"parts": 20, "held_out": 200, "warmup_steps": 100, "weight_decay": 0.01, "seed": 0}
COLUMNS = {
    "task": ("network", ""), "quality": ("held-out", ""), "library": ("library", ""), "steps": ("steps", ",d"),
    "compile": ("compilation [s]", ".0f"), "at_25": ("after 25% of the time", ".4g"), "at_50": ("50%", ".4g"),
    "at_100": ("100%", ".4g"), "reaches": ("seconds to the other's last value", ".0f"),
}
table = functools.partial(cells.table, columns=COLUMNS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.study time_to_quality`."""
    cells.add_arguments(parser, "runs/time_to_quality")
    parser.add_argument("--seconds", type=float, default=600, help="of each training")
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="NETWORK",
                        help=f"some of {', '.join(TASKS)}")
    parser.add_argument("--channels", type=int, nargs="+", help="features of each level; the benchmarks' by default")
    parser.add_argument("--batch", type=int, help="images per step; the benchmarks' by default")
    parser.add_argument("--threads", type=int, default=cores(), help="cores that each library has, and PyTorch's "
                        "threads; default: all that this process may use, %(default)s here")


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the table, draws it, and returns its rows."""
    missing = [name for name in ("torch", "diffusers") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"time_to_quality needs {' and '.join(missing)}: pip install torch==2.13.0 && pip install "
                          "'.[parity]'")
    if args.seconds <= 0:
        raise ValueError(f"--seconds={args.seconds:g} must be above 0: each library trains for so long")
    if check_count("--threads", args.threads) > cores():
        raise ValueError(f"--threads={args.threads} are more than the {cores()} cores that this process may use: each "
                         "thread needs a core of its own")
    rows, curves = [], {}
    print(f"{args.seconds:g} seconds of each library; {describe()}\n{cells.heading(COLUMNS)}")
    for task in args.only:
        chosen = {"channels": args.channels, "batch": args.batch}
        case = {**roofline.default_sizes(task), **TASKS[task], **SHARED, "task": task, "threads": args.threads,
                "seconds": args.seconds, **{name: value for name, value in chosen.items() if value}}
        found = cells.once(args.workdir / f"{task}.json", case, lambda case=case: compare(args.workdir, case))
        curves[task] = {library: found[library]["curve"] for library in LIBRARIES}
        for library, other in zip(LIBRARIES, reversed(LIBRARIES)):
            rows.append(row_of(case, library, found[library], found[other]["curve"][-1][1]))
            print(cells.line(rows[-1], COLUMNS), flush=True)
    cells.save(args, "time_to_quality", draw(curves))
    cells.record(args, "time_to_quality", {"seconds": args.seconds, "threads": args.threads}, rows)
    return rows


def compare(workdir: Path, case: dict) -> dict[str, dict]:
    """{library: {"compile" and "steps", and "curve": [[seconds of training, quality], ...]}}, in turn."""
    directory = workdir / case["task"]
    write_start(directory, case)
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(
            sides.__name__, {**case, "library": name, "directory": str(directory)},
            cores=case["threads"], environment={"JAX_ENABLE_COMPILATION_CACHE": "false"},  # compilation counts
            time_limit=int(8 * case["threads"] * case["seconds"]) + 3600)) for name in LIBRARIES}
        found = {name: {"curve": [[0.0, worker.value("evaluate")]]} for name, worker in workers.items()}
        for _ in range(case["parts"]):
            for name, worker in workers.items():
                clock = worker.value("train")
                found[name] |= {"compile": clock["compile"], "steps": clock["steps"]}
                found[name]["curve"].append([clock["seconds"], worker.value("evaluate")])
    return found


def write_start(directory: Path, case: dict) -> None:
    """Writes the weights that both libraries start from, and the data."""
    import jax

    from jaxgen import data, interop

    directory.mkdir(parents=True, exist_ok=True)
    train, held_out = (data.load("mnist_5k", split).examples() for split in ("train", "test"))
    held_out = held_out[:case["held_out"]]
    draw = np.random.default_rng(case["seed"])
    np.savez(directory / "data.npz", train=train, held_out=held_out,
             times=np.linspace(0, sides.TIMES - 1, len(held_out)).round().astype(np.int32),
             noise=draw.standard_normal(held_out.shape, np.float32))
    shape, key = train.shape[1:], jax.random.key(case["seed"])
    if case["task"] == "autoencoder":
        model = autoencoder.network(case, shape[-1])
        variables = jax.jit(model.init, static_argnums=1)(key, shape)
        interop.save_autoencoder(directory, model, variables, sample_size=shape[0])
    else:
        model, _ = unet.denoising(unet.network(case), shape)
        params = jax.jit(model.init, static_argnums=1)(key, shape).params["network"]
        interop.save_unet(directory, model.network, params, sample_size=shape[0])


def row_of(case: dict, library: str, found: dict, goal: float) -> dict[str, Any]:
    """The columns of one library.

    Args:
        case: the network and its training.
        library: its name.
        found: what `compare` found of it.
        goal: the other library's last quality.
    """
    curve = found["curve"]
    shares = {f"at_{share}": curve[share * case["parts"] // 100][1] for share in (25, 50, 100)}
    return {"task": case["task"], "quality": case["quality"], "library": library, "steps": found["steps"],
            "compile": found["compile"], **shares, "reaches": seconds_to(curve, goal)}


def seconds_to(curve: Sequence[Sequence[float]], goal: float) -> float | None:
    """When a curve [[seconds, quality], ...], straight between its points, first has the goal; None: it has not."""
    for (start, before), (end, after) in itertools.pairwise(curve):
        if min(before, after) <= goal <= max(before, after):
            return start + (end - start) * (goal - before) / (after - before) if after != before else start
    return None


def draw(curves: dict[str, dict[str, list]]) -> Any:
    """A figure: a panel for each network, quality over seconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(curves), 4), layout="constrained")
    for axes, (task, found) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items()):
        for library, curve in found.items():
            axes.plot(*zip(*curve), marker="o", markersize=3, label=library)
        axes.set(title=task, xlabel="seconds of training, compilation included",
                 ylabel=f"held-out {TASKS[task]['quality']}", yscale="linear" if task == "autoencoder" else "log")
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
