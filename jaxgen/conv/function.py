"""Two-dimensional convolution, NHWC with an HWIO kernel, on arrays."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxgen.conv.primitive import Geometry, conv_p
from jaxgen.core.errors import unknown_name
from jaxgen.core.mapped import vary_like

PADDINGS = ("SAME", "VALID")

Padding = str | int | Sequence[int | tuple[int, int]]


def pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """One or two positive ints as (rows, columns)."""
    both = (value, value) if isinstance(value, int) else tuple(int(v) for v in value)
    if len(both) != 2 or min(both) < 1:
        raise ValueError(f"{name} must be a positive int or a pair of them, got {value!r}")
    return both


def explicit_padding(
    padding: Padding, size: tuple[int, int], window: tuple[int, int], strides: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The padding as ((top, bottom), (left, right)), where `window` is the dilated kernel size."""
    if isinstance(padding, str):
        if padding.upper() not in PADDINGS:
            raise unknown_name("padding", padding, PADDINGS)
        return tuple(lax.padtype_to_pads(size, window, strides, padding.upper()))
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    pairs = tuple((p, p) if isinstance(p, int) else tuple(int(v) for v in p) for p in padding)
    if len(pairs) != 2 or any(len(p) != 2 for p in pairs):
        raise ValueError(f"padding must be 'SAME', 'VALID', an int or two (before, after) pairs, got {padding!r}")
    return pairs


def conv(
    x: Float[Array, "B H W Cin"],
    kernel: Float[Array, "kh kw Cin Cout"],
    *,
    strides: int | Sequence[int] = (1, 1),
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
) -> Float[Array, "B h w Cout"]:
    """Two-dimensional cross-correlation.

    y[b, i, j, o] = sum_{u, v, c} x[b, i*s + u*d - top, j*s + v*d - left, c] kernel[u, v, c, o]

    Args:
        x: images `[B, H, W, Cin]`.
        kernel: `[kh, kw, Cin, Cout]`.
        strides: step of the window, in pixels.
        padding: "SAME", "VALID", an int, or ((top, bottom), (left, right)) in pixels.
        dilation: distance between the kernel's taps, in pixels.

    Returns:
        `[B, h, w, Cout]`.

    Raises:
        ValueError: ranks or channel counts do not fit, or an unknown padding.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.conv import conv
        >>> conv(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 8)), strides=2).shape
        (1, 2, 2, 8)
    """
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(f"conv needs x [B, H, W, Cin] and kernel [kh, kw, Cin, Cout], got {x.shape}, {kernel.shape}")
    if x.shape[3] != kernel.shape[2]:
        raise ValueError(f"x {x.shape} has {x.shape[3]} channels, but kernel {kernel.shape} takes {kernel.shape[2]}")
    strides, dilation = pair("strides", strides), pair("dilation", dilation)
    window = tuple((k - 1) * d + 1 for k, d in zip(kernel.shape[:2], dilation))
    pads = explicit_padding(padding, x.shape[1:3], window, strides)
    return _bind(x, kernel, Geometry(x.shape[1:3], kernel.shape[:2], strides, pads, (1, 1), dilation))


def _bind(x: Array, kernel: Array, geometry: Geometry) -> Array:
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    # Inside shard_map both must vary over the same mesh axes, so that a shared kernel's gradient is summed.
    return conv_p.bind(vary_like(x, kernel), vary_like(kernel, x), geometry=geometry)
