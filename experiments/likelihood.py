"""How many bits a diffusion model needs for the pictures of a set, and a prior for their tokens."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.conditions import batch_condition
from jaxgen import data, diffusion
from jaxgen.cpu import compiler_options
from jaxgen.models import DiffusionModel, TokenPrior
from jaxgen.priors import autoregressive_loss
from jaxgen.quantize import Variables


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

    terms = _mean_bits(bound, model, params, dataset, batch, seed, bar) / math.prod(dataset.image_shape)
    return {"bits_per_dim": float(terms.sum()), **dict(zip(("bits_prior", "bits_diffusion", "bits_reconstruction"),
                                                           map(float, terms)))}


def bits_per_token(model: TokenPrior, variables: Variables, dataset: data.Dataset, *, times: int = 16, batch: int = 100,
                   seed: int = 0, bar: bool = False) -> dict[str, float]:
    """The code length of a set's tokens given their classes: exact for an autoregressive prior, else the variational
    bound, a mean over `times` times per picture which are spread evenly.

    Returns:
        "bits_per_token", and "bits_per_picture" of all its tokens.
    """

    def exact(variables, key, images, cond, ids):
        tokens = model.tokens(variables.state, data.to_float(images))
        return autoregressive_loss(model.logits(variables.params, tokens, cond), tokens)

    def bound(variables, key, images, cond, ids):
        params, state = variables
        tokens = model.tokens(state, data.to_float(images))

        def at(i):
            # Each picture's times are equally far apart, from a start of its own: a better mean than of draws.
            starts = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(key, k)))(ids)
            t = jnp.clip((i + starts) / times, 1e-4, 1.0)
            return diffusion.masked_diffusion_loss(
                jax.random.fold_in(key, i), partial(model.logits, params), tokens, t, mask_id=model.mask_id, cond=cond,
                sample_ids=ids)

        return jnp.mean(jax.lax.map(at, jnp.arange(times)), axis=0)

    length = exact if model.kind == "autoregressive" else bound
    bits = float(_mean_bits(length, model, variables, dataset, batch, seed, bar))
    return {"bits_per_token": bits / math.prod(model.shape), "bits_per_picture": bits}


def _mean_bits(bound: Callable, model: DiffusionModel | TokenPrior, weights: Any, dataset: data.Dataset, batch: int,
               seed: int, bar: bool) -> np.ndarray:
    """The mean over a set's pictures, in bits, of `bound(weights, key, images, cond, ids) -> [..., B]` nats."""
    run, key, total = jax.jit(bound, compiler_options=compiler_options()), jax.random.key(seed), 0.0
    batches = data.evaluation_batches(dataset, min(batch, len(dataset)))
    for found in tqdm(batches, total=math.ceil(len(dataset) / batch), unit="batch", disable=None if bar else True):
        nats = run(weights, key, jnp.asarray(found["image"]), batch_condition(model, found), jnp.asarray(found["id"]))
        total += np.asarray(nats, np.float64)[..., found["mask"]].sum(axis=-1)
    return total / (len(dataset) * math.log(2))
