"""Group normalisation that reads its input few times: flax's parameters and results, less time on CPU.

Sums run over positions first, which leaves one number per channel and vectorises; only then do the channels of a group
meet. In flax's layout [B, H, W, groups, C / groups] the compiler sums over an innermost dimension of two or four.

Milliseconds of CPU time on one core for `swish(norm(x))` in 32 groups, float32, least of 25 alternated runs:

| shape | forward, flax | here | forward + gradients, flax | here |
|---|---|---|---|---|
| [32,32,32,64] | 14.0 | 3.1 | 21.0 | 8.0 |
| [32,16,16,128] | 5.0 | 1.6 | 6.9 | 3.6 |

The variance is the mean of squared differences from the mean. flax's default, E[x^2] - E[x]^2, is one pass less and
loses all digits where the mean is thousands of times the std.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jaxgen.core.errors import unknown_name

NORMS = ("group", "none")


def _average(sums: Array, groups: int, count: int) -> Array:
    """Per-channel sums [B, C] to the mean over each group and its `count` values, repeated per channel [B, C]."""
    return jnp.repeat(sums.reshape(sums.shape[0], groups, -1).sum(-1) / count, sums.shape[1] // groups, axis=1)


def _averaging(channels: int, groups: int, count: int, dtype: Any) -> Array:
    """`_average` as a matrix [C, C], with which the compiler does not merge a product into the loop over pixels.

    Merged, each pixel's channel would be divided by the group's size to find its mean.
    """
    group = lax.div(lax.iota(jnp.int32, channels), jnp.int32(channels // groups))
    return (group[:, None] == group).astype(dtype) / count


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _moments(x: Array, groups: int) -> tuple[Array, Array]:
    """Mean and variance of each group, repeated per channel: [B, N, C] to twice [B, C]."""
    averaging = _averaging(x.shape[2], groups, x.shape[1] * x.shape[2] // groups, x.dtype)
    mean = jnp.dot(x.sum(1), averaging, precision=lax.Precision.HIGHEST)
    squares = jnp.square(x - mean[:, None]).sum(1)
    return mean, jnp.dot(squares, averaging, precision=lax.Precision.HIGHEST)


@_moments.defjvp
def _moments_jvp(groups, primals, tangents):
    # The derivative of the variance has no term for the mean: that sum is zero, and costs a pass to find out.
    (x,), (dx,) = primals, tangents
    count = x.shape[1] * x.shape[2] // groups
    mean, variance = _moments(x, groups)
    d_variance = 2 * _average(((x - mean[:, None]) * dx).sum(1), groups, count)
    return (mean, variance), (_average(dx.sum(1), groups, count), d_variance)


@jax.custom_jvp
def _affine(x: Array, mean: Array, scale: Array, bias: Array) -> Array:
    """(x - mean) scale + bias with one mean, scale and bias per image and channel, [B, C]."""
    return (x - mean[:, None]) * scale[:, None] + bias[:, None]


@_affine.defjvp
def _affine_jvp(primals, tangents):
    # All that is constant over positions goes into one term, so that the transpose sums over them once.
    (x, mean, scale, bias), (dx, d_mean, d_scale, d_bias) = primals, tangents
    slope = dx * scale[:, None] + (x - mean[:, None]) * d_scale[:, None]
    return _affine(x, mean, scale, bias), slope + (d_bias - scale * d_mean)[:, None]


def group_norm(
    x: Float[Array, "B ... C"],
    scale: Float[Array, "C"],
    bias: Float[Array, "C"],
    *,
    groups: int,
    epsilon: float = 1e-6,
) -> Float[Array, "B ... C"]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over all positions and the channels of a group.

    Args:
        x: [B, ..., C]. Computed in float32, or wider if any argument is.
        scale: [C].
        bias: [C].
        groups: the number of groups of neighbouring channels.
        epsilon: added to the variance.

    Returns:
        [B, ..., C], in float32 or wider.

    Raises:
        ValueError: `groups` does not divide the channels.

    Wu & He, "Group normalization" (2018).
    """
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise ValueError(f"groups={groups} must divide the channel count {channels}")
    wide = jnp.promote_types(jnp.result_type(x, scale, bias), jnp.float32)
    flat, scale, bias = x.reshape(x.shape[0], -1, channels).astype(wide), scale.astype(wide), bias.astype(wide)
    mean, variance = _moments(flat, groups)
    bias = jnp.broadcast_to(bias, mean.shape)
    return _affine(flat, mean, lax.rsqrt(variance + epsilon) * scale, bias).reshape(x.shape)


class GroupNorm(nn.Module):
    """`group_norm` with the parameters of `flax.linen.GroupNorm`: "scale", ones, and "bias", zeros.

    Attributes:
        num_groups: at most so many groups; lowered to the greatest common divisor with the channel count.
        epsilon: added to the variance.
        dtype: dtype of the result; None takes the common one of input and parameters. Statistics are float32 or wider.
        param_dtype: dtype of the parameters.
    """

    num_groups: int = 32
    epsilon: float = 1e-6
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B ... C"]) -> Float[Array, "B ... C"]:
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],), self.param_dtype)
        y = group_norm(x, scale, bias, groups=math.gcd(self.num_groups, x.shape[-1]), epsilon=self.epsilon)
        return y.astype(self.dtype or jnp.result_type(x, scale, bias))


class Norm(nn.Module):
    """The norm that an argument `norm` names: `GroupNorm`, or the identity.

    Attributes:
        kind: "group" or "none".
        groups: at most so many groups, see `GroupNorm`.
        dtype: dtype of the result; None keeps the input's. Statistics are always float32.

    Raises:
        ValueError: an unknown kind.
    """

    kind: str = "group"
    groups: int = 32
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        if self.kind not in NORMS:
            raise unknown_name("norm", self.kind, NORMS)
        if self.kind == "none":
            return x
        return GroupNorm(self.groups, dtype=self.dtype, param_dtype=self.param_dtype, name="norm")(x)
