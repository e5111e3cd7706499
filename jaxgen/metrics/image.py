"""Full-reference image metrics: one number per image, in float32.

`value_range` is the least and the greatest possible value: (-1, 1) by default, (0, 255) for bytes. Whole numbers, such
as bytes, are refused with the default range, which is not theirs. Images are scaled to [0, 1] first: SSIM is defined
with black at 0, and its luminance term depends on that.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from jaxgen.core.checks import check_count

SIGNED = (-1, 1)
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights of MS-SSIM, from the full size down


def _unit_pair(
    x: Array, y: Array, value_range: tuple[float, float], *, square: bool = False
) -> tuple[Array, Array]:
    if x.shape != y.shape or x.ndim < 2:
        raise ValueError(f"x and y must both be [B, ...], for images [B, H, W, C], of one shape, got {x.shape} and "
                         f"{y.shape}")
    low, high = value_range
    if not low < high:
        raise ValueError(f"value_range must be (least, greatest), got {value_range}")
    for argument, values in (("x", x), ("y", y)):
        if not jnp.issubdtype(values.dtype, jnp.floating) and (low, high) == SIGNED:
            raise ValueError(f"{argument} holds whole numbers ({values.dtype}), which do not lie in value_range="
                             f"{SIGNED}: pass value_range=(0, 255) for bytes, or convert with jaxgen.data.to_float")
    if square and x.ndim != 4:
        raise ValueError(f"x and y must be [B, H, W, C], got {x.shape}: a window is a square of an image")
    return (x.astype(jnp.float32) - low) / (high - low), (y.astype(jnp.float32) - low) / (high - low)


def mse(
    x: Num[Array, "B ..."], y: Num[Array, "B ..."], *, value_range: tuple[float, float] = SIGNED
) -> Float[Array, "B"]:
    """mean (x - y)² of images, or of videos, volumes, ..., scaled to [0, 1].

    Args:
        x: images [B, H, W, C], or any [B, ...].
        y: images, same shape.
        value_range: least and greatest possible value.

    Returns:
        [B] float32.

    Raises:
        ValueError: the shapes differ, `value_range` is empty, or whole numbers without a `value_range` of their own.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.metrics import mse
        >>> mse(jnp.zeros((2, 8, 8, 3)), jnp.ones((2, 8, 8, 3))).tolist()
        [0.25, 0.25]
    """
    x, y = _unit_pair(x, y, value_range)
    return jnp.mean(jnp.square(x - y), axis=tuple(range(1, x.ndim)))


def psnr(
    x: Num[Array, "B ..."], y: Num[Array, "B ..."], *, value_range: tuple[float, float] = SIGNED
) -> Float[Array, "B"]:
    """Peak signal-to-noise ratio -10 log10(mse), in decibels; infinite for equal images.

    Arguments and errors are those of `mse`. The value of a set is the mean over images, as is usual; it is not the
    PSNR of the set's mean squared error, which is lower.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.metrics import psnr
        >>> [decibels] = psnr(jnp.full((1, 8, 8), 255), jnp.zeros((1, 8, 8), int), value_range=(0, 255)).tolist()
        >>> abs(round(decibels, 3))
        0.0
    """
    return -10 * jnp.log10(mse(x, y, value_range=value_range))


def ssim(
    x: Num[Array, "B H W C"],
    y: Num[Array, "B H W C"],
    *,
    value_range: tuple[float, float] = SIGNED,
    window: int = 11,
    sigma: float = 1.5,
) -> Float[Array, "B"]:
    """Structural similarity.

        (2 mx my + c1)(2 sxy + c2) / ((mx² + my² + c1)(sx² + sy² + c2)),      c1 = .01², c2 = .03²

    of images in [0, 1], with local moments under a Gaussian window; the mean over channels and over the positions where
    the whole window lies inside the image.

    Args:
        x: images [B, H, W, C].
        y: images, same shape.
        value_range: least and greatest possible value.
        window: side of the window in pixels.
        sigma: the Gaussian's std in pixels.

    Returns:
        [B] float32, 1 for equal images.

    Raises:
        ValueError: the shapes differ or are not [B, H, W, C], an image is smaller than the window, `value_range` is
            empty, or whole numbers without a `value_range` of their own.

    Reference: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural
    similarity", 2004

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.metrics import ssim
        >>> ssim(jnp.ones((2, 16, 16, 1)), jnp.ones((2, 16, 16, 1))).round(3).tolist()
        [1.0, 1.0]
    """
    x, y = _unit_pair(x, y, value_range, square=True)
    window = check_count("window", window)
    if min(x.shape[1:3]) < window:
        height, width = x.shape[1:3]
        raise ValueError(f"window={window} is larger than the images ({height}x{width}); give a smaller one")
    luminance, structure = _similarity(x, y, window, sigma)
    return jnp.mean(luminance * structure, axis=(1, 2, 3))


def ms_ssim(
    x: Num[Array, "B H W C"],
    y: Num[Array, "B H W C"],
    *,
    value_range: tuple[float, float] = SIGNED,
    window: int = 11,
    sigma: float = 1.5,
) -> Float[Array, "B"]:
    """Structural similarity over five scales, each half as large as the one before.

        l_5^w_5 prod_j cs_j^w_j,      w = .0448, .2856, .3001, .2363, .1333

    with the second factor of `ssim` for cs, at the last scale the mean of both for l_5 cs_5; means over positions where
    the whole window lies inside the image, those below 0 counting as 0. A scale's pixels are means of 2x2 of the one
    before; of an odd side the last pixel is repeated. The mean over channels is taken last.

    Arguments and errors are those of `ssim`, but images must have 16 (window - 1) + 1 pixels a side at least, 161 for
    the default window. Where they are smaller, a smaller window gives another metric: say so with the value.

    Returns:
        [B] float32, 1 for equal images.

    Reference: Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment", 2003

    Example:
        >>> import jax
        >>> from jaxgen.metrics import ms_ssim
        >>> x = jax.numpy.ones((1, 161, 200, 1))
        >>> jax.jit(ms_ssim)(x, x).round(3).tolist()
        [1.0]
    """
    x, y = _unit_pair(x, y, value_range, square=True)
    window = check_count("window", window)
    smallest = (window - 1) * 2 ** (len(SCALES) - 1) + 1
    if min(x.shape[1:3]) < smallest:
        height, width = x.shape[1:3]
        raise ValueError(f"images of {height}x{width} are too small for {len(SCALES)} scales with window={window}: "
                         f"they must be {smallest}x{smallest} at least")
    total = 1.0
    for scale, weight in enumerate(SCALES):
        x, y = (_halved(x), _halved(y)) if scale else (x, y)
        luminance, structure = _similarity(x, y, window, sigma)
        term = luminance * structure if scale == len(SCALES) - 1 else structure
        total = total * jnp.maximum(jnp.mean(term, axis=(1, 2)), 0) ** weight
    return jnp.mean(total, axis=-1)


def _halved(x: Array) -> Array:
    """Means of 2x2 pixels."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def _similarity(x: Array, y: Array, window: int, sigma: float) -> tuple[Array, Array]:
    """The two factors of `ssim` at each position, [B, h, w, C]: of the means, and of variances and covariance."""
    offsets = jnp.arange(window, dtype=jnp.float32) - (window - 1) / 2
    weights = jnp.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= jnp.sum(weights)

    # All five as channels of one image: a fifth of the operations to compile.
    moments = jnp.concatenate([x, y, x * x, y * y, x * y], axis=-1)
    for axis in (1, 2):
        size = moments.shape[axis] - window + 1
        moments = sum(weights[i] * jax.lax.slice_in_dim(moments, i, i + size, axis=axis) for i in range(window))
    mean_x, mean_y, square_x, square_y, product = jnp.split(moments, 5, axis=-1)
    var_x, var_y = square_x - mean_x**2, square_y - mean_y**2
    covariance = product - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return luminance, structure
