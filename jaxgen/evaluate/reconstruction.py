"""A model on held-out examples: its reconstructions, and the use of its codes."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxgen import data, metrics
from jaxgen.core.types import Variables
from jaxgen.data import Dataset
from jaxgen.evaluate.base import BATCH, Batch, Evaluator, summed
from jaxgen.interop import load_lpips
from jaxgen.losses import LpipsParams
from jaxgen.models import Reconstructing
from jaxgen.quantize import usage, usage_of

EXACT = 100.0  # dB, of an image that comes back exactly
SMALLEST_LPIPS = 32  # pixels along a side of an image that LPIPS makes sense of
SMALLEST_SSIM = 11  # pixels: SSIM's window


def reconstruction(
    model: Reconstructing, *, lpips: LpipsParams | None = None, batch_size: int = BATCH, bar: bool = False
) -> Evaluator:
    """Reconstructions and the use of the codes.

    Images are rounded to bytes before they are compared, as a file holds them.

    Args:
        model: what reconstructs.
        lpips: its parameters, for "lpips".
        batch_size: images at a time.
        bar: shows progress on a terminal.

    Returns:
        An `Evaluator` of "psnr" [dB], "mse" (of values in [0, 1]), "ssim" of images of 11x11 pixels and more, "lpips"
        where its parameters were passed. Of a model with codes also "bits_per_pixel" of the fixed-length indices and
        "entropy_bits_per_pixel" at the codes' measured entropy, and for each index map (with the prefix "top_" and the
        like, and the level of a residual quantizer, where there are several) "perplexity" and "used", the share of its
        codes that occur.
    """

    def measure(variables: Variables, batch: Batch):
        x_r, outputs, *_ = model.forward(variables, batch["x"])
        maps = outputs if isinstance(outputs, Mapping) else {"": outputs}
        values = _compared(batch["example"], x_r, lpips)
        histograms = {name: _histograms(output.indices, _codes(model, name), batch["mask"])
                      for name, output in maps.items() if hasattr(output, "indices")}
        return values, histograms

    total = summed(measure, batch_size=batch_size, bar=bar)

    def evaluate(variables: Variables, dataset: Dataset) -> dict[str, float]:
        values, histograms = total(variables, dataset)
        result = {name: value / len(dataset) for name, value in values.items()}
        return result | _of_codes(histograms, len(dataset), math.prod(dataset.example_shape[:2]))

    return evaluate


def find_lpips(path: str | Path | None, net: str, example_shape: tuple[int, ...]) -> tuple[LpipsParams | None, str]:
    """LPIPS's parameters for images that it makes sense of, and why there are none.

    Args:
        path: see `jaxgen.interop.load_lpips`; None for its own place, where they need not be.
        net: "alex" or "vgg".
        example_shape: [H, W, C].

    Returns:
        (parameters, ""), or without a path (None, the reason).

    Raises:
        ValueError, FileNotFoundError: the given path cannot be read, or the images do not suit.
    """
    height, width, channels = example_shape
    if min(height, width) < SMALLEST_LPIPS or channels not in (1, 3):
        reason = (f"LPIPS is left out: it needs grey or colour images of {SMALLEST_LPIPS}x{SMALLEST_LPIPS} at least, "
                  f"and these are {height}x{width}x{channels}")
        if path is None:
            return None, reason
        raise ValueError(f"lpips={path}: leave it out. {reason}")
    try:
        return load_lpips(path, net=net), ""
    except FileNotFoundError as error:
        if path is not None:
            raise
        return None, (f"LPIPS is left out, {str(error).partition('. ')[0]}: python -c \"import jaxgen.interop as i; "
                      f"i.load_lpips(net='{net}')\" says how to get them")


def left_out(example_shape: tuple[int, ...]) -> list[str]:
    """What is not measured of examples of this shape, in words for a user, before anything is trained."""
    if min(example_shape[:2]) < SMALLEST_SSIM:
        return [f"SSIM is left out: its window has {SMALLEST_SSIM}x{SMALLEST_SSIM} pixels, and images have "
                f"{example_shape[0]}x{example_shape[1]}"]
    return []


def _compared(image: Array, x_r: Array, lpips: LpipsParams | None) -> dict[str, Array]:
    """{name: [B]} of bytes and what came back."""
    restored = data.to_uint8(x_r)
    functions = {"mse": metrics.mse, "psnr": metrics.psnr}
    if not left_out(image.shape[1:]):
        functions["ssim"] = metrics.ssim
    result = {name: function(image, restored, value_range=(0, 255)) for name, function in functions.items()}
    result["psnr"] = jnp.minimum(result["psnr"], EXACT)
    if lpips is not None:
        colour = (*image.shape[:3], 3)  # grey is repeated
        pair = (jnp.broadcast_to(data.to_float(one), colour) for one in (image, restored))
        result["lpips"] = metrics.lpips(lpips, *pair)
    # A byte cannot say that an image is not finite; its measures do.
    axes = tuple(range(1, x_r.ndim))
    lost = jnp.where(jnp.isfinite(x_r).all(axis=axes), 0, jnp.nan)
    return {name: value + lost for name, value in result.items()}


def _of_codes(histograms: Mapping[str, Any], count: int, pixels: int) -> dict[str, float]:
    bits, entropy_bits, codes = 0.0, 0.0, {}
    for level, maps in histograms.items():
        for depth, histogram in enumerate(maps):
            name = (f"{level}_" if level else "") + (f"{depth}_" if len(maps) > 1 else "")
            used = usage_of(jnp.asarray(histogram))
            codes |= {f"{name}perplexity": float(used.perplexity), f"{name}used": float(used.used)}
            per_image = histogram.sum() / count
            bits += per_image * math.log2(len(histogram))
            entropy_bits += per_image * math.log2(codes[f"{name}perplexity"])
    if not codes:
        return {}
    return codes | {"bits_per_pixel": float(bits / pixels), "entropy_bits_per_pixel": float(entropy_bits / pixels)}


def _codes(model: Reconstructing, level: str) -> int:
    return model.num_codes[level] if level else model.num_codes


def _histograms(indices: Array, num_codes: int, mask: Array) -> Array:
    """[depth, num_codes]: how often each code occurs in the images that count; indices are [B, h, w, ...]."""
    indices = indices.reshape(*indices.shape[:3], -1)  # combinators add axes at the end
    valid = jnp.broadcast_to(mask[:, None, None], indices.shape[:3])
    return usage(indices, num_codes, levels=1, valid=valid).histogram
