"""Editing with a trained denoiser: inpainting, image-to-image, interpolation.

One mask convention for pixels, latents and tokens: `known` holds the values, `mask` is boolean and **True keeps**.
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
from jaxgen.core.keys import numbered
from jaxgen.diffusion.contract import check_sigmas, check_solver
from jaxgen.diffusion.precondition import Denoiser
from jaxgen.diffusion.sampling.grids import truncate
from jaxgen.diffusion.sampling.loop import PostStep, sample, sample_noise
from jaxgen.diffusion.sampling.solvers.base import Carry, Solver, safe_sqrt


def inpaint(known: Float[Array, "B ..."], mask: Bool[Array, "B ..."]) -> PostStep:
    """A `post_step` that puts the known part back after every step, at that step's noise level.

        x <- where(mask, known + sigma_next z, x)

    At the end, where sigma_next = 0, the known values are returned as they are, to the last bit.

    Args:
        known: [B, ...] in the sample's dtype; what stands outside the mask does not matter.
        mask: boolean, as many axes as `known`, each equal or 1; True keeps.

    Raises:
        ValueError: a mask that is not boolean, or does not fit; `known` that is no batch of floating-point numbers.

    Song et al. (2021), appendix I.2.
    """
    check_batch("known", known)
    check_keep_mask(mask, jnp.shape(known))

    def post_step(x, sigma_next, noise_fn):
        return jnp.where(mask, known + sigma_next * noise_fn(), x)

    return post_step


def repaint(solver: Solver, known: Float[Array, "B ..."], mask: Bool[Array, "B ..."], *, resample: int = 10) -> Solver:
    """Inpainting that repeats every step, so that the unknown part can agree with the known one.

    Each of `resample` rounds takes the solver's step from s to s', puts the known part back, and (but for the last
    round) adds the noise sqrt(s² - s'²) that leads from s' to s again. Rounds of a multistep solver all start from the
    history of the steps before.

    Args:
        solver: the one to repeat.
        known, mask: as in `inpaint`; True keeps.
        resample: rounds per step, 1 is `inpaint`.

    Lugmayr et al., "RePaint" (2022), algorithm 1 with jump length 1.
    """
    check_solver(solver)
    check_batch("known", known)
    check_keep_mask(mask, jnp.shape(known))
    resample = check_count("resample", resample)
    streams = 8  # more than any solver draws in one step

    def step(denoiser, carry, sigma, sigma_next, noise_fn):
        def attempt(x, index):
            base = index * streams + 1
            after = solver.step(
                denoiser, carry._replace(x=x), sigma, sigma_next, lambda stream=0: noise_fn(base + 2 + stream)
            )
            return after._replace(x=jnp.where(mask, known + sigma_next * noise_fn(base), after.x))

        def again(index, x):
            back = safe_sqrt(sigma**2 - sigma_next**2)
            return attempt(x, index).x + back * noise_fn(index * streams + 2)

        x = jax.lax.fori_loop(0, resample - 1, again, carry.x)
        return attempt(x, resample - 1)

    def init(x) -> Carry:
        return solver.init(x)

    return Solver(init, step, order=solver.order, nfe=solver.nfe * resample)


def add_noise(
    key: PRNGKeyArray, x0: Float[Array, "B ..."], sigma: Any, *, sample_ids: Int[Array, "B"] | None = None
) -> Float[Array, "B ..."]:
    """x0 + sigma eps, with noise per sample id; sigma [] or [B].

    Raises:
        ValueError: x0 that is no batch of floating-point numbers, no key, or sigma below 0, not finite or of another
            shape.
    """
    check_batch("x0", x0)
    check_not_negative("sigma", sigma)
    noise = sample_noise(key, x0.shape[1:], numbered(sample_ids, x0.shape[0]), (1 << 31) - 1)
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
        x0: [B, ...] the input, a scribble for instance.
        strength: in (0, 1], the share of the steps that are taken; more forgets more of the input.

    Raises:
        ValueError: as `sample` and `add_noise`, or strength outside (0, 1].

    Meng et al., "SDEdit" (2022).
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
