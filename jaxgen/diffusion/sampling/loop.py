"""The sampling loop: one `lax.scan` over the grid, whatever the solver."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_batch, check_count, check_key, check_not_negative
from jaxgen.core.keys import START_STEP, numbered
from jaxgen.core.mapped import vary_like
from jaxgen.diffusion._precondition import Denoiser
from jaxgen.diffusion.contract import bind, check_sigmas, check_start
from jaxgen.diffusion.sampling.solvers.base import NoiseFn, Solver
from jaxgen.diffusion.sampling.solvers.checked import checked_solver

PostStep = Callable[[Array, Array, NoiseFn], Array]
"""(x [B, ...], sigma_next [], noise_fn) -> x, applied after every step."""
NoiseSource = Callable[[Array, Any], Array]
"""(step [], stream) -> standard normal [B, ...]."""

POST_STEP_STREAM = 1 << 20


def sample_noise(
    key: PRNGKeyArray, shape: tuple[int, ...], sample_ids: Int[Array, "B"], step: Any, stream: Any = 0, dtype=None
) -> Float[Array, "B ..."]:
    """Standard normal noise [B, *shape] of one step, where each sample's depends on its id only.

        key of sample i at step s = fold_in(fold_in(key, i), s);      fold_in(that, stream) for a further stream

    so that sample i is the same in a batch of 1 or 64, on one device or eight.

    Raises:
        ValueError: what is no key, or sample_ids that are no whole numbers.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> key, ids = jax.random.key(0), jnp.array([7, 3])
        >>> both, one = diffusion.sample_noise(key, (4,), ids, 0), diffusion.sample_noise(key, (4,), ids[1:], 0)
        >>> bool((both[1] == one[0]).all())
        True
    """
    check_key(key)
    sample_ids = numbered(sample_ids, np.size(sample_ids))

    def one(sample_id):
        folded = jax.random.fold_in(jax.random.fold_in(key, sample_id), step)
        if not (isinstance(stream, int) and stream == 0):
            folded = jax.random.fold_in(folded, stream)
        return jax.random.normal(folded, shape, dtype or jnp.float32)

    return jax.vmap(one)(sample_ids)


def prior_sample(
    key: PRNGKeyArray, shape: tuple[int, ...], sigma: Any, *, sample_ids: Int[Array, "B"] | None = None
) -> Float[Array, "B ..."]:
    """The start of sampling: x = sigma eps [B, ...] with noise per sample id.

    Args:
        key: may be the key passed to `sample`: the initial noise uses a reserved step number, so the draws never
            coincide.
        shape: (B, ...).
        sigma: [] the grid's first level. A variance-preserving model's own prior, N(0, I) of xt, is
            `sqrt(1 + sigma**2)` here; at the levels where sampling starts the two hardly differ.
        sample_ids: [B], 0 .. B - 1 by default.

    Raises:
        ValueError: no key, sigma below 0 or not finite, or sample_ids that do not fit.

    Example:
        >>> import jax
        >>> from jaxgen import diffusion
        >>> diffusion.prior_sample(jax.random.key(0), (2, 8, 8, 3), 80.0).shape
        (2, 8, 8, 3)
    """
    check_not_negative("sigma", sigma)
    ids = numbered(sample_ids, shape[0])
    return sigma * sample_noise(key, tuple(shape[1:]), ids, START_STEP)


def integrate(
    denoiser: Denoiser,
    solver: Solver,
    sigmas: Float[Array, "n+1"],
    x: Float[Array, "B ..."],
    noise: NoiseSource,
    *,
    cond: Any = None,
    post_step: PostStep | None = None,
    save_every: int | None = None,
) -> Array | tuple[Array, Array]:
    """Runs a solver along a grid with noise from a function: `sample` without its keys and checks.

    Args:
        denoiser, solver, sigmas, x, cond, post_step, save_every: as in `sample`; sigmas may run either way.
        noise: `(step, stream) -> [B, ...]`.

    Raises:
        ValueError: x that is no batch of floating-point numbers, or a solver or denoiser that does not keep to its
            contract, `Solver` or `jaxgen.diffusion`.
    """
    check_batch("x", x)
    solver = checked_solver(solver)
    if save_every is not None:
        save_every = check_count("save_every", save_every)
    x, bound = jnp.asarray(x), bind(denoiser, cond)
    out_dtype = x.dtype
    wide = jnp.promote_types(out_dtype, jnp.float32)
    sigmas = jnp.asarray(sigmas, wide)
    steps = sigmas.shape[0] - 1

    def advance(carry, inputs):
        step, sigma, sigma_next = inputs
        carry = solver.step(bound, carry, sigma, sigma_next, lambda stream=0: noise(step, stream).astype(wide))
        if post_step is not None:
            streams = lambda stream=0: noise(step, POST_STEP_STREAM + stream).astype(wide)  # noqa: E731
            carry = carry._replace(x=post_step(carry.x, sigma_next, streams).astype(wide))
        return carry, None

    inputs = (jnp.arange(steps), sigmas[:-1], sigmas[1:])
    carry = solver.init(x.astype(wide))
    if save_every is None:
        carry, _ = jax.lax.scan(advance, carry, inputs)
        return carry.x.astype(out_dtype)

    chunks, rest = divmod(steps, save_every)

    def chunk(carry, inputs):
        carry, _ = jax.lax.scan(advance, carry, inputs)
        return carry, carry.x.astype(out_dtype)

    split = jax.tree.map(lambda a: a[: chunks * save_every].reshape(chunks, save_every), inputs)
    carry, trajectory = jax.lax.scan(chunk, carry, split)
    if rest:
        carry, last = chunk(carry, jax.tree.map(lambda a: a[chunks * save_every :], inputs))
        trajectory = jnp.concatenate([trajectory, last[None]])
    return carry.x.astype(out_dtype), trajectory


def sample(
    denoiser: Denoiser,
    solver: Solver,
    sigmas: Float[Array, "n+1"],
    x: Float[Array, "B ..."],
    key: PRNGKeyArray,
    *,
    cond: Any = None,
    sample_ids: Int[Array, "B"] | None = None,
    post_step: PostStep | None = None,
    save_every: int | None = None,
) -> Array | tuple[Array, Array]:
    """Follows a solver from noise to data, in the variance-exploding variable.

    Args:
        denoiser: `(x [B, ...], sigma [], cond) -> x0_hat`; see `precondition` and the guidance transforms.
        solver: of `jaxgen.diffusion.sampling.solvers`.
        sigmas: [n + 1] decreasing noise levels, usually ending in 0 (`karras_sigmas`, ...). Traced: another grid of
            the same length does not recompile.
        x: [B, ...] the start at sigmas[0]; `prior_sample`. The state is float32 (or wider) between steps whatever
            this dtype, and returned in it.
        key: for the solver's noise; sample i at step s draws from fold_in(fold_in(key, i), s).
        cond: passed to the denoiser as it is.
        sample_ids: [B] whole numbers that name the samples, 0 .. B - 1 by default.
        post_step: called after each step; see `inpaint`.
        save_every: also return x after every so many steps, and after the last; None stores nothing.

    Returns:
        x [B, ...], or (x, trajectory [ceil(n / save_every), B, ...]) whose last entry is x.

    Raises:
        ValueError: sigmas that do not decrease, sample_ids that do not fit, save_every below 1, x that is no batch of
            floating-point numbers or (where its values are known and there are enough numbers to tell, 64) was not
            scaled by sigmas[0], what is no key, or a solver or denoiser that does not keep to its contract, `Solver`
            or `jaxgen.diffusion`.

    Example:
        >>> import jax
        >>> from jaxgen import diffusion
        >>> denoiser = lambda x, sigma, cond: x / (1 + sigma**2)  # of data from N(0, 1)
        >>> key, sigmas = jax.random.key(0), diffusion.karras_sigmas(8)
        >>> x = diffusion.prior_sample(key, (2, 8), sigmas[0])
        >>> diffusion.sample(denoiser, diffusion.heun(), sigmas, x, key).shape
        (2, 8)
    """
    check_batch("x", x)
    check_sigmas(sigmas)
    check_key(key)
    check_start(x, sigmas[0])
    ids = numbered(sample_ids, x.shape[0])
    x = vary_like(jnp.asarray(x), cond, key, ids)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    noise = partial(_keyed_noise, key, x.shape[1:], ids, wide)
    return integrate(
        denoiser, solver, sigmas, x, noise, cond=cond, post_step=post_step, save_every=save_every
    )


def _keyed_noise(key, shape, ids, dtype, step, stream):
    return sample_noise(key, shape, ids, step, stream, dtype)
