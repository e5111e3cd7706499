"""Weights w(sigma) of the one loss in x0 space, w(sigma) |x0_hat - x0|².

A squared error of any prediction is the squared error of x0_hat times a factor of sigma alone, with snr = 1 / sigma²:

    x0: 1        eps: snr        v: snr + 1 (variance-preserving)        flow: (1 + 1 / sigma)²

so that "train on eps" is a weight, not another loss. Each function returns a `Weighting`, sigma [B] -> w [B].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxgen.core.checks import check_finite, check_positive
from jaxgen.core.errors import unknown_name
from jaxgen.diffusion.schedules.conversions import ELSEWHERE

Weighting = Callable[[Array], Array]

FACTORS = {
    "x0": lambda sigma: jnp.ones_like(sigma),
    "eps": lambda sigma: sigma**-2,
    "v": lambda sigma: 1 + sigma**-2,
    "flow": lambda sigma: (1 + 1 / sigma) ** 2,
}


def uniform(kind: str = "eps") -> Weighting:
    """The plain squared error of a prediction of this kind: "x0", "eps" (DDPM's simple loss), "v" or "flow"."""
    if kind not in FACTORS:
        raise unknown_name("kind", kind, FACTORS, elsewhere=ELSEWHERE)
    return lambda sigma: FACTORS[kind](jnp.asarray(sigma))


def min_snr(gamma: float = 5.0) -> Weighting:
    """w = min(snr, gamma); on eps min(snr, gamma) / snr, on v min(snr, gamma) / (snr + 1). Hang et al. (2023)."""
    check_positive("gamma", gamma)
    return lambda sigma: jnp.minimum(jnp.asarray(sigma) ** -2, gamma)


def p2(gamma: float = 1.0, k: float = 1.0) -> Weighting:
    """w = snr / (k + snr)^gamma: the eps loss, less of it where little noise is left. Choi et al. (2022)."""
    check_positive("k", k)
    check_finite("gamma", gamma)

    def weight(sigma: Array) -> Array:
        snr = jnp.asarray(sigma) ** -2
        return snr / (k + snr) ** gamma

    return weight


def edm_weighting(sigma_data: float = 0.5) -> Weighting:
    """w = (sigma² + sd²) / (sigma sd)²: unit loss at initialisation at every level. Karras et al. (2022)."""
    check_positive("sigma_data", sigma_data)

    def weight(sigma: Array) -> Array:
        sigma = jnp.asarray(sigma)
        return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2

    return weight


def sigmoid_weighting(bias: float = 2.0) -> Weighting:
    """w = snr sigmoid(bias - logsnr), a sigmoid in the eps loss.

    Kingma, Gao, "Understanding diffusion objectives as the ELBO" (2023); Hoogeboom et al. (2024).
    """
    check_finite("bias", bias)

    def weight(sigma: Array) -> Array:
        log_sigma = jnp.log(jnp.asarray(sigma))
        return jnp.exp(-2 * log_sigma) * jax.nn.sigmoid(bias + 2 * log_sigma)

    return weight
