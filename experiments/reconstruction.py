"""An autoencoder on held-out pictures: its reconstructions, and the use of its codes."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.runs import spread
from jaxgen import data, losses, metrics, show
from jaxgen.core.cpu import compiler_options
from jaxgen.core.errors import unknown_name
from jaxgen.core.types import Variables
from jaxgen.interop import load_lpips
from jaxgen.losses import Gaussian, LpipsParams
from jaxgen.quantize import usage, usage_of

EXACT = 100.0  # dB
SHOWN = 16  # held-out pictures in the image log
LOSSES = {"l1": losses.l1, "l2": losses.l2, "huber": losses.huber}
SMALLEST = 32  # pixels along a side of a picture that LPIPS makes sense of


def find_lpips(path: str | Path | None, net: str, image_shape: Sequence[int]) -> LpipsParams | None:
    """LPIPS's parameters for pictures that it makes sense of.

    Args:
        path: see `jaxgen.interop.load_lpips`; None for its own place, where they need not be.
        net: "alex" or "vgg".
        image_shape: [H, W, C].

    Returns:
        None without a path where the pictures do not suit, or there are no weights; the latter prints one line.

    Raises:
        ValueError, FileNotFoundError: the given path cannot be read, or the pictures do not suit.
    """
    height, width, channels = image_shape
    if min(height, width) < SMALLEST or channels not in (1, 3):
        if path is None:
            return None
        raise ValueError(f"--lpips={path} needs grey or colour pictures of {SMALLEST}x{SMALLEST} at least, and these "
                         f"are {height}x{width}x{channels}: leave it out")
    try:
        return load_lpips(path, net=net)
    except FileNotFoundError as error:
        if path is not None:
            raise
        reason = str(error).partition(". ")[0]
        print(f"LPIPS is left out, {reason}: python -c \"import jaxgen.interop as i; i.load_lpips(net='{net}')\" says "
              "how to get them")
        return None


def find_reconstruction_loss(config: ConfigDict) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`(x, x_r) -> [B]`, the one that config.reconstruction names."""
    if config.reconstruction not in LOSSES:
        raise unknown_name("config.reconstruction", config.reconstruction, LOSSES)
    return LOSSES[config.reconstruction]


class Reconstructor:
    """Measures and shows what a model makes of pictures; its two programs are compiled once for all calls.

    Pictures are rounded to bytes before they are compared, as a file would hold them.
    """

    def __init__(self, model, lpips: LpipsParams | None = None):
        self.model = model
        self.lpips = lpips
        self._reconstruct = jax.jit(model.reconstruct, compiler_options=compiler_options())
        self._measure = jax.jit(self._measure_batch, compiler_options=compiler_options())

    def pairs(self, variables: Variables, dataset: data.Dataset, count: int) -> tuple[np.ndarray, int]:
        """Rows of originals, each above the row of its reconstructions: [2 * count, H, W, C] float32, and the columns.

        An even count makes two rows of originals, an odd one makes one.
        """
        images = np.asarray(data.to_float(spread(dataset, count)["image"]))
        restored = np.asarray(self._reconstruct(variables, images), np.float32)
        columns = count if count % 2 else count // 2
        rows = [(images[i : i + columns], restored[i : i + columns]) for i in range(0, count, columns)]
        return np.concatenate([part for pair in rows for part in pair]), columns

    def measure(self, variables: Variables, dataset: data.Dataset, batch_size: int = 100) -> dict:
        """Metrics of the reconstructions and of the codes over a whole data set.

        Returns:
            "psnr" [dB], "ssim", "mse" (pictures in [0, 1]), "lpips" where its parameters were given; "bits_per_pixel"
            of the fixed-length indices and "entropy_bits_per_pixel" at the codes' measured entropy; for each index
            map (prefix "top_" and the like, and the level of a residual quantizer, where there are several)
            "perplexity" and "used", the share of its codes that occur. An autoencoder without codes has the first four.
        """
        totals = None
        for batch in data.evaluation_batches(dataset, min(batch_size, len(dataset))):
            batch = {name: batch[name] for name in ("image", "mask")}
            found = jax.device_get(self._measure(variables, self.lpips, batch))
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
        if not histograms:  # a KL autoencoder has no codes
            return result
        pixels = math.prod(dataset.image_shape[:2])
        rates = {"bits_per_pixel": bits / pixels, "entropy_bits_per_pixel": entropy_bits / pixels}
        return {**result, **codes, **{name: float(rate) for name, rate in rates.items()}}

    def _measure_batch(self, variables, lpips, batch):
        x = data.to_float(batch["image"])
        x_r, outputs, *_ = self.model.forward(variables, x)
        levels = {} if isinstance(outputs, Gaussian) else outputs if isinstance(outputs, Mapping) else {"": outputs}
        restored = data.to_uint8(x_r)
        found = {name: function(batch["image"], restored, value_range=(0, 255))
                 for name, function in (("mse", metrics.mse), ("psnr", metrics.psnr), ("ssim", metrics.ssim))}
        found["psnr"] = jnp.minimum(found["psnr"], EXACT)
        if lpips is not None:
            colour = (*x.shape[:3], 3)  # grey is repeated
            pair = (jnp.broadcast_to(data.to_float(image), colour) for image in (batch["image"], restored))
            found["lpips"] = metrics.lpips(lpips, *pair)
        # A byte cannot say that an image is not finite; its measures do.
        lost = jnp.where(jnp.isfinite(x_r).all(axis=(1, 2, 3)), 0, jnp.nan)
        values = {name: jnp.sum(jnp.where(batch["mask"], value + lost, 0)) for name, value in found.items()}
        return values, {level: _histograms(output.indices, _codes(self.model, level), batch["mask"])
                        for level, output in levels.items()}


def make_evaluate(
    model, held_out: data.Dataset
) -> Callable[[show.Logger, Variables, int], Mapping[str, float]]:
    """`evaluate(logger, variables, step) -> metrics` for `train_model`; some reconstructions go to the logger."""
    reconstructor = Reconstructor(model)

    def evaluate(logger, variables, step):
        pairs, columns = reconstructor.pairs(variables, held_out, min(SHOWN, len(held_out)))
        logger.images(step, "reconstructions", pairs, columns=columns, scale=2)
        return reconstructor.measure(variables, held_out)

    return evaluate


def _codes(model, level: str) -> int:
    return model.num_codes[level] if level else model.num_codes


def _histograms(indices, num_codes: int, mask):
    """[depth, num_codes]: how often each code occurs in the pictures that count; indices are [B, h, w, ...]."""
    indices = indices.reshape(*indices.shape[:3], -1)  # combinators add axes at the end
    valid = jnp.broadcast_to(mask[:, None, None], indices.shape[:3])
    return usage(indices, num_codes, levels=1, valid=valid).histogram
