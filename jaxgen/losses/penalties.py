"""Regularisers of discriminators: gradient penalties, and LeCam with its state."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.core.checks import check_alike, check_count
from jaxgen.core.keys import sample_keys
from jaxgen.core.mapped import psum, types_after, vary_like
from jaxgen.core.types import AxisName, PyTree
from jaxgen.losses.adversarial import check_same_batch, per_example, wide

Discriminator = Callable[[Array], Array]
"""x [B, ...], images or data of any other shape -> logits [B, ...], each example by itself; parameters bound."""


def _squared_slope(discriminator: Discriminator, x: Array) -> Array:
    """[B] the squared norm of the gradient of each example's mean logit in its own entries, in float32 or wider."""

    def total(x):
        return jnp.sum(per_example(discriminator(x)))

    # Under shard_map the gradient in an x that all devices share would be a sum over their discriminators.
    gradient = jax.grad(total)(vary_like(x, types_after(total, x)))
    gradient = gradient.astype(jnp.promote_types(gradient.dtype, jnp.float32))
    return jnp.sum(jnp.square(gradient.reshape(gradient.shape[0], -1)), axis=1)


def r1(discriminator: Discriminator, real: Float[Array, "B ..."]) -> Float[Array, "B"]:
    """|grad_x D(x)|² at real examples, summed over all entries of an example.

    The usual loss has gamma / 2 times its mean.

    Args:
        discriminator: see this module.
        real: images, volumes, signals, ...

    Returns:
        [B] float32, or wider where the data are.

    Raises:
        ValueError: `real` holds bytes or other whole numbers.

    Reference: Mescheder, Geiger, Nowozin, "Which training methods for GANs do actually converge?", 2018,
    arXiv:1801.04406

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import r1
        >>> r1(lambda x: 3 * x[..., :1], jnp.ones((2, 4))).tolist()
        [9.0, 9.0]
    """
    check_alike(real=real)
    return _squared_slope(discriminator, real)


def lazy(step: Int[Array, ""], every: int, penalty: Callable[[], Float[Array, "B"]]) -> Float[Array, "B"]:
    """every * penalty() at each `every`-th step, and 0 at the others, where it is not computed.

    Args:
        step: updates done so far; traced.
        every: 16 in the paper.
        penalty: called without arguments, for example `lambda: r1(discriminator, real)`.

    Raises:
        ValueError: `every` is no integer of at least 1.

    Reference: Karras et al., "Analyzing and improving the image quality of StyleGAN", 2020, arXiv:1912.04958

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import lazy
        >>> [lazy(step, 4, lambda: jnp.ones(2)).tolist() for step in (3, 4)]
        [[0.0, 0.0], [4.0, 4.0]]
    """
    every = check_count("every", every)
    return compute_if(step % every == 0, lambda: every * penalty())


def compute_if(condition: Array, function: Callable[[], PyTree]) -> PyTree:
    """`function()` where the condition holds, else zeros in its place, without computing it."""
    # Under shard_map both branches must vary over the same mesh axes, as these zeros do.
    shapes = jax.eval_shape(function)
    return jax.lax.cond(condition, function, lambda: jax.tree.map(jnp.zeros_like, shapes))


def gradient_penalty(
    key: Array, discriminator: Discriminator, real: Float[Array, "B ..."], fake: Float[Array, "B ..."], *,
    target: float = 1.0, sample_ids: Int[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """(|grad_x D(x)| - target)² at x = u real + (1 - u) fake, with one u ~ U[0, 1) per example.

    Args:
        key: example i draws from fold_in(key, i).
        discriminator: see this module.
        real, fake: examples of one shape: images, volumes, signals, ...
        target: 1, which bounds the slope; 0 is a penalty on its size.
        sample_ids: [B] positions in the global batch, so that many devices draw what one does; 0 .. B - 1 by default.

    Returns:
        [B] float32, or wider where the data are.

    Raises:
        ValueError: `real` and `fake` differ in shape, or hold bytes or other whole numbers.

    Reference: Gulrajani et al., "Improved training of Wasserstein GANs", 2017, arXiv:1704.00028

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import gradient_penalty
        >>> real, fake = jnp.ones((2, 4)), jnp.zeros((2, 4))
        >>> gradient_penalty(jax.random.key(0), lambda x: 3 * x[..., :1], real, fake).tolist()
        [4.0, 4.0]
    """
    check_alike(real=real, fake=fake)
    keys = sample_keys(key, sample_ids, real.shape[0])
    share = jax.vmap(lambda k: jax.random.uniform(k, (1,) * (real.ndim - 1), real.dtype))(keys)
    squares = _squared_slope(discriminator, share * real + (1 - share) * fake)
    # The root has an infinite slope at 0, where a discriminator that starts at zero is; NaN stays what it is.
    flat = squares == 0
    norm = jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, squares)))
    return (norm - target) ** 2


class LecamState(NamedTuple):
    """Moving averages of a discriminator's logits; part of the training state, so that a run can be resumed."""

    real: Float[Array, ""]
    fake: Float[Array, ""]


def lecam_init() -> LecamState:
    """Averages of 0, in float32."""
    return LecamState(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))


def lecam(
    state: LecamState, real_logits: Float[Array, "B ..."], fake_logits: Float[Array, "B ..."], *, decay: float = 0.999,
    axis_name: AxisName = None,
) -> tuple[Float[Array, "B"], LecamState]:
    """(relu(D(x) - ema_fake)² + relu(ema_real - D(G))² [B], the state), with the averages of this step.

    Args:
        state: the averages before this step.
        real_logits, fake_logits: of this step.
        decay: of the averages.
        axis_name: the mapped axis of devices, over which the averages are one.

    Returns:
        ([B] float32 or wider, the averages in their dtypes). An example whose logits are not finite
        shows in its own penalty and is left out of the averages.

    Raises:
        ValueError: logits that are whole numbers, or not of as many real as fake examples.

    Reference: Tseng et al., "Regularizing generative adversarial networks under limited data", 2021, arXiv:2104.03310

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import lecam, lecam_init
        >>> penalty, state = lecam(lecam_init(), jnp.ones((2, 4)), -jnp.ones((2, 4)), decay=0.5)
        >>> penalty.tolist(), float(state.real)
        ([4.5, 4.5], 0.5)
    """
    real_logits, fake_logits = wide("real_logits", real_logits), wide("fake_logits", fake_logits)
    check_same_batch(real_logits, fake_logits)
    state = LecamState(*(_moved(old, per_example(logits), decay, axis_name)
                         for old, logits in zip(state, (real_logits, fake_logits))))
    real = per_example(jax.nn.relu(real_logits - state.fake) ** 2)
    return real + per_example(jax.nn.relu(state.real - fake_logits) ** 2), state


def _moved(average: Array, values: Array, decay: float, axis_name: AxisName) -> Array:
    """The moving average after one more batch `values` [B], of which those that are not finite do not count."""
    values = jax.lax.stop_gradient(values)
    finite = jnp.isfinite(values)
    total, count = (psum(jnp.sum(x, dtype=values.dtype), axis_name) for x in (jnp.where(finite, values, 0), finite))
    mean = jnp.where(count > 0, total / jnp.maximum(count, 1), average)
    return (decay * average + (1 - decay) * mean).astype(average.dtype)
