"""The weight of a GAN loss relative to a reconstruction loss, and its schedule."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.core.mapped import psum
from jaxgen.core.types import AxisName, PyTree


def adaptive_weight(
    nll_grad: PyTree, gan_grad: PyTree, max_weight: float = 1e4, *, axis_name: AxisName = None
) -> Float[Array, ""]:
    """clip(|grad nll| / (|grad gan| + 1e-4), 0, max_weight), without gradient.

    Args:
        nll_grad, gan_grad: gradients of the two mean losses in the kernel of the decoder's last layer.
        max_weight: the largest weight.
        axis_name: the mapped axis of devices, over which the gradients are averaged first: the norm of a mean is not
            the mean of norms, so a weight per device would differ from the weight of the whole batch.

    Reference: Esser, Rombach, Ommer, "Taming transformers for high-resolution image synthesis", 2021, arXiv:2012.09841,
    equation 7

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import adaptive_weight
        >>> round(float(adaptive_weight({"kernel": jnp.array([3.0, 4.0])}, {"kernel": jnp.array([0.0, 2.0])})), 3)
        2.5
    """
    count = psum(1, axis_name)

    def norm(tree):
        means = [psum(leaf.astype(jnp.float32), axis_name) / count for leaf in jax.tree.leaves(tree)]
        return jnp.sqrt(sum(jnp.sum(jnp.square(mean)) for mean in means))

    return jax.lax.stop_gradient(jnp.clip(norm(nll_grad) / (norm(gan_grad) + 1e-4), 0.0, max_weight))


def ramp(step: Int[Array, ""], start: int, length: int = 0) -> Float[Array, ""]:
    """0 before step `start`, then rising to 1 over `length` steps (immediately for 0).

    Example:
        >>> from jaxgen.losses import ramp
        >>> [float(ramp(step, 10, 3)) for step in (9, 10, 11, 13, 20)]
        [0.0, 0.25, 0.5, 1.0, 1.0]
    """
    progress = jnp.asarray(step, jnp.float32) - start
    return jnp.where(progress < 0, 0.0, jnp.clip((progress + 1) / (length + 1), 0.0, 1.0))
