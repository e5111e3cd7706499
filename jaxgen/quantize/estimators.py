"""Gradients through a quantizer: the forward value is the code, the derivative is chosen.

Straight-through (Bengio, Leonard and Courville 2013, arXiv:1308.3432):  dq/dz := I.

Rotation (Fifty et al. 2024, arXiv:2410.06424): with u = z/|z|, v = q/|q|, w = (u + v)/|u + v|,

    dq/dz := |q|/|z| R,    R = I - 2 w w' + 2 v u',

the rotation that takes z's direction to q's, so that the gradient keeps its angle to the vector it belongs to.

Both return `q` bit for bit: `z + stop_gradient(q - z)` would round.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgen.core.mapped import vary_like

Estimator = Callable[[Float[Array, "... D"], Float[Array, "... D"]], Float[Array, "... D"]]


def _forward(z: Float[Array, "... D"], q: Float[Array, "... D"]) -> Float[Array, "... D"]:
    if np.shape(z) != np.shape(q):
        raise ValueError(f"q must have z's shape {np.shape(z)}, a code for each vector, got {np.shape(q)}: "
                         "broadcast it, or quantize in another dimension with projected(quantizer, dim)")
    return vary_like(q, z)


@jax.custom_jvp
def straight_through(z: Float[Array, "... D"], q: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """`q`, with the gradient handed to `z` unchanged and none to `q`.

    dq/dz = I.

    Args:
        z: vectors `[..., D]`.
        q: their codes `[..., D]`.

    Returns:
        `q` exactly, `[..., D]`.

    Raises:
        ValueError: q of another shape than z.

    Reference: Bengio et al. 2013, arXiv:1308.3432; van den Oord et al. 2017, arXiv:1711.00937.

    Example:
        >>> z, q = jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0])
        >>> quantized, gradient = jax.vjp(lambda z: straight_through(z, q), z)
        >>> quantized.tolist(), gradient(jnp.array([3.0, 4.0]))[0].round().astype(int).tolist()
        ([0.0, 2.0], [3, 4])
    """
    return _forward(z, q)


@straight_through.defjvp
def _straight_through_jvp(primals, tangents):
    z, q = primals
    z_dot, _ = tangents
    return _forward(z, q), vary_like(z_dot.astype(q.dtype), q)


@jax.custom_jvp
def rotation(z: Float[Array, "... D"], q: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """`q`, with the gradient turned and scaled as `z` was to become `q`; none goes to `q`.

    dq/dz = |q|/|z| (I - 2 w w' + 2 v u'), u = z/|z|, v = q/|q|, w = (u + v)/|u + v|.
    Where u = -v the rotation is not unique; the reflection I - 2 u u', which is orthogonal and takes u to v, stands
    in. Where z or q is zero there is no angle, and the gradient passes straight through.

    Args:
        z: vectors `[..., D]`.
        q: their codes `[..., D]`.

    Returns:
        `q` exactly, `[..., D]`.

    Raises:
        ValueError: q of another shape than z.

    Reference: Fifty et al. 2024, "Restructuring Vector Quantization with the Rotation Trick", arXiv:2410.06424.

    Example:
        >>> z, q = jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0])
        >>> quantized, gradient = jax.vjp(lambda z: rotation(z, q), z)
        >>> quantized.tolist(), gradient(jnp.array([3.0, 4.0]))[0].round().astype(int).tolist()
        ([0.0, 2.0], [8, -6])
    """
    return _forward(z, q)


@rotation.defjvp
def _rotation_jvp(primals, tangents):
    z, q = primals
    z_dot = tangents[0].astype(jnp.float32)
    z32, q32 = (jax.lax.stop_gradient(x.astype(jnp.float32)) for x in (z, q))
    z_norm, q_norm = (jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (z32, q32))
    defined = (z_norm > 0) & (q_norm > 0)
    z_safe, q_safe = jnp.where(defined, z_norm, 1), jnp.where(defined, q_norm, 1)
    u, v = z32 / z_safe, q32 / q_safe
    middle = jnp.linalg.norm(u + v, axis=-1, keepdims=True)
    # Below this, rounding of u + v would turn w by more than the reflection that stands in is off.
    turns = middle > 1e-4
    w = jnp.where(turns, (u + v) / jnp.where(turns, middle, 1), 0)
    along_w, along_u = (jnp.sum(x * z_dot, axis=-1, keepdims=True) for x in (w, u))
    turned = q_safe / z_safe * (z_dot - 2 * w * along_w + 2 * v * along_u)
    return _forward(z, q), vary_like(jnp.where(defined, turned, z_dot).astype(q.dtype), q)


ESTIMATORS: dict[str, Estimator] = {"straight_through": straight_through, "rotation": rotation}
