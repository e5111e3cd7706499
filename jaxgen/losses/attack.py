"""Inputs changed a little so that a loss grows much: projected gradient ascent.

Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018, arXiv:1706.06083
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.core.checks import check_alike, check_count, check_not_negative
from jaxgen.core.keys import sample_keys
from jaxgen.core.mapped import types_after, vary_like


def pgd(
    key: Array | None, loss: Callable[[Array], Float[Array, "B"]], x: Float[Array, "B ..."], *,
    epsilon: float | Float[Array, ""], steps: int = 1, step_size: float | Float[Array, ""] | None = None,
    low: float = -1.0, high: float = 1.0, sample_ids: Int[Array, "B"] | None = None,
) -> Float[Array, "B ..."]:
    """x' with |x' - x| <= epsilon in every entry, in [low, high], that makes the loss large.

        x_0 = x + U(-epsilon, epsilon),   x_{k+1} = P(x_k + step_size sign(grad loss(x_k)))

    P clips to [low, high] and then to the ball around x. Each example is attacked by itself, so that neither the batch
    nor the devices change what becomes of it.

    Args:
        key: of the random start, of which example i draws from fold_in(key, i); None starts at x itself, where a
            distance to what comes of x has no gradient.
        loss: `x [B, ...] -> [B]`, each example's from that example only. Where it closes over parameters that are
            being differentiated, close over `jax.lax.stop_gradient` of them.
        x: floating point.
        epsilon: half the side of the ball, in units of x: of images in [-1, 1], 2/255 is one byte.
        steps: gradients taken; 1 is the fast gradient sign method from a random start.
        step_size: None for 2.5 epsilon / steps, the paper's.
        low, high: the range of x.
        sample_ids: [B] positions in the global batch, so that many devices draw what one does; 0 .. B - 1 by default.

    Returns:
        x', in the dtype of x and a constant for gradients. An example whose gradient is NaN is NaN.

    Raises:
        ValueError: `x` is no floating-point [B, ...], `epsilon` or `step_size` is below 0 or infinite, `steps` is below
            1, or the loss is not [B].

    Reference: Madry et al. 2018, arXiv:1706.06083; one step from a random start: Wong, Rice & Kolter, "Fast is better
    than free", 2020, arXiv:2001.03994

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import pgd
        >>> weights = jnp.array([[1.0, -2.0, 0.5]])
        >>> pgd(None, lambda x: (x * weights).sum(axis=1), jnp.zeros((1, 3)), epsilon=0.25).tolist()
        [[0.25, -0.25, 0.25]]
    """
    check_alike(x=x)
    check_not_negative("epsilon", epsilon)
    steps = check_count("steps", steps)
    if step_size is None:
        step_size = 2.5 * epsilon / steps
    check_not_negative("step_size", step_size)
    x = jax.lax.stop_gradient(jnp.asarray(x))

    def total(x):
        values = loss(x)
        if jnp.shape(values) != x.shape[:1]:
            raise ValueError(f"loss must give one number per example, shape {x.shape[:1]}, got {jnp.shape(values)}")
        return jnp.sum(values)

    # Under shard_map the gradient in an x that all devices share would be a sum over their losses.
    x = vary_like(x, types_after(total, x))
    epsilon, step_size = (jnp.asarray(value, x.dtype) for value in (epsilon, step_size))
    smallest, largest = x - epsilon, x + epsilon

    def project(x):
        return jnp.clip(jnp.clip(x, low, high), smallest, largest)

    def ascend(_, x):
        return project(x + step_size * jnp.sign(jax.grad(total)(x)))

    start = x
    if key is not None:
        keys = sample_keys(key, sample_ids, x.shape[0])
        start = project(x + epsilon * jax.vmap(lambda k: jax.random.uniform(k, x.shape[1:], x.dtype, -1, 1))(keys))
    return jax.lax.stop_gradient(jax.lax.fori_loop(0, steps, ascend, start))
