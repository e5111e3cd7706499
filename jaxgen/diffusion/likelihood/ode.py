"""Log-likelihood by the probability-flow equation, and its bits per dimension.

    dx / du = x - D(x, e^u),      d log p / du = -div(x - D) = -(d - tr dD/dx),      u = log sigma

so that log p(x at sigma_min) = log N(x at sigma_max; 0, V) + integral of (d - tr dD/dx) du.

Data are continuous here. For data made of the integers 0 .. 255 add uniform noise first (dequantization), and add the
logarithm of the scale back in bits per dimension: 7 for x = (v + u) / 256 * 2 - 1, log2(127.5) = 6.9943534 for
x = (v + u) / 127.5 - 1.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_batch, check_count, check_positive
from jaxgen.core.keys import sample_keys
from jaxgen.core.mapped import vary_like
from jaxgen.diffusion._precondition import Denoiser
from jaxgen.diffusion.contract import bind, check_sigmas
from jaxgen.diffusion.sampling.grids import positive_levels

BITS_OFFSET_256 = 7.0
"""log2 of the density's scale for x = (v + u) / 256 * 2 - 1, u ~ U[0, 1)."""
BITS_OFFSET_127_5 = float(np.log2(127.5))
"""log2 of the density's scale for x = (v + u) / 127.5 - 1."""


def bits_per_dim(log_likelihood: Float[Array, "B"], dims: int, *, offset: float) -> Float[Array, "B"]:
    """-log p / (d log 2) + offset.

    Args:
        log_likelihood: [B] nats of the scaled data.
        dims: d, numbers per sample.
        offset: log2 of how many original units one unit of x holds: `BITS_OFFSET_256`, `BITS_OFFSET_127_5`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> diffusion.bits_per_dim(jnp.zeros(1), 784, offset=diffusion.BITS_OFFSET_256).tolist()
        [7.0]
    """
    return -log_likelihood / (dims * jnp.log(2.0)) + offset


def log_prob(
    denoiser: Denoiser,
    sigmas: Float[Array, "n+1"],
    x: Float[Array, "B ..."],
    *,
    key: PRNGKeyArray | None = None,
    probes: int = 1,
    cond: Any = None,
    prior_variance: Any = None,
    sample_ids: Int[Array, "B"] | None = None,
) -> Float[Array, "B"]:
    """log p(x) in nats of the samples, by RK4 in log sigma over the levels of a grid.

    Args:
        denoiser: as in `sample`.
        sigmas: [n + 1] decreasing; a last 0 is left out. x counts as being at the smallest level, so that the
            density is that of the data with this little noise.
        x: [B, ...] data.
        key: None computes the trace exactly with d products, one per dimension; a key estimates it with `probes`
            random sign vectors (Hutchinson), the same ones along the path.
        probes: how many.
        prior_variance: V, sigmas[0]² by default. Adding the data's variance (or 1, for a variance-preserving model
            whose xt is exactly N(0, I) at the end) makes the start exact for Gaussian data.
        sample_ids: [B] for the probes, 0 .. B - 1 by default.

    Returns:
        [B] log densities.

    Raises:
        ValueError: x that is no batch of floating-point numbers, a bad grid, no denoiser, or probes below 1.

    Reference: Song et al., "Score-based generative modeling through stochastic differential equations", 2021,
    arXiv:2011.13456, appendix D.2

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> denoiser = lambda x, sigma, cond: x / (1 + sigma**2)  # of data from N(0, 1)
        >>> sigmas = diffusion.karras_sigmas(32, 0.01, 80.0)
        >>> log_p = diffusion.log_prob(denoiser, sigmas, jnp.zeros((1, 2)))
        >>> round(float(log_p[0]), 2)  # -log(2 pi)
        -1.84
    """
    check_batch("x", x)
    check_sigmas(sigmas)
    if prior_variance is not None:
        check_positive("prior_variance", prior_variance)
    bound = bind(denoiser, cond)
    x = jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))
    x = vary_like(x, cond, key, sample_ids)
    sigmas = positive_levels(jnp.asarray(sigmas, x.dtype))
    levels = jnp.log(jnp.flip(sigmas))
    dims = int(np.prod(x.shape[1:]))
    axes = tuple(range(1, x.ndim))
    if key is None:
        basis = jnp.eye(dims, dtype=x.dtype).reshape(dims, 1, *x.shape[1:])
    else:
        probes = check_count("probes", probes)
        keys = sample_keys(key, sample_ids, x.shape[0])
        signs = jax.vmap(lambda k: jax.random.rademacher(k, (probes, *x.shape[1:]), x.dtype))(keys)
        basis = jnp.moveaxis(signs, 1, 0)

    def slope(x, u):
        denoised, jvp = jax.linearize(lambda x: bound(x, jnp.exp(u)), x)

        def along(vector):
            vector = vary_like(jnp.broadcast_to(vector, x.shape), x)
            return jnp.sum(vector * jvp(vector), axis=axes)

        trace = jax.lax.map(along, basis)
        trace = jnp.sum(trace, axis=0) if key is None else jnp.mean(trace, axis=0)
        return x - denoised, dims - trace

    def step(state, ends):
        u, u_next = ends
        h = u_next - u

        def shifted(k, share):
            return slope(state[0] + share * h * k[0], u + share * h)

        k1 = slope(state[0], u)
        k2 = shifted(k1, 0.5)
        k3 = shifted(k2, 0.5)
        k4 = shifted(k3, 1.0)
        return jax.tree.map(lambda s, a, b, c, d: s + h / 6 * (a + 2 * b + 2 * c + d), state, k1, k2, k3, k4), None

    start = (x, vary_like(jnp.zeros(x.shape[:1], x.dtype), x))
    (end, integral), _ = jax.lax.scan(step, start, (levels[:-1], levels[1:]))
    variance = jnp.asarray(sigmas[0] ** 2 if prior_variance is None else prior_variance)
    prior = -0.5 * (jnp.sum(end**2, axis=axes) / variance + dims * jnp.log(2 * jnp.pi * variance))
    return prior + integral
