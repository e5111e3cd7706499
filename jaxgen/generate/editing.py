"""Editing with a sampler: filling in, image to image, to noise and back, and between two examples.

Known places are given as `keep`, True where they stay. A model in latents keeps the latents of which everything is
kept, a token prior its tokens.

Example:
    >>> from jaxgen.generate import make_sampler
    >>> from jaxgen.models import build
    >>> model = build("diffusion", shape=(4, 4, 1), network={"name": "dit", "features": 8, "depth": 1, "heads": 1})
    >>> variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), (4, 4, 1))
    >>> sampler, x = make_sampler(model, {"solver": "euler", "steps": 4}), jnp.zeros((2, 4, 4, 1))
    >>> img2img(sampler, variables, jax.random.key(1), x, {}, strength=0.5).shape
    (2, 4, 4, 1)
    >>> noise = to_noise(sampler, variables, x, {})
    >>> from_noise(sampler, variables, noise, {}).shape
    (2, 4, 4, 1)

Reference: Meng et al., "SDEdit: guided image synthesis and editing with stochastic differential equations", 2022,
    arXiv:2108.01073
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxgen import diffusion
from jaxgen.core.types import Variables
from jaxgen.generate.diffusion import decode, encode, guided
from jaxgen.generate.masks import check_keeps, hide, kept_positions
from jaxgen.generate.sampler import Sampler, compiled
from jaxgen.generate.tokens import sample_token_ids
from jaxgen.models import Autoencoder, Denoising

Cond = Mapping[str, Array]
BETWEEN = 8  # examples from one end of an interpolation to the other


def inpaint(
    sampler: Sampler, variables: Variables, key: PRNGKeyArray, x: Float[Array, "B ..."], keep: Bool[Array, "B ..."],
    cond: Cond, *, resample: int = 4,
) -> Float[Array, "B ..."]:
    """x where `keep` is True, and new elsewhere.

    Diffusion: RePaint, `resample` rounds a step; kept values come back exactly where the model works on x itself. Token
    priors: what an autoregressive one fills in knows nothing of the kept tokens that come after it.

    Args:
        sampler: of a diffusion model or a token prior.
        variables: of the model.
        key: of the draws.
        x: examples [B, ..., C] in [-1, 1], or text [B, L].
        keep: boolean [B, ..., 1], of text [B, L, 1].
        cond: of B samples.
        resample: rounds per step, so that old and new agree.

    Raises:
        ValueError: the mask is not boolean, does not fit, or keeps no whole position of the model's.

    Example:
        >>> from jaxgen.generate import make_sampler
        >>> from jaxgen.models import build
        >>> model = build("diffusion", shape=(4, 4, 1), network={"name": "dit", "features": 8, "depth": 1, "heads": 1})
        >>> variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), (4, 4, 1))
        >>> x, keep = jnp.zeros((2, 4, 4, 1)), (jnp.arange(4) < 2)[None, :, None, None]
        >>> sampler = make_sampler(model, {"solver": "euler", "steps": 2})
        >>> result = inpaint(sampler, variables, jax.random.key(1), x, keep, {}, resample=2)
        >>> bool((result[:, :2] == x[:, :2]).all()), bool((result[:, 2:] != x[:, 2:]).any())
        (True, True)

    Reference: Lugmayr et al., "RePaint: inpainting using denoising diffusion probabilistic models", 2022,
        arXiv:2201.09865
    """
    model = sampler.model
    keep = _every_place(keep, x)
    check_keeps(keep, model.sample_shape, x.shape[1:])
    if not isinstance(model, Denoising):
        return _fill_in(sampler, variables, key, x, keep, cond)
    latent = isinstance(model, Autoencoder)
    known = compiled(encode, model)(variables, hide(x, keep) if latent else x)
    kept = kept_positions(keep, model.sample_shape)[..., None] if latent else keep
    run = _with_solver(_repaint, sampler, resample=resample)
    result = run(variables, key, known, kept, cond, sampler.parts.sigmas, sampler.parts.guidance)
    return compiled(decode, model)(variables, result)


def img2img(
    sampler: Sampler, variables: Variables, key: PRNGKeyArray, x: Float[Array, "B ..."], cond: Cond, *,
    strength: float = 0.6,
) -> Float[Array, "B ..."]:
    """x with noise up to a share `strength` of the steps, denoised again (SDEdit); 1 forgets x."""
    z, run = compiled(encode, sampler.model)(variables, x), _with_solver(_sdedit, sampler, strength=strength)
    result = run(variables, key, z, cond, sampler.parts.sigmas, sampler.parts.guidance)
    return compiled(decode, sampler.model)(variables, result)


def to_noise(sampler: Sampler, variables: Variables, x: Float[Array, "B ..."], cond: Cond) -> Float[Array, "B ..."]:
    """The noise, at the grid's first level, from which the model's own path (without guidance) leads to x."""
    z = compiled(encode, sampler.model)(variables, x)
    return _with_solver(_invert, sampler)(variables, z, cond, sampler.parts.sigmas)


def from_noise(sampler: Sampler, variables: Variables, noise: Float[Array, "B ..."], cond: Cond
               ) -> Float[Array, "B ..."]:
    """The end of the model's own path (without guidance) from noise at the grid's first level."""
    result = _with_solver(_follow, sampler)(variables, noise, cond, sampler.parts.sigmas)
    return compiled(decode, sampler.model)(variables, result)


def show_noise(sampler: Sampler, variables: Variables, noise: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Noise of `to_noise` scaled into the visible range, decoded where the model works in latents."""
    return compiled(decode, sampler.model)(variables, noise / sampler.parts.sigmas[0] / 3)


def interpolate(
    sampler: Sampler, variables: Variables, x: Float[Array, "B ..."], cond: Cond, *, between: int = BETWEEN
) -> list[Float[Array, "between ..."]]:
    """Rows from each even example to the next one, through their noises, in the condition of the first.

    Example:
        >>> from jaxgen.generate import make_sampler
        >>> from jaxgen.models import build
        >>> model = build("diffusion", shape=(4, 4, 1), network={"name": "dit", "features": 8, "depth": 1, "heads": 1})
        >>> variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), (4, 4, 1))
        >>> sampler = make_sampler(model, {"solver": "euler", "steps": 2})
        >>> x = jax.random.normal(jax.random.key(1), (2, 4, 4, 1))
        >>> [row.shape for row in interpolate(sampler, variables, x, {}, between=3)]
        [(3, 4, 4, 1)]
    """
    noise, rows = to_noise(sampler, variables, x, cond), []
    shares = jnp.linspace(0, 1, between)
    for i in range(0, len(x) - 1, 2):
        first, second = (jnp.broadcast_to(noise[j], (between, *noise.shape[1:])) for j in (i, i + 1))
        here = {name: jnp.broadcast_to(value[i], (between, *value.shape[1:])) for name, value in cond.items()}
        rows.append(from_noise(sampler, variables, diffusion.slerp(first, second, shares), here))
    return rows


def _every_place(keep, x):
    """[B, ..., 1] of a mask that broadcasts to it; text has no channels, so that its mask has an axis more than it."""
    keep = jnp.asarray(keep)
    text = keep.ndim > x.ndim and jnp.issubdtype(x.dtype, jnp.integer)
    shape = (*(x.shape if text else x.shape[:-1]), 1)
    if keep.ndim != len(shape) or any(size not in (1, full) for size, full in zip(keep.shape, shape)):
        raise ValueError(f"keep of shape {keep.shape} does not fit x of shape {x.shape}: give [B, ..., 1] for examples "
                         "[B, ..., C], and [B, L, 1] for text [B, L]")
    return jnp.broadcast_to(keep, shape)


def _fill_in(sampler, variables, key, x, keep, cond):
    model, count = sampler.model, len(x)
    known = compiled(_to_tokens, model)(variables, hide(x, keep))
    positions = kept_positions(keep, model.sample_shape).reshape(count, -1)
    kept = jnp.repeat(positions, prod(model.sample_shape[2:]), axis=1)
    return sample_token_ids(sampler, variables, key, jnp.arange(count), cond, known=known, keep=kept)[0]


def _to_tokens(model, variables, x):
    return model.to_tokens(variables, x)


def _repaint(model, variables, key, x0, keep, cond, sigmas, guidance, *, solver, resample):
    params = variables.params
    repainting = diffusion.repaint(diffusion.get_solver(solver), x0, keep, resample=resample)
    x = diffusion.prior_sample(key, x0.shape, sigmas[0])
    denoiser = guided(model, params, cond, len(x0), guidance)
    return diffusion.sample(denoiser, repainting, sigmas, x, key, cond=model.encode(params, cond))


def _sdedit(model, variables, key, x0, cond, sigmas, guidance, *, solver, strength):
    params, solver = variables.params, diffusion.get_solver(solver)
    denoiser = guided(model, params, cond, len(x0), guidance)
    return diffusion.sdedit(denoiser, solver, sigmas, x0, key, strength=strength, cond=model.encode(params, cond))


def _invert(model, variables, x0, cond, sigmas, *, solver):
    params, solver = variables.params, diffusion.get_solver(solver)
    denoiser = guided(model, params, cond, len(x0), None)
    return diffusion.invert(denoiser, solver, sigmas, x0, cond=model.encode(params, cond))


def _follow(model, variables, x, cond, sigmas, *, solver):
    params, solver = variables.params, diffusion.get_solver(solver)
    denoiser = guided(model, params, cond, len(x), None)
    return diffusion.sample(denoiser, solver, sigmas, x, jax.random.key(0), cond=model.encode(params, cond))


def _with_solver(function: Callable, sampler: Sampler, **static: Any) -> Callable:
    """One program for all samplers of a model with the same solver."""
    return compiled(function, sampler.model, solver=sampler.settings["solver"], **static)
