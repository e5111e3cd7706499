"""On a whole set: a diffusion model's bits for the pictures, a prior's for their tokens, a latent model's errors."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.conditions import Conditioned, batch_condition
from jaxgen import data, diffusion
from jaxgen.core.cpu import compiler_options
from jaxgen.core.types import Variables
from jaxgen.models import DiffusionModel, LatentDiffusion, TokenPrior
from jaxgen.tokens import autoregressive_loss, masked_diffusion_loss

LATENT_LEVELS = (0.1, 0.3, 1.0, 3.0, 10.0)


def bits_per_dim(model: DiffusionModel, params: Any, dataset: data.Dataset, *, levels: int = 128, batch: int = 100,
                 seed: int = 0, bar: bool = False) -> dict[str, float]:
    """The variational bound on the code length of a set's pictures given their conditions, in bits per number.

    Returns:
        "bits_per_dim" and its three terms "bits_prior", "bits_diffusion" and "bits_reconstruction".
    """
    sigmas = diffusion.exponential_sigmas(levels, 0.001, 80.0)[:-1]

    def bound(params, key, images, cond, ids):
        found = diffusion.variational_bound(
            key, lambda x, sigma, cond: model.denoise(params, x, sigma, cond), sigmas, data.to_float(images),
            cond=model.encode(params, cond), sample_ids=ids)
        return jnp.stack([found.prior, found.diffusion, found.reconstruction])

    terms = _mean(bound, model, params, dataset, batch, seed, bar) / (math.prod(dataset.image_shape) * math.log(2))
    return {"bits_per_dim": float(terms.sum()), **dict(zip(("bits_prior", "bits_diffusion", "bits_reconstruction"),
                                                           map(float, terms)))}


def bits_per_token(model: TokenPrior, variables: Variables, dataset: data.Dataset, *, times: int = 16, batch: int = 100,
                   seed: int = 0, bar: bool = False) -> dict[str, float]:
    """The code length of a set's tokens given their conditions: exact for an autoregressive prior, else the variational
    bound, a mean over `times` times per picture which are spread evenly.

    Returns:
        "bits_per_token", and "bits_per_picture" of all its tokens.
    """

    def exact(variables, key, images, cond, ids):
        tokens = model.tokens(variables.state, data.to_float(images))
        return autoregressive_loss(model.logits(variables.params, tokens, cond), tokens)

    def bound(variables, key, images, cond, ids):
        params, state = variables
        tokens, cond = model.tokens(state, data.to_float(images)), model.encode(params, cond)

        def at(i):
            # Each picture's times are equally far apart, from a start of its own: a better mean than of draws.
            starts = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(key, k)))(ids)
            t = jnp.clip((i + starts) / times, 1e-4, 1.0)
            return masked_diffusion_loss(
                jax.random.fold_in(key, i), partial(model.logits, params), tokens, t, mask_id=model.mask_id, cond=cond,
                sample_ids=ids)

        return jnp.mean(jax.lax.map(at, jnp.arange(times)), axis=0)

    length = exact if model.kind == "autoregressive" else bound
    bits = float(_mean(length, model, variables, dataset, batch, seed, bar)) / math.log(2)
    return {"bits_per_token": bits / math.prod(model.shape), "bits_per_picture": bits}


def latent_errors(model: LatentDiffusion, variables: Variables, dataset: data.Dataset, *, batch: int = 100,
                  seed: int = 0, bar: bool = False) -> dict[str, float]:
    """"latent_error_S": the mean squared error per number of latents denoised given their conditions, at noise level S.

    Latents have the deviation 1 over the training set, so that 1 is what a constant reaches.
    """

    def errors(variables, key, images, cond, ids):
        params, state = variables
        noise_key, latent_key = jax.random.split(key)
        z = model.latents(state, data.to_float(images), key=latent_key, sample_ids=ids)
        cond = model.encode(params, cond)

        def at(i):
            x = z + LATENT_LEVELS[i] * diffusion.sample_noise(noise_key, z.shape[1:], ids, i)
            return jnp.mean((z - model.denoise(params, x, LATENT_LEVELS[i], cond)) ** 2, axis=(1, 2, 3))

        return jnp.stack([at(i) for i in range(len(LATENT_LEVELS))])

    found = _mean(errors, model, variables, dataset, batch, seed, bar)
    return {f"latent_error_{level}": float(error) for level, error in zip(LATENT_LEVELS, found)}


def _mean(value: Callable, model: Conditioned, weights: Any, dataset: data.Dataset, batch: int, seed: int,
          bar: bool) -> np.ndarray:
    """The mean over a set's pictures of `value(weights, key, images, cond, ids) -> [..., B]`."""
    run, key, total = jax.jit(value, compiler_options=compiler_options()), jax.random.key(seed), 0.0
    batches = data.evaluation_batches(dataset, min(batch, len(dataset)))
    for found in tqdm(batches, total=math.ceil(len(dataset) / batch), unit="batch", disable=None if bar else True):
        values = run(weights, key, jnp.asarray(found["image"]), batch_condition(model, found), jnp.asarray(found["id"]))
        total += np.asarray(values, np.float64)[..., found["mask"]].sum(axis=-1)
    return total / len(dataset)
