"""The variational bound on the code length of discrete data (images of 0 .. 255), in its three terms.

With the ratio's levels s_0 > s_1 > .. > s_n > 0 and z_i = x + s_i eps,

    prior           KL(N(x, s_0²) | N(0, V))
    diffusion       sum_i 1/2 (1 / s_(i+1)² - 1 / s_i²) |x - D(z_i, s_i)|²
    reconstruction  -log p(x | z_n),   p(level | z) proportional to exp(-(z - level)² / (2 s_n²)), per dimension

No dequantization and no offset is needed: the model is a distribution over the levels themselves.

Reference: Kingma et al., "Variational diffusion models", 2021, arXiv:2107.00630, sections 4 and B
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_batch, check_count, check_positive
from jaxgen.core.keys import numbered
from jaxgen.core.mapped import vary_like
from jaxgen.diffusion._precondition import Denoiser
from jaxgen.diffusion.contract import bind, check_sigmas
from jaxgen.diffusion.sampling.grids import positive_levels
from jaxgen.diffusion.sampling.loop import sample_noise


class Bound(NamedTuple):
    """Nats per sample, each [B]."""

    prior: Array
    diffusion: Array
    reconstruction: Array

    @property
    def total(self) -> Array:
        """[B] the bound on -log p(x)."""
        return self.prior + self.diffusion + self.reconstruction

    def bits_per_dim(self, dims: int) -> Array:
        """[B] total / (dims log 2)."""
        return self.total / (dims * jnp.log(2.0))


def variational_bound(
    key: PRNGKeyArray,
    denoiser: Denoiser,
    sigmas: Float[Array, "n+1"],
    x: Float[Array, "B ..."],
    *,
    levels: int = 256,
    cond: Any = None,
    prior_variance: Any = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Bound:
    """One Monte Carlo draw of the bound, over every step of a grid.

    Args:
        key: sample i at step s draws from fold_in(fold_in(key, i), s).
        denoiser: as in `sample`.
        sigmas: [n + 1] decreasing; a last 0 is left out. The smallest level should be well below half the distance
            of two levels of the data (for 256 in [-1, 1]: below .002).
        x: [B, ...] in [-1, 1], on the grid 2 v / (levels - 1) - 1 with whole v.
        levels: how many values a number can take.
        prior_variance: V; sigmas[0]² by default.
        sample_ids: [B], 0 .. B - 1 by default.

    Returns:
        `Bound`.

    Raises:
        ValueError: x that is no batch of floating-point numbers, a bad grid, no key, no denoiser, or levels below 2.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> denoiser = lambda x, sigma, cond: jnp.sign(x)  # of black and white pixels
        >>> x, sigmas = jnp.array([[1.0, -1.0], [1.0, 1.0]]), diffusion.exponential_sigmas(8, 0.1, 10.0)
        >>> bound = diffusion.variational_bound(jax.random.key(0), denoiser, sigmas, x, levels=2)
        >>> bound.total.shape, bound.bits_per_dim(2).shape
        ((2,), (2,))
    """
    check_batch("x", x)
    check_sigmas(sigmas)
    levels = check_count("levels", levels, 2)
    if prior_variance is not None:
        check_positive("prior_variance", prior_variance)
    denoise = bind(denoiser, cond)
    x = jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))
    sigmas = positive_levels(jnp.asarray(sigmas, x.dtype))
    ids = numbered(sample_ids, x.shape[0])
    x = vary_like(x, cond, key, ids)
    axes = tuple(range(1, x.ndim))
    dims = int(np.prod(x.shape[1:]))

    def term(total, inputs):
        step, sigma, sigma_next = inputs
        z = x + sigma * sample_noise(key, x.shape[1:], ids, step, dtype=x.dtype)
        error = jnp.sum((x - denoise(z, sigma)) ** 2, axis=axes)
        return total + 0.5 * (sigma_next**-2 - sigma**-2) * error, None

    steps = sigmas.shape[0] - 1
    diffusion, _ = jax.lax.scan(
        term, vary_like(jnp.zeros(x.shape[:1], x.dtype), x), (jnp.arange(steps), sigmas[:-1], sigmas[1:])
    )
    variance = jnp.asarray(sigmas[0] ** 2 if prior_variance is None else prior_variance)
    share = sigmas[0] ** 2 / variance
    prior = 0.5 * (jnp.sum(x**2, axis=axes) / variance + dims * (share - 1 - jnp.log(share)))
    z = x + sigmas[-1] * sample_noise(key, x.shape[1:], ids, steps, dtype=x.dtype)
    values_of = jnp.linspace(-1.0, 1.0, levels, dtype=x.dtype)
    log_p = jax.nn.log_softmax(-0.5 * ((z[..., None] - values_of) / sigmas[-1]) ** 2)
    index = jnp.round((x + 1) / 2 * (levels - 1)).astype(jnp.int32)
    reconstruction = -jnp.sum(jnp.take_along_axis(log_p, index[..., None], axis=-1)[..., 0], axis=axes)
    return Bound(prior, diffusion, reconstruction)
