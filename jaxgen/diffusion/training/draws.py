"""Which times or noise levels to train on; every function draws [B] values from a key.

Each raises ValueError for what is no key, and for a setting out of its bounds.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_count, check_finite, check_key, check_positive


def uniform_times(key: PRNGKeyArray, batch: int, *, end: float = 1.0) -> Float[Array, "B"]:
    """t ~ U[0, end), independent."""
    check_key(key)
    check_positive("end", end)
    return end * jax.random.uniform(key, (batch,))


def stratified_times(key: PRNGKeyArray, batch: int, *, end: float = 1.0) -> Float[Array, "B"]:
    """t_i = end ((i / B + u) mod 1), one u ~ U[0, 1): each is uniform, together they cover [0, end) evenly.

    The loss of a batch then varies less. Kingma et al., "Variational diffusion models" (2021), appendix I.1.
    """
    check_key(key)
    check_positive("end", end)
    return end * ((jax.random.uniform(key, ()) + jnp.arange(batch) / batch) % 1.0)


def uniform_steps(key: PRNGKeyArray, batch: int, steps: int) -> Int[Array, "B"]:
    """Indices of a discrete schedule, uniform over 0 .. steps - 1."""
    check_key(key)
    return jax.random.randint(key, (batch,), 0, check_count("steps", steps))


def log_normal_sigmas(
    key: PRNGKeyArray, batch: int, *, mean: float = -1.2, std: float = 1.2
) -> Float[Array, "B"]:
    """log sigma ~ N(mean, std²): noise levels, not times. Karras et al. (2022), P_mean and P_std."""
    check_key(key)
    check_finite("mean", mean)
    check_positive("std", std)
    return jnp.exp(mean + std * jax.random.normal(key, (batch,)))


def logit_normal_times(
    key: PRNGKeyArray, batch: int, *, mean: float = 0.0, std: float = 1.0, end: float = 1.0
) -> Float[Array, "B"]:
    """logit(t / end) ~ N(mean, std²): most often in the middle. Esser et al. (2024), section 3.1."""
    check_key(key)
    check_finite("mean", mean)
    check_positive("std", std)
    check_positive("end", end)
    return end * jax.nn.sigmoid(mean + std * jax.random.normal(key, (batch,)))
