"""From a network to a denoiser `(x, sigma, cond) -> x0_hat`, the one interface at which everything meets."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.checks import check_batch, check_positive, choose, expand_to
from jaxgen.diffusion.contract import check_prediction
from jaxgen.diffusion.schedules.base import Schedule
from jaxgen.diffusion.schedules.conversions import ELSEWHERE, to_pair

Denoiser = Callable[[Array, Array, Any], Array]
"""(x [B, ...] = x0 + sigma eps, sigma [] or [B], cond) -> x0_hat [B, ...], the posterior mean E[x0 | x]."""
Network = Callable[[Array, Array, Any], Array]
"""(xt [B, ...] as the schedule scales it, time [B], cond) -> a prediction [B, ...]."""

KINDS = {"eps": "eps", "x0": "x0", "v": "v", "flow": "velocity", "edm": None}
"""Kinds of networks, and what each predicts in the words of `conversions`; "edm" has coefficients of its own."""


def edm_coefficients(sigma: Float[Array, "*b"], sigma_data: float = 0.5) -> tuple[Array, Array, Array, Array]:
    """(c_skip, c_out, c_in, c_noise) of EDM, with sd = sigma_data:

    c_skip = sd² / (sigma² + sd²),  c_out = sigma sd / sqrt(sigma² + sd²),  c_in = 1 / sqrt(sigma² + sd²),
    c_noise = log(sigma) / 4.

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022,
    arXiv:2206.00364, table 1

    Example:
        >>> from jaxgen import diffusion
        >>> [round(float(c), 3) for c in diffusion.edm_coefficients(0.5)]
        [0.5, 0.354, 1.414, -0.173]
    """
    sigma = jnp.asarray(sigma)
    total = sigma**2 + sigma_data**2
    root = jnp.sqrt(total)
    c_noise = jnp.log(jnp.maximum(sigma, jnp.finfo(sigma.dtype).tiny)) / 4
    return sigma_data**2 / total, sigma * sigma_data / root, 1 / root, c_noise


def precondition(
    apply: Network,
    *,
    kind: str,
    schedule: Schedule | None = None,
    sigma_data: float = 0.5,
    time: Callable[[Array], Array] | None = None,
) -> Denoiser:
    """A denoiser in the variance-exploding variable from a network of any kind.

        x0_hat(x, sigma) = x0 of the pair (conversions) at xt = alpha x, with (alpha, alpha sigma) of the schedule
        x0_hat(x, sigma) = c_skip x + c_out F(c_in x, c_noise)                                    for kind "edm"

    Args:
        apply: `(xt [B, ...], time [B], cond) -> prediction [B, ...]`, parameters bound.
        kind: "eps", "x0", "v", "flow" (the network predicts the velocity eps - x0) or "edm".
        schedule: the schedule that the network was trained on; "edm" needs none.
        sigma_data: std of the data, for "edm".
        time: what the network is conditioned on, as a function of sigma [B]; by default the schedule's
            `network_time`: the table index of a discrete schedule, the share of noise of a flow,
            log(sigma) / 4 for "edm".

    Returns:
        A `Denoiser`; x0_hat is float32 (or wider) whatever the network computes in.

    Raises:
        ValueError: an unknown kind, no schedule where one is needed, or "eps" with zero terminal SNR, where
            a perfect prediction of the noise says nothing about x0. The denoiser: x that is no batch of floating-point
            numbers, sigma of another shape, or a network whose result is no array of x's shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> network = lambda xt, time, cond: jnp.zeros_like(xt)  # predicts no noise
        >>> denoiser = diffusion.precondition(network, kind="eps", schedule=diffusion.cosine())
        >>> [round(value, 3) for value in denoiser(jnp.ones((1, 2)), 0.5, None)[0].tolist()]
        [1.0, 1.0]
    """
    predicted = choose("kind", kind, KINDS, elsewhere=ELSEWHERE)
    if kind == "edm":
        check_positive("sigma_data", sigma_data)
    elif schedule is None:
        raise ValueError(f"kind {kind!r} needs the schedule that the network was trained on; schedule is None")
    elif kind == "eps" and schedule.zero_terminal_snr:
        raise ValueError(
            "kind 'eps' cannot be used with a schedule of zero terminal SNR: at its end xt is the noise itself and "
            "x0 = (xt - sigma eps) / alpha is 0 / 0. Predict 'v', 'x0' or 'flow', or keep some signal at the end"
        )

    def denoise(x: Array, sigma: Array, cond: Any = None) -> Array:
        check_batch("x", x)
        wide = jnp.promote_types(jnp.result_type(x), jnp.float32)
        x, sigma = jnp.asarray(x, wide), jnp.asarray(sigma, wide)
        expand_to(sigma, x, name="sigma")
        levels = jnp.broadcast_to(sigma, x.shape[:1])

        def network(xt: Array, condition: Array) -> Array:
            prediction = apply(xt, condition, cond)
            check_prediction(prediction, x, "the network", f"a prediction of kind {kind!r}")
            return prediction.astype(wide)

        if kind == "edm":
            c_skip, c_out, c_in, c_noise = edm_coefficients(sigma, sigma_data)
            c_skip, c_out, c_in = (expand_to(c, x, name="sigma") for c in (c_skip, c_out, c_in))
            condition = jnp.broadcast_to(c_noise, x.shape[:1]) if time is None else time(levels)
            return c_skip * x + c_out * network(c_in * x, condition)
        condition = schedule.network_time(schedule.time(levels)) if time is None else time(levels)
        alpha, noise = schedule.coefficients(sigma)
        xt = expand_to(alpha, x, name="sigma") * x
        prediction = network(xt, condition)
        return to_pair(prediction, xt, alpha, noise, kind=predicted)[0]

    return denoise
