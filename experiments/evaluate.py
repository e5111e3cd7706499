"""Measure a trained autoencoder on held-out pictures: PSNR, SSIM, MSE, use of the codebook, bits per pixel.

    python -m experiments.evaluate --workdir=runs/a
    python -m experiments.evaluate --workdir=runs/a --split=train --output=train.json

Pictures are rounded to bytes before they are compared, as a file would hold them. Numbers are means over pictures; one
that comes back exactly counts as 100 dB.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import command_line
from jaxgen import data, metrics
from jaxgen.quantize import Variables, usage_of
from jaxgen.train import checkpoint

EXACT = 100.0  # dB


def load_run(workdir: str | Path, step: int | None = None) -> tuple[checkpoint.Loaded, Variables]:
    """The run's last (or given) checkpoint, with the averaged weights where the run kept them."""
    loaded = checkpoint.load(workdir, step=step)
    params = loaded.params if loaded.ema_params is None else loaded.ema_params
    return loaded, Variables(params, loaded.model_state)


def load_split(config: Mapping[str, Any], split: str | None = None) -> data.Dataset:
    """The run's held-out pictures, or another split of its data."""
    options = {name: value for name, value in config["data"]["options"].items() if value is not None}
    return data.load(config["data"]["name"], split or config["data"]["test_split"],
                     image_size=config["data"]["image_size"] or None, **options)


def evaluate_reconstruction(model, variables: Variables, dataset: data.Dataset, batch_size: int = 100) -> dict:
    """Metrics of the reconstructions and of the codes over a whole data set.

    Returns:
        "psnr" [dB], "ssim", "mse" (pictures in [0, 1]), "bits_per_pixel" of the fixed-length indices and
        "entropy_bits_per_pixel" at the codes' measured entropy; for each index map (prefix "top_" and the like, and
        the level of a residual quantizer, where there are several) "perplexity" and "used", the share of its codes
        that occur.
    """
    batch_size = min(batch_size, len(dataset))

    @jax.jit
    def measure(variables, batch):
        x = data.to_float(batch["image"])
        x_r, outputs, _ = model.forward(variables, x)
        levels = outputs if isinstance(outputs, Mapping) else {"": outputs}
        restored = data.to_uint8(x_r)
        found = {name: function(batch["image"], restored, value_range=(0, 255))
                 for name, function in (("mse", metrics.mse), ("psnr", metrics.psnr), ("ssim", metrics.ssim))}
        found["psnr"] = jnp.minimum(found["psnr"], EXACT)
        values = {name: jnp.sum(jnp.where(batch["mask"], value, 0)) for name, value in found.items()}
        return values, {level: _histograms(output.indices, _codes(model, level), batch["mask"])
                        for level, output in levels.items()}

    totals = None
    for batch in data.evaluation_batches(dataset, batch_size):
        batch = {"image": batch["image"], "mask": batch["mask"]}
        found = jax.device_get(measure(variables, batch))
        totals = found if totals is None else jax.tree.map(np.add, totals, found)
    values, histograms = totals
    result = {name: float(value) / len(dataset) for name, value in values.items()}
    bits, entropy_bits, codes = 0.0, 0.0, {}
    for level, maps in histograms.items():
        for depth, histogram in enumerate(maps):
            name = (f"{level}_" if level else "") + (f"{depth}_" if len(maps) > 1 else "")
            found = usage_of(jnp.asarray(histogram))
            codes |= {f"{name}perplexity": float(found.perplexity), f"{name}used": float(found.used)}
            per_picture = histogram.sum() / len(dataset)
            bits += per_picture * math.log2(len(histogram))
            entropy_bits += per_picture * math.log2(codes[f"{name}perplexity"])
    pixels = math.prod(dataset.image_shape[:2])
    rates = {"bits_per_pixel": bits / pixels, "entropy_bits_per_pixel": entropy_bits / pixels}
    return {**result, **codes, **{name: float(rate) for name, rate in rates.items()}}


def reconstruction_pairs(model, variables: Variables, dataset: data.Dataset, count: int) -> tuple[np.ndarray, int]:
    """Rows of originals, each above the row of its reconstructions: [2 * count, H, W, C] uint8, and the columns.

    An even count makes two rows of originals, an odd one makes one.
    """
    images = dataset.take(np.linspace(0, len(dataset) - 1, count).astype(int))["image"]
    restored = np.asarray(data.to_uint8(jax.jit(model.reconstruct)(variables, data.to_float(images))))
    columns = count if count % 2 else count // 2
    rows = [(images[i : i + columns], restored[i : i + columns]) for i in range(0, count, columns)]
    return np.concatenate([part for pair in rows for part in pair]), columns


def _codes(model, level: str) -> int:
    return model.num_codes[level] if level else model.num_codes


def _histograms(indices, num_codes: int, mask):
    """[depth, num_codes]: how often each code occurs in the pictures that count; indices are [B, h, w, ...]."""
    indices = indices.reshape(*indices.shape[:3], -1)  # combinators add axes at the end
    weights = jnp.broadcast_to(mask[:, None, None], indices.shape[:3]).reshape(-1).astype(jnp.float32)
    flat = jnp.moveaxis(indices, -1, 0).reshape(indices.shape[-1], -1)
    return jax.vmap(lambda i: jnp.zeros(num_codes).at[i].add(weights))(flat)


def main(workdir: str, split: str | None, step: int | None, output: str | None) -> None:
    loaded, variables = load_run(workdir, step)
    dataset = load_split(loaded.config, split)
    result = {
        "step": loaded.step, "data": dataset.name, "split": dataset.split, "pictures": len(dataset),
        **evaluate_reconstruction(loaded.model, variables, dataset),
    }
    path = Path(output) if output else Path(workdir) / f"evaluation-{dataset.split}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result.items():
        print(f"{name:24} {value:.5g}" if isinstance(value, float) else f"{name:24} {value}")
    print(f"wrote {path}")


if __name__ == "__main__":
    WORKDIR = command_line.define_workdir("The directory of a trained run.")
    SPLIT = flags.DEFINE_string("split", None, "The split to measure on; the run's held-out split if not given.")
    STEP = flags.DEFINE_integer("step", None, "The checkpoint's step; the newest if not given.")
    OUTPUT = flags.DEFINE_string("output", None, "The JSON file; evaluation-SPLIT.json in the run if not given.")
    command_line.run(lambda: main(WORKDIR.value, SPLIT.value, STEP.value, OUTPUT.value))
