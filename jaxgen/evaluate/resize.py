"""The rules by which images are brought to the size of a feature network; each gives other distances.

A rule is linear in rows and in columns, so that it is two matrices, and runs inside a compiled function.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from jaxgen.core.checks import check_counts, choose

CUBIC = -0.5  # the slope of Pillow's bicubic filter at distance 1
CUBIC_REACH = 2.0  # pixels on each side


def resize(images: Num[Array, "B H W C"], size: tuple[int, int], rule: str) -> Float[Array, "B h w C"]:
    """Images of another size, in floating point and not rounded.

    Args:
        images: of values in [0, 255].
        size: (height, width) in pixels.
        rule: "tensorflow": bilinear as TensorFlow 1 had it, pixel i of the result at the place i H / h of the image,
            and no antialiasing: in the graph of the original FID, and in torch-fidelity. "pytorch": bilinear with
            pixels' centres at halves, no antialiasing, as pytorch-fid does. "clean": Pillow's bicubic, antialiased, in
            floating point for each channel by itself, as clean-fid does.

    Returns:
        float32 in [0, 255]; an image that has the size already comes out as it is.

    Raises:
        ValueError: an unknown rule, or a size that is none.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.evaluate.resize import resize
        >>> ramp = jnp.arange(0, 40, 10).reshape(1, 1, 4, 1)
        >>> [resize(ramp, (1, 2), rule).round().ravel().tolist() for rule in ("tensorflow", "pytorch", "clean")]
        [[0.0, 20.0], [5.0, 25.0], [6.0, 24.0]]

    Reference: Parmar et al., "On aliased resizing and surprising subtleties in GAN evaluation", 2022, arXiv:2104.11222
    """
    make = choose("rule", rule, RULES)
    size = check_counts("size", tuple(size), length=2)
    rows, columns = (make(length, wanted) for length, wanted in zip(images.shape[1:3], size))
    exact = {"precision": lax.Precision.HIGHEST}
    images = jnp.einsum("oh,bhwc->bowc", rows, images.astype(jnp.float32), **exact)
    return jnp.clip(jnp.einsum("pw,bowc->bopc", columns, images, **exact), 0.0, 255.0)


def _tensorflow(length: int, wanted: int) -> np.ndarray:
    # In float32 as there: in float64 some places fall on the other side of a whole number.
    return _bilinear(np.arange(wanted, dtype=np.float32) * np.float32(length / wanted), length)


def _pytorch(length: int, wanted: int) -> np.ndarray:
    # One multiplication and addition with one rounding to float32, as processors do it there.
    places = ((np.arange(wanted) + 0.5) * np.float64(np.float32(length / wanted)) - 0.5).astype(np.float32)
    return _bilinear(np.maximum(places, 0), length)


def _bilinear(places: np.ndarray, length: int) -> np.ndarray:
    """[wanted, length]: each row reads an image at a place, between two pixels."""
    below = np.minimum(np.floor(places).astype(int), length - 1)
    share = (places - below).astype(np.float32)
    result = np.zeros((len(places), length), np.float32)
    rows = np.arange(len(places))
    np.add.at(result, (rows, below), 1 - share)
    np.add.at(result, (rows, np.minimum(below + 1, length - 1)), share)
    return result


def _clean(length: int, wanted: int) -> np.ndarray:
    step = length / wanted
    wide = max(step, 1.0)  # on the way down the filter is stretched over the pixels that it stands for
    centres = (np.arange(wanted) + 0.5) * step
    first = np.maximum(np.trunc(centres - CUBIC_REACH * wide + 0.5), 0)
    end = np.minimum(np.trunc(centres + CUBIC_REACH * wide + 0.5), length)
    pixels = np.arange(length)
    weights = _cubic((pixels + 0.5 - centres[:, None]) / wide)
    weights = np.where((pixels >= first[:, None]) & (pixels < end[:, None]), weights, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys, "Cubic convolution interpolation for digital image processing", 1981."""
    x = np.abs(x)
    near = (CUBIC + 2) * x**3 - (CUBIC + 3) * x**2 + 1
    far = CUBIC * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, np.where(x < CUBIC_REACH, far, 0))


RULES: dict[str, Callable[[int, int], np.ndarray]] = {"tensorflow": _tensorflow, "pytorch": _pytorch, "clean": _clean}
