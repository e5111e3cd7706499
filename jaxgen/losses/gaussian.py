"""Diagonal Gaussians, as the encoder of a variational autoencoder predicts them, and their divergence from N(0, 1)."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.checks import check_alike


class Gaussian(NamedTuple):
    """N(mean, exp(logvar)), independent entries."""

    mean: Float[Array, "B ..."]
    logvar: Float[Array, "B ..."]  # natural logarithm of the variance


def gaussian_kl(gaussian: Gaussian) -> Float[Array, "B"]:
    """KL(N(mean, exp(logvar)) || N(0, 1)) = 1/2 sum(mean² + exp(logvar) - 1 - logvar) per example [nats].

    Args:
        gaussian: mean and logvar `[B, ...]`.

    Returns:
        `[B]`, sums over all entries of an example, in float32 or wider.

    Raises:
        ValueError: mean and logvar are whole numbers or differ in shape.

    Reference: Kingma, Welling, "Auto-encoding variational Bayes", 2013, arXiv:1312.6114, appendix B

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import Gaussian, gaussian_kl
        >>> gaussian_kl(Gaussian(jnp.ones((2, 3)), jnp.zeros((2, 3)))).tolist()
        [1.5, 1.5]
    """
    check_alike(**gaussian._asdict())
    wide = jnp.promote_types(jnp.result_type(*gaussian), jnp.float32)
    mean, logvar = (x.astype(wide) for x in gaussian)
    # exp(logvar) - 1 would lose its digits near the minimum, where logvar is about 0.
    terms = (jnp.square(mean) + jnp.expm1(logvar) - logvar) / 2
    return jnp.sum(terms.reshape(terms.shape[0], -1), axis=1)
