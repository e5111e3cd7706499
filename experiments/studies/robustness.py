"""A tokenizer under changes of its input, with and without regularisation, and the use of its codes over training.

Each variant trains one configuration with another quantizer or option: plain; latent noise; quantizer dropout;
adversarial training of the encoder; and, for the collapse of the codebook, without revival of unused codes, without
k-means at its start, and without both. Then held-out images are changed (noise, shifts, blur, JPEG, an attack on the
latents within a ball of epsilon, all rounded to bytes), encoded and decoded.

The first table has the share of the codes that change. Under a shift a code is compared with the one as many positions
to its left, which there is only for shifts by whole positions of the latent map; other shifts are left out. The second
table has what is lost of the PSNR: that of the clean image's reconstruction less that of the changed one's, both
against the clean original; for shifts, the changed one's against the shifted original.

    python -m experiments.study robustness --workdir=runs/robustness
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common.command_line import find_config
from experiments.common.machine import describe
from experiments.studies import cells, perturbations
from jaxgen import data, losses, metrics, runs
from jaxgen.core.batches import in_batches
from jaxgen.core.checks import check_count
from jaxgen.evaluate.reconstruction import EXACT

LATENT_NOISE = 0.3  # in units of the latents' std
DROPOUT = 0.5
EPSILON = 0.2  # of [-1, 1]: a tenth of the range, in training and in the attack
ATTACK_STEPS = 10
COLLAPSE = ("plain", "no revival", "no k-means", "no k-means, no revival")
VARIANTS = ("plain", "latent noise", "quantizer dropout", "adversarial", *COLLAPSE[1:])
BATCH = 100
IN_A_PATH = str.maketrans({" ": "-", ",": None, ":": "-", ".": "-"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.study robustness`."""
    cells.add_arguments(parser, "runs/robustness")
    parser.add_argument("--config", default="vqvae_mnist", help="the VQ-VAE's configuration, with a `vq` quantizer")
    parser.add_argument("--steps", type=int, default=1000, help="of each training")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each variant")
    parser.add_argument("--images", type=int, default=500, help="held-out images that are changed, from all over")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=VARIANTS, metavar="NAME",
                        help=f"some of {'; '.join(VARIANTS)}")


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the tables, draws them, and returns their rows."""
    for name in ("steps", "seeds", "images"):
        check_count(f"--{name}", getattr(args, name))
    _, config = find_config("config", args.config, "vqvae_mnist", models=("vqvae",))
    options = {name: options_of(name, config.model.quantizer.to_dict()) for name in args.only}
    print(f"{args.config}, {args.steps} steps, seeds {args.seeds}, {args.images} held-out images; {describe()}")
    rows, curves = [], {}
    for name in args.only:
        measured = []
        for seed in range(args.seeds):
            directory = args.workdir / f"{Path(args.config).name}-{name}-{seed}".translate(IN_A_PATH)
            every = max(1, args.steps // 10)
            cells.train("train_vqvae", directory, [
                f"--config={args.config}", f"--config.seed={seed}", f"--config.evaluate_every={every}",
                *options[name]], args.steps)
            depends_on = {"steps": args.steps, "images": args.images, "epsilon": EPSILON, "attack": ATTACK_STEPS}
            measured.append(cells.once(directory / "study.json", depends_on, partial(measure, directory, args.images)))
            curves.setdefault(name, []).append(cells.use_of_codes(directory))
        columns = {key: cells.mean_and_std([one[key] for one in measured]) for key in measured[0]}
        rows.append({"variant": name, "seeds": args.seeds, **columns})
        print(f"{name}: PSNR {columns['psnr'][0]:.2f} dB, {columns['used'][0]:.0%} of the codes in use", flush=True)
    changes = [key.removeprefix("lost ") for key in rows[0] if key.startswith("lost ")]
    print(f"\n{table(rows)}")
    cells.save(args, "robustness", draw_robustness(rows, changes))
    cells.save(args, "collapse", draw_collapse(curves))
    head = {"config": args.config, "steps": args.steps, "seeds": args.seeds, "images": args.images}
    cells.record(args, "robustness", head, rows)
    return rows


def options_of(variant: str, quantizer: Mapping[str, Any]) -> list[str]:
    """What a variant changes of the configuration, on the command line.

    Raises:
        ValueError: the configuration's quantizer is not the one that the variants change.
    """
    if quantizer["name"] != "vq":
        raise ValueError(f"--config has the quantizer {quantizer['name']!r}: give one with 'vq', which has revival and "
                         "k-means to leave out")
    off = {"no revival": {"revive_below": 0.0}, "no k-means": {"kmeans_iterations": 0}}
    changes = {key: value for word, change in off.items() if word in variant for key, value in change.items()}
    inner = call({**quantizer, **changes})
    wrapped = {"latent noise": f"noisy({inner}, {LATENT_NOISE})", "quantizer dropout": f"dropout({inner}, {DROPOUT})"}
    options = [f"--config.quantizer={wrapped.get(variant, inner)}"]
    return [*options, f"--config.robust.epsilon={EPSILON}"] if variant == "adversarial" else options


def call(description: Mapping[str, Any]) -> str:
    """A quantizer's description as `--config.quantizer` takes it."""
    arguments = [f"{name}={value!r}" for name, value in description.items() if name != "name"]
    return f"{description['name']}({', '.join(arguments)})"


def changes_of(trained: runs.Run, positions: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """{name: change of images, uint8 [N, H, W, C]}; `positions` are the pixels of one position of the latent map."""
    return {
        **{f"noise {std}": partial(perturbations.noise, std=std) for std in (0.05, 0.15)},
        **{f"shift {pixels}": partial(perturbations.shift, pixels=pixels) for pixels in sorted({1, 2, positions})},
        "blur 1": partial(perturbations.blur, std=1.0),
        **{f"JPEG {quality}": partial(perturbations.jpeg, quality=quality) for quality in (50, 20)},
        f"attack {EPSILON}": partial(attack, trained),
    }


def attack(trained: runs.Run, images: np.ndarray) -> np.ndarray:
    """Images within EPSILON whose latents are the furthest from those of the given ones, to the rounding of bytes."""

    @jax.jit
    def attacked(variables, x, ids):
        clean = trained.model.to_latents(variables, x)
        return data.to_uint8(losses.pgd(
            jax.random.key(0), lambda x: losses.l2(clean, trained.model.to_latents(variables, x)), x, epsilon=EPSILON,
            steps=ATTACK_STEPS, sample_ids=ids))

    return in_batches(lambda part: attacked(trained.variables, data.to_float(part[0]), part[1]),
                      (images, np.arange(len(images), dtype=np.int32)), BATCH)


def measure(directory: Path, count: int) -> dict[str, float]:
    """PSNR [dB] and use of the codes of one run, and by change "changed NAME", a share, and "lost NAME" [dB].

    "used" is of all held-out images, the rest of `count` of them.
    """
    trained = runs.load(directory)
    model, dataset = trained.model, trained.dataset()
    images = dataset.spread(count)[dataset.example]  # sets may be in the order of their classes
    reconstruct = runs.reconstructor(model)

    @jax.jit
    def look(variables, images):
        x = data.to_float(images)
        return model.to_tokens(variables, x), data.to_uint8(reconstruct(variables, x))

    def quality(original, restored):
        return np.minimum(metrics.psnr(original, restored, value_range=(0, 255)), EXACT)

    def seen(images):
        return in_batches(partial(look, trained.variables), images, BATCH)

    tokens, restored = seen(images)
    clean = quality(images, restored)
    numbers = {"psnr": float(clean.mean()), "used": cells.used_of(trained.evaluate(dataset))}
    positions = images.shape[2] // tokens.shape[2]
    for name, change in changes_of(trained, positions).items():
        changed = change(images)
        found, restored = seen(changed)
        pixels = int(name.removeprefix("shift ")) if name.startswith("shift ") else 0
        if pixels % positions == 0:
            numbers[f"changed {name}"] = share_of_changed(tokens, found, pixels // positions)
        original = changed if pixels else images
        numbers[f"lost {name}"] = float((clean - quality(original, restored)).mean())
    return numbers


def share_of_changed(tokens: np.ndarray, found: np.ndarray, moved: int = 0) -> float:
    """The share of the codes [N, h, w, ...] that differ from those `moved` positions to their left before."""
    return float(np.mean(found[:, :, moved:] != tokens[:, :, :tokens.shape[2] - moved]))


def table(rows: Sequence[Mapping]) -> str:
    """Two tables: the share of the codes that change, and the PSNR that is lost."""
    changed, lost = ([key for key in rows[0] if key.startswith(kind)] for kind in ("changed ", "lost "))
    shares = {"variant": ("codes that change", ""), **{key: (key.partition(" ")[2], ".1%") for key in changed}}
    losses_of = {"variant": ("PSNR lost [dB]", ""), "psnr": ("PSNR", ".2f"),
                 **{key: (key.partition(" ")[2], ".2f") for key in lost}}
    return f"{cells.table(rows, shares)}\n\n{cells.table(rows, losses_of)}"


def draw_robustness(rows: Sequence[Mapping], changes: Sequence[str]) -> Any:
    """Left the share of codes that change, right the PSNR that is lost, by change; a colour for each variant."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    for axes, kind, label in zip(figure.subplots(1, 2), ("changed", "lost"), ("codes that change", "PSNR lost [dB]")):
        names = [name for name in changes if f"{kind} {name}" in rows[0]]
        for row in rows:
            means, stds = zip(*(row[f"{kind} {name}"] for name in names))
            axes.errorbar(names, means, stds, fmt="o-", linewidth=0.7, markersize=4, capsize=3, label=row["variant"])
        axes.set_ylabel(label)
        axes.tick_params(axis="x", rotation=60)
        axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure


def draw_collapse(curves: Mapping[str, list]) -> Any:
    """The share of the codes that held-out images use, over training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for index, (name, seeds) in enumerate(curves.items()):
        for seed, points in enumerate(seeds):
            axes.plot(*zip(*points), color=f"C{index}", linestyle="-" if name in COLLAPSE else ":",
                      label=None if seed else name)
    axes.set(xlabel="step", ylabel="share of the codes in use", ylim=(0, 1.05))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure
