"""Weights w(sigma) of the one loss in x0 space, w(sigma) |x0_hat - x0|².

The squared error of any prediction is that of x0_hat times a factor that depends on sigma only; with snr = 1 / sigma²:

    x0: 1        eps: snr        v: snr + 1 (variance-preserving)        flow (the velocity): (1 + 1 / sigma)²

so that "train on eps" is a weight, not another loss. Each function returns a `Weighting`, sigma [B] -> w [B].
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxgen.core.checks import check_finite, check_positive, choose, choose_options
from jaxgen.diffusion.schedules.conversions import ELSEWHERE

Weighting = Callable[[Array], Array]

FACTORS = {
    "x0": lambda sigma: jnp.ones_like(sigma),
    "eps": lambda sigma: sigma**-2,
    "v": lambda sigma: 1 + sigma**-2,
    "flow": lambda sigma: (1 + 1 / sigma) ** 2,
}


def uniform_weighting(kind: str = "eps") -> Weighting:
    """The plain squared error of a prediction of this kind.

    Args:
        kind: "x0", "eps" (DDPM's simple loss), "v" or "flow" (the velocity eps - x0).

    Raises:
        ValueError: an unknown kind.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> diffusion.uniform_weighting("eps")(jnp.array([0.5, 1.0])).tolist()
        [4.0, 1.0]
    """
    factor = choose("kind", kind, FACTORS, elsewhere=ELSEWHERE)
    return lambda sigma: factor(jnp.asarray(sigma))


def min_snr_weighting(gamma: float = 5.0) -> Weighting:
    """w = min(snr, gamma); on eps min(snr, gamma) / snr, on v min(snr, gamma) / (snr + 1).

    Reference: Hang et al., "Efficient diffusion training via min-SNR weighting strategy", 2023, arXiv:2303.09556

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> diffusion.min_snr_weighting()(jnp.array([0.1, 1.0])).tolist()
        [5.0, 1.0]
    """
    check_positive("gamma", gamma)
    return lambda sigma: jnp.minimum(jnp.asarray(sigma) ** -2, gamma)


def p2_weighting(gamma: float = 1.0, k: float = 1.0) -> Weighting:
    """w = snr / (k + snr)^gamma: the eps loss, less of it where little noise is left.

    Reference: Choi et al., "Perception prioritized training of diffusion models", 2022, arXiv:2204.00227

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> [round(w, 3) for w in diffusion.p2_weighting()(jnp.array([0.5, 1.0])).tolist()]
        [0.8, 0.5]
    """
    check_positive("k", k)
    check_finite("gamma", gamma)

    def weight(sigma: Array) -> Array:
        snr = jnp.asarray(sigma) ** -2
        return snr / (k + snr) ** gamma

    return weight


def edm_weighting(sigma_data: float = 0.5) -> Weighting:
    """w = (sigma² + sd²) / (sigma sd)², sd = sigma_data: unit loss at initialisation at every level.

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022,
    arXiv:2206.00364

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> diffusion.edm_weighting(0.5)(jnp.array([0.5])).tolist()
        [8.0]
    """
    check_positive("sigma_data", sigma_data)

    def weight(sigma: Array) -> Array:
        sigma = jnp.asarray(sigma)
        return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2

    return weight


def sigmoid_weighting(bias: float = 2.0) -> Weighting:
    """w = snr sigmoid(bias - logsnr), a sigmoid in the eps loss.

    Reference: Kingma, Gao, "Understanding diffusion objectives as the ELBO with simple data augmentation", 2023,
    arXiv:2303.00848

    Reference: Hoogeboom et al., "Simpler diffusion: 1.5 FID on ImageNet512 with pixel-space diffusion", 2024,
    arXiv:2410.19324

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> diffusion.sigmoid_weighting(bias=0.0)(jnp.array([1.0])).tolist()
        [0.5]
    """
    check_finite("bias", bias)

    def weight(sigma: Array) -> Array:
        log_sigma = jnp.log(jnp.asarray(sigma))
        return jnp.exp(-2 * log_sigma) * jax.nn.sigmoid(bias + 2 * log_sigma)

    return weight


WEIGHTINGS: Mapping[str, Callable[..., Weighting]] = {
    "edm": edm_weighting, "min_snr": min_snr_weighting, "p2": p2_weighting, "sigmoid": sigmoid_weighting,
    "uniform": uniform_weighting,
}
"""Makers of a `Weighting` by name."""


def make_weighting(name: str, **options) -> Weighting:
    """The weighting of this name.

    Args:
        name: a key of `WEIGHTINGS`.
        options: keyword arguments of its maker. Those that only other weightings take are ignored, so that a
            configuration can be changed by its name.

    Raises:
        ValueError: an unknown name, or an option that no weighting takes.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> diffusion.make_weighting("min_snr", gamma=3.0)(jnp.array([0.1])).tolist()
        [3.0]
    """
    maker = choose("weighting", name, WEIGHTINGS)
    return maker(**choose_options("weighting", name, WEIGHTINGS, options))
