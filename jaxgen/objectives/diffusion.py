"""The training objective of a conditional diffusion model, as one function of its parameters and a batch."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.keys import global_positions
from jaxgen.core.types import AxisName, PyTree, Variables
from jaxgen.diffusion import Weighting, denoising_loss
from jaxgen.objectives.batch import get_example
from jaxgen.objectives.conditions import Conditions, drop_conditions


def diffusion_loss(
    params: PyTree,
    state: PyTree,
    batch: Mapping[str, Array],
    key: Array,
    *,
    denoise: Callable,
    draw_sigmas: Callable[[Array, int], Float[Array, "B"]],
    weighting: Weighting,
    conditions: Conditions | None = None,
    train: bool = True,
    axis_name: AxisName = None,
    entry: str = "image",
) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
    """mean of w(sigma) |D(x0 + sigma eps, sigma, cond) - x0|², with the condition left out now and then.

    Levels, noise and drops of example i of the global batch depend on the key and on i, so that one device or eight
    under `axis_name` compute the same loss.

    Args:
        params: parameters, differentiated by the caller.
        state: returned as it is.
        batch: {"image": [B, ...] in [-1, 1], and what `conditions` name}.
        key: the step's key.
        denoise: `(params, x, sigma [B], cond, *, key) -> x0_hat`, as `jaxgen.models.DiffusionModel` has it; the key is
            for dropout.
        draw_sigmas: `(key, count) -> [count]` noise levels (`jaxgen.diffusion.log_normal_sigmas`, ...).
        weighting: w (`jaxgen.diffusion.edm_weighting()`, ...).
        conditions: what of the batch is the cond, and how often it is left out; None trains without.
        train: False measures the conditional model: without dropout and without leaving conditions out.
        axis_name: the mapped axis of devices, each of which holds a part of the batch.
        entry: which entry of the batch is the example.

    Returns:
        (loss [], (metrics, state)); the metrics have the loss of the lower and of the upper half of the noise levels
        of the global batch too.

    Raises:
        ValueError: the batch lacks an entry, its examples are whole numbers, or a setting is out of its bounds.
    """
    x0 = get_example(batch, entry)
    positions, total = global_positions(x0.shape[0], axis_name)
    level_key, noise_key, drop_key, dropout_key = jax.random.split(key, 4)
    levels = draw_sigmas(level_key, total)
    sigma = levels[positions]
    cond = drop_conditions(drop_key, batch, conditions, positions, total, train=train)

    def denoiser(x, sigma, cond):
        return denoise(params, x, sigma, cond, key=jax.random.fold_in(dropout_key, positions[0]) if train else None)

    losses = denoising_loss(noise_key, denoiser, x0, sigma, cond=cond, weighting=weighting,
                            sample_ids=positions)
    loss = jnp.mean(losses)
    metrics, middle = {"loss": loss}, jnp.median(levels)
    for name, inside in (("loss_low_noise", jnp.less_equal), ("loss_high_noise", jnp.greater_equal)):
        # Devices average what they return: each gives its part of the sum over the global batch's half.
        share = jnp.where(inside(sigma, middle), losses, 0) * total / jnp.sum(inside(levels, middle))
        metrics[name] = jnp.mean(share)
    return loss, (metrics, state)


def latent_diffusion_loss(
    params: PyTree, state: PyTree, batch: Mapping[str, Array], key: Array, *, to_latents: Callable,
    axis_name: AxisName = None, entry: str = "image", **options: Any,
) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
    """`diffusion_loss` of the latents of a batch, through which no gradient goes.

    Args:
        params, batch, key, axis_name, entry: see `diffusion_loss`.
        state: what `to_latents` needs; returned as it is.
        to_latents: `(Variables, x [B, ...], *, key, sample_ids [B]) -> z [B, ...]`, as
            `jaxgen.models.LatentDiffusion` has it; draws of a posterior follow the places in the global batch.
        options: the other arguments of `diffusion_loss`.

    Returns:
        (loss [], (metrics, state)), see `diffusion_loss`.

    Raises:
        ValueError: see `diffusion_loss`.
    """
    x = get_example(batch, entry)
    latent_key, loss_key = jax.random.split(key)
    positions, _ = global_positions(x.shape[0], axis_name)
    z = to_latents(Variables(params, state), x, key=latent_key, sample_ids=positions)
    z = jax.lax.stop_gradient(z)
    return diffusion_loss(params, state, {**batch, entry: z}, loss_key, axis_name=axis_name, entry=entry, **options)
