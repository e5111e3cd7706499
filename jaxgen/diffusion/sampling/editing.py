"""Editing with a trained denoiser: inpainting, image-to-image, interpolation.

One convention for pixels, latents and tokens: `known` holds the values, `keep` is boolean and **True keeps**.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxgen.core.checks import (
    check_batch,
    check_count,
    check_finite,
    check_keep_mask,
    check_not_negative,
    check_same,
    expand_to,
)
from jaxgen.core.keys import START_STEP, numbered
from jaxgen.diffusion._precondition import Denoiser
from jaxgen.diffusion.contract import check_sigmas
from jaxgen.diffusion.sampling.grids import truncate
from jaxgen.diffusion.sampling.loop import PostStep, sample, sample_noise
from jaxgen.diffusion.sampling.solvers.base import Solver, safe_sqrt
from jaxgen.diffusion.sampling.solvers.checked import checked_solver


def inpaint(known: Float[Array, "B ..."], keep: Bool[Array, "B ..."]) -> PostStep:
    """A `post_step` that puts the known part back after every step, at that step's noise level.

        x <- where(keep, known + sigma_next z, x)

    At the end, where sigma_next = 0, the known values are returned as they are, to the last bit.

    Args:
        known: [B, ...] in the sample's dtype; values where `keep` is False do not matter.
        keep: boolean, as many axes as `known`, each equal or 1; True keeps.

    Raises:
        ValueError: `keep` is not boolean, or does not fit; `known` is no batch of floating-point numbers.

    Reference: Song et al., "Score-based generative modeling through stochastic differential equations", 2021,
    arXiv:2011.13456, appendix I.2

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> denoiser = lambda x, sigma, cond: x / (1 + sigma**2)  # of data from N(0, 1)
        >>> known, keep = jnp.array([[0.5, 0.0]]), jnp.array([[True, False]])
        >>> key, sigmas = jax.random.key(0), diffusion.karras_sigmas(8)
        >>> x = diffusion.prior_sample(key, known.shape, sigmas[0])
        >>> post_step = diffusion.inpaint(known, keep)
        >>> float(diffusion.sample(denoiser, diffusion.heun(), sigmas, x, key, post_step=post_step)[0, 0])
        0.5
    """
    check_batch("known", known)
    check_keep_mask(keep, jnp.shape(known))

    def post_step(x, sigma_next, noise_fn):
        return jnp.where(keep, known + sigma_next * noise_fn(), x)

    return post_step


STREAMS = 8
"""Streams of noise of a round of `repaint`: one for the known part, one for the way back, up to 6 of its solver."""


def repaint(solver: Solver, known: Float[Array, "B ..."], keep: Bool[Array, "B ..."], *, resample: int = 10) -> Solver:
    """Inpainting that repeats every step, so that the unknown part can agree with the known one.

    Each of `resample` rounds takes the solver's step from s to s', puts the known part back, and (but for the last
    round) adds the noise sqrt(s² - s'²) that leads from s' to s again. Rounds of a multistep solver all start from the
    history of the steps before.

    Args:
        solver: the one to repeat.
        known, keep: as in `inpaint`; True keeps.
        resample: rounds per step, 1 is `inpaint`.

    Raises:
        ValueError: as `inpaint`, resample below 1, or a solver that draws more than 6 noises per step, such as one that
            is repeated already.

    Reference: Lugmayr et al., "RePaint: inpainting using denoising diffusion probabilistic models", 2022,
    arXiv:2201.09865, algorithm 1 with jump length 1

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> known, keep = jnp.array([[0.5, 0.0]]), jnp.array([[True, False]])
        >>> diffusion.repaint(diffusion.heun(), known, keep, resample=4).nfe
        8
    """
    solver = checked_solver(solver)
    check_batch("known", known)
    check_keep_mask(keep, jnp.shape(known))
    resample = check_count("resample", resample)
    if solver.draws > STREAMS - 2:
        raise ValueError(f"repaint takes a solver that draws at most {STREAMS - 2} noises per step, and this one draws "
                         f"{solver.draws}: give one that is not repeated yet")

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        def attempt(x, index):
            base = index * STREAMS + 1
            after = solver.step(
                denoiser, carry._replace(x=x), sigma, sigma_next, lambda stream=0: noise_fn(base + 2 + stream)
            )
            return after._replace(x=jnp.where(keep, known + sigma_next * noise_fn(base), after.x))

        def round_trip(index, x):
            back = safe_sqrt(sigma**2 - sigma_next**2)
            return attempt(x, index).x + back * noise_fn(index * STREAMS + 2)

        x = jax.lax.fori_loop(0, resample - 1, round_trip, carry.x)
        return attempt(x, resample - 1)

    nfe, draws = solver.nfe * resample, STREAMS * resample + 1
    return Solver(solver.init, step, order=solver.order, nfe=nfe, draws=draws)


def add_noise(
    key: PRNGKeyArray, x0: Float[Array, "B ..."], sigma: Any, *, sample_ids: Int[Array, "B"] | None = None
) -> Float[Array, "B ..."]:
    """x0 + sigma eps, with noise per sample id; sigma [] or [B].

    Raises:
        ValueError: x0 that is no batch of floating-point numbers, no key, or sigma below 0, not finite or of another
            shape.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> diffusion.add_noise(jax.random.key(0), jnp.zeros((2, 8)), 0.5).shape
        (2, 8)
    """
    check_batch("x0", x0)
    check_not_negative("sigma", sigma)
    noise = sample_noise(key, x0.shape[1:], numbered(sample_ids, x0.shape[0]), START_STEP)
    return (x0 + expand_to(sigma, x0, name="sigma") * noise).astype(x0.dtype)


def sdedit(
    denoiser: Denoiser,
    solver: Solver,
    sigmas: Float[Array, "n+1"],
    x0: Float[Array, "B ..."],
    key: PRNGKeyArray,
    *,
    strength: float,
    sample_ids: Int[Array, "B"] | None = None,
    **options: Any,
) -> Array | tuple[Array, Array]:
    """Image-to-image: noise the input to the middle of the grid, and sample from there.

    Args:
        denoiser, solver, sigmas, key, sample_ids, options: as in `sample`.
        x0: [B, ...] the input, for example a sketch.
        strength: in (0, 1], the fraction of the steps that are taken; more forgets more of the input.

    Raises:
        ValueError: as `sample` and `add_noise`, or strength outside (0, 1].

    Reference: Meng et al., "SDEdit: guided image synthesis and editing with stochastic differential equations", 2022,
    arXiv:2108.01073

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> denoiser = lambda x, sigma, cond: x / (1 + sigma**2)  # of data from N(0, 1)
        >>> key, sigmas = jax.random.key(0), diffusion.karras_sigmas(8)
        >>> diffusion.sdedit(denoiser, diffusion.dpmpp_2m(), sigmas, jnp.ones((2, 8)), key, strength=0.5).shape
        (2, 8)
    """
    check_sigmas(sigmas)
    sigmas = truncate(jnp.asarray(sigmas), strength)
    x = add_noise(key, x0, sigmas[0], sample_ids=sample_ids)
    return sample(denoiser, solver, sigmas, x, key, sample_ids=sample_ids, **options)


def slerp(a: Float[Array, "B ..."], b: Float[Array, "B ..."], share: Any) -> Float[Array, "B ..."]:
    """Spherical interpolation of noises: sin((1 - w) o) / sin(o) a + sin(w o) / sin(o) b, o the angle of a and b.

    Between two draws of the prior it stays where the prior has its mass, which a straight line does not. Nearly
    parallel or opposite inputs are interpolated linearly.

    Args:
        a, b: [B, ...].
        share: w, [] or [B]; 0 gives a, 1 gives b.

    Raises:
        ValueError: a and b that are no batches of floating-point numbers of one shape, or a share that is not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> a, b = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]])
        >>> [round(value, 3) for value in diffusion.slerp(a, b, 0.5)[0].tolist()]
        [0.707, 0.707]
    """
    check_batch("a", a)
    check_same("b", b, "a", a)
    check_finite("share", share)
    a, b = jnp.asarray(a), jnp.asarray(b)
    axes, dtype = tuple(range(1, a.ndim)), a.dtype
    a, b = (v.astype(jnp.promote_types(dtype, jnp.float32)) for v in (a, b))
    norm = jnp.sqrt(jnp.sum(a**2, axis=axes) * jnp.sum(b**2, axis=axes))
    cosine = jnp.sum(a * b, axis=axes) / jnp.maximum(norm, jnp.finfo(a.dtype).tiny)
    curved = jnp.abs(cosine) < 0.9995
    angle = jnp.arccos(jnp.where(curved, cosine, 0.0))
    share = jnp.broadcast_to(expand_to(share, angle, name="share"), angle.shape)
    first = jnp.where(curved, jnp.sin((1 - share) * angle) / jnp.sin(angle), 1 - share)
    second = jnp.where(curved, jnp.sin(share * angle) / jnp.sin(angle), share)
    return (expand_to(first, a, name="share") * a + expand_to(second, b, name="share") * b).astype(dtype)
