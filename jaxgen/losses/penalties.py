"""Regularisers of discriminators: gradient penalties, and LeCam's with its state."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.diffusion.checks import sample_keys
from jaxgen.losses.adversarial import per_example

Discriminator = Callable[[Array], Array]
"""images [B, H, W, C] -> logits [B, ...], each example by itself; parameters bound."""


def _input_gradient(discriminator: Discriminator, images: Array) -> Array:
    """[B, H, W, C] the gradient of each example's mean logit in its own pixels."""
    return jax.grad(lambda x: jnp.sum(per_example(discriminator(x))))(images)


def _square(gradient: Array) -> Array:
    """[B] the sum of squares, in float32 or wider."""
    return jnp.sum(jnp.square(gradient.astype(jnp.promote_types(gradient.dtype, jnp.float32))), axis=(1, 2, 3))


def r1(discriminator: Discriminator, real: Float[Array, "B H W C"]) -> Float[Array, "B"]:
    """|grad_x D(x)|², summed over pixels, at real pictures. Mescheder, Geiger & Nowozin (2018).

    The usual loss has gamma / 2 times its mean.
    """
    return _square(_input_gradient(discriminator, real))


def lazy(step: Int[Array, ""], every: int, penalty: Callable[[], Float[Array, "B"]]) -> Float[Array, "B"]:
    """every * penalty() at each `every`-th step and 0 between, without computing it there. Karras et al. (2020).

    Args:
        step: updates done so far; traced.
        every: 16 in the paper.
        penalty: called without arguments, for example `lambda: r1(discriminator, real)`.

    Raises:
        ValueError: `every` is below 1.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")

    def nothing():
        zeros = jnp.zeros(shape.shape, shape.dtype)
        # Under shard_map both branches must say that they differ between devices.
        axes = tuple(getattr(shape.manual_axis_type, "varying", ()))
        return jax.lax.pcast(zeros, axes, to="varying") if axes else zeros

    shape = jax.eval_shape(penalty)
    return jax.lax.cond(step % every == 0, lambda: every * penalty(), nothing)


def gradient_penalty(
    key: Array, discriminator: Discriminator, real: Float[Array, "B H W C"], fake: Float[Array, "B H W C"], *,
    target: float = 1.0, sample_ids: Int[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """(|grad_x D(x)| - target)² at x = u real + (1 - u) fake, one u ~ U[0, 1) per example. Gulrajani et al. (2017).

    Args:
        key: example i draws from fold_in(key, i).
        discriminator: see this module.
        real, fake: pictures.
        target: 1, which bounds the slope; 0 is a penalty on its size.
        sample_ids: [B] places in the global batch, so that many devices draw what one does; 0 .. B - 1 by default.
    """
    keys = sample_keys(key, sample_ids, real.shape[0])
    share = jax.vmap(lambda k: jax.random.uniform(k, (1, 1, 1), real.dtype))(keys)
    squares = _square(_input_gradient(discriminator, share * real + (1 - share) * fake))
    # The root has an infinite slope at 0, where a discriminator that starts at zero is.
    norm = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return (norm - target) ** 2


class LecamState(NamedTuple):
    """Moving averages of a discriminator's logits; part of the training state, or a resumed run is another one."""

    real: Float[Array, ""]
    fake: Float[Array, ""]


def lecam_init() -> LecamState:
    """Averages of 0."""
    return LecamState(jnp.zeros(()), jnp.zeros(()))


def lecam(
    state: LecamState, real_logits: Float[Array, "B ..."], fake_logits: Float[Array, "B ..."], *, decay: float = 0.999,
    axis_name: str | None = None,
) -> tuple[Float[Array, "B"], LecamState]:
    """(relu(D(x) - ema_fake)² + relu(ema_real - D(G))² [B], the state), with the averages of this step.

    Tseng et al., "Regularizing generative adversarial networks under limited data" (2021).

    Args:
        state: the averages before this step.
        real_logits, fake_logits: of this step.
        decay: of the averages.
        axis_name: the mapped axis of devices, over which the averages are one.
    """
    means = [jnp.mean(per_example(jax.lax.stop_gradient(logits))) for logits in (real_logits, fake_logits)]
    if axis_name is not None:
        means = jax.lax.pmean(means, axis_name)
    state = LecamState(*(decay * old + (1 - decay) * new for old, new in zip(state, means)))
    real = per_example(jax.nn.relu(real_logits - state.fake) ** 2)
    return real + per_example(jax.nn.relu(state.real - fake_logits) ** 2), state
