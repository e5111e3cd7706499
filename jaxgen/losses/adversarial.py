"""GAN losses as pairs of functions of logits, one number per example.

A discriminator of patches gives logits [B, h, w, 1]; an example's loss is the mean over its patches, float32 or wider.
Logits that are whole numbers, or of other than as many real as fake examples, raise ValueError. Where a factor of
1/2 stands in a discriminator's loss, it makes the sum over real and fake pictures their mean.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.checks import check_alike


class GanLoss(NamedTuple):
    """What generator and discriminator minimise; any two can be paired: `GanLoss(hinge().generator, ...)`."""

    generator: Callable  # fake_logits [B, ...] -> [B]
    discriminator: Callable  # (real_logits [B, ...], fake_logits [B, ...]) -> [B]


def per_example(logits: Float[Array, "B ..."]) -> Float[Array, "B"]:
    """The mean over all but the first axis, in float32 or wider."""
    logits = wide("logits", logits)
    return jnp.mean(logits.reshape(logits.shape[0], -1), axis=1)


def wide(argument: str, logits: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """The logits in float32 or wider; raises ValueError for whole numbers and for a single one."""
    check_alike(**{argument: logits})
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def check_counts(real_logits: Float[Array, "B ..."], fake_logits: Float[Array, "B ..."]) -> None:
    """Raises ValueError unless both are of as many examples; their patches may differ in number."""
    if real_logits.shape[0] != fake_logits.shape[0]:
        raise ValueError("real_logits and fake_logits must be of as many examples, got shapes "
                         f"{real_logits.shape} and {fake_logits.shape}")


def _pair(generator: Callable, real: Callable, fake: Callable) -> GanLoss:
    """The pair of functions of single logits, D(x) for real and D(G) for fake."""

    def generator_loss(fake_logits):
        return per_example(generator(wide("fake_logits", fake_logits)))

    def discriminator_loss(real_logits, fake_logits):
        of_real = per_example(real(wide("real_logits", real_logits)))
        of_fake = per_example(fake(wide("fake_logits", fake_logits)))
        check_counts(real_logits, fake_logits)
        return of_real + of_fake

    return GanLoss(generator_loss, discriminator_loss)


def hinge() -> GanLoss:
    """Generator -D(G); discriminator 1/2 (relu(1 - D(x)) + relu(1 + D(G))). Lim & Ye, "Geometric GAN" (2017)."""
    return _pair(lambda d: -d, lambda d: jax.nn.relu(1 - d) / 2, lambda d: jax.nn.relu(1 + d) / 2)


def vanilla() -> GanLoss:
    """Minimax, -softplus(D(G)) against 1/2 (softplus(-D(x)) + softplus(D(G))). Goodfellow et al. (2014).

    The generator's gradient vanishes where the discriminator is sure; VQGAN's published code pairs this discriminator
    with `hinge().generator`.
    """
    return _pair(lambda d: -jax.nn.softplus(d), lambda d: jax.nn.softplus(-d) / 2, lambda d: jax.nn.softplus(d) / 2)


def non_saturating() -> GanLoss:
    """Generator softplus(-D(G)); discriminator softplus(-D(x)) + softplus(D(G)). Goodfellow et al. (2014)."""
    return _pair(lambda d: jax.nn.softplus(-d), lambda d: jax.nn.softplus(-d), jax.nn.softplus)


def least_squares() -> GanLoss:
    """Generator 1/2 (D(G) - 1)²; discriminator 1/2 ((D(x) - 1)² + D(G)²). Mao et al. (2017)."""
    return _pair(lambda d: (d - 1) ** 2 / 2, lambda d: (d - 1) ** 2 / 2, lambda d: d**2 / 2)


def wasserstein() -> GanLoss:
    """Generator -D(G); discriminator D(G) - D(x). Arjovsky, Chintala & Bottou (2017); needs `gradient_penalty`."""
    return _pair(lambda d: -d, lambda d: -d, lambda d: d)
