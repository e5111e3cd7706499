"""GAN losses as pairs of functions of logits, one number per example.

A discriminator of patches gives logits [B, h, w, 1]; an example's loss is the mean over its patches, float32 or wider.
Logits that are whole numbers, or a different number of real and fake examples, raise ValueError. A factor of 1/2 in a
discriminator's loss makes the sum over real and fake images their mean.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.checks import check_alike


class GanLoss(NamedTuple):
    """What generator and discriminator minimise; any two can be paired: `GanLoss(hinge().generator, ...)`."""

    generator: Callable[[Array], Array]  # fake_logits [B, ...] -> [B]
    discriminator: Callable[[Array, Array], Array]  # (real_logits [B, ...], fake_logits [B, ...]) -> [B]


def per_example(logits: Float[Array, "B ..."]) -> Float[Array, "B"]:
    """The mean over all but the first axis, in float32 or wider."""
    logits = wide("logits", logits)
    return jnp.mean(logits.reshape(logits.shape[0], -1), axis=1)


def wide(argument: str, logits: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """The logits in float32 or wider; raises ValueError for whole numbers and for a single one."""
    check_alike(**{argument: logits})
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def check_same_batch(real_logits: Float[Array, "B ..."], fake_logits: Float[Array, "B ..."]) -> None:
    """Raises ValueError unless both have the same number of examples; their patches may differ in number."""
    if real_logits.shape[0] != fake_logits.shape[0]:
        raise ValueError("real_logits and fake_logits must be of as many examples, got shapes "
                         f"{real_logits.shape} and {fake_logits.shape}")


def _pair(generator: Callable, real: Callable, fake: Callable) -> GanLoss:
    """The pair of functions of single logits, D(x) for real and D(G) for fake."""

    def generator_loss(fake_logits):
        return per_example(generator(wide("fake_logits", fake_logits)))

    def discriminator_loss(real_logits, fake_logits):
        real_loss = per_example(real(wide("real_logits", real_logits)))
        fake_loss = per_example(fake(wide("fake_logits", fake_logits)))
        check_same_batch(real_logits, fake_logits)
        return real_loss + fake_loss

    return GanLoss(generator_loss, discriminator_loss)


def hinge() -> GanLoss:
    """Generator -D(G); discriminator 1/2 (relu(1 - D(x)) + relu(1 + D(G))).

    Reference: Lim, Ye, "Geometric GAN", 2017, arXiv:1705.02894

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import hinge
        >>> gan = hinge()
        >>> gan.discriminator(jnp.array([[0.5], [2.0]]), jnp.array([[-0.5], [1.0]])).tolist()
        [0.5, 1.0]
        >>> gan.generator(jnp.array([[-0.5], [1.0]])).tolist()
        [0.5, -1.0]
    """
    return _pair(lambda d: -d, lambda d: jax.nn.relu(1 - d) / 2, lambda d: jax.nn.relu(1 + d) / 2)


def vanilla() -> GanLoss:
    """Minimax: generator -softplus(D(G)); discriminator 1/2 (softplus(-D(x)) + softplus(D(G))).

    The generator's gradient vanishes where the discriminator is confident; see `vqgan_vanilla` and `non_saturating`.

    Reference: Goodfellow et al., "Generative adversarial networks", 2014, arXiv:1406.2661

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import vanilla
        >>> [loss] = vanilla().discriminator(jnp.zeros((1, 4)), jnp.zeros((1, 4))).tolist()
        >>> round(loss, 4)  # log 2
        0.6931
    """
    return _pair(lambda d: -jax.nn.softplus(d), lambda d: jax.nn.softplus(-d) / 2, lambda d: jax.nn.softplus(d) / 2)


def non_saturating() -> GanLoss:
    """Generator softplus(-D(G)); discriminator softplus(-D(x)) + softplus(D(G)).

    Reference: Goodfellow et al., "Generative adversarial networks", 2014, arXiv:1406.2661

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import non_saturating
        >>> non_saturating().generator(jnp.zeros((2, 4, 4, 1))).shape
        (2,)
    """
    return _pair(lambda d: jax.nn.softplus(-d), lambda d: jax.nn.softplus(-d), jax.nn.softplus)


def least_squares() -> GanLoss:
    """Generator 1/2 (D(G) - 1)²; discriminator 1/2 ((D(x) - 1)² + D(G)²).

    Reference: Mao et al., "Least squares generative adversarial networks", 2017, arXiv:1611.04076

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import least_squares
        >>> least_squares().discriminator(jnp.ones((1, 1)), jnp.full((1, 1), 2.0)).tolist()
        [2.0]
    """
    return _pair(lambda d: (d - 1) ** 2 / 2, lambda d: (d - 1) ** 2 / 2, lambda d: d**2 / 2)


def wasserstein() -> GanLoss:
    """Generator -D(G); discriminator D(G) - D(x), which is unbounded: add `gradient_penalty`.

    Reference: Arjovsky, Chintala, Bottou, "Wasserstein GAN", 2017, arXiv:1701.07875

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import wasserstein
        >>> wasserstein().discriminator(jnp.ones((1, 1)), jnp.full((1, 1), 3.0)).tolist()
        [2.0]
    """
    return _pair(lambda d: -d, lambda d: -d, lambda d: d)


def vqgan_vanilla() -> GanLoss:
    """`hinge().generator` with `vanilla().discriminator`, the pair of VQGAN's published code.

    Reference: Esser, Rombach, Ommer, "Taming transformers for high-resolution image synthesis", 2021, arXiv:2012.09841

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import vqgan_vanilla
        >>> vqgan_vanilla().generator(jnp.ones((1, 4))).tolist()
        [-1.0]
    """
    return GanLoss(hinge().generator, vanilla().discriminator)


GAN_LOSSES = {
    "hinge": hinge, "vanilla": vanilla, "non_saturating": non_saturating, "least_squares": least_squares,
    "wasserstein": wasserstein, "vqgan_vanilla": vqgan_vanilla,
}
"""Makers of `GanLoss` by name: `choose("loss", name, GAN_LOSSES)()`."""
