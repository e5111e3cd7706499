"""How many bits a diffusion model needs for the pictures of a set."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.conditions import batch_condition
from jaxgen import data, diffusion
from jaxgen.cpu import compiler_options
from jaxgen.models import DiffusionModel


def bits_per_dim(model: DiffusionModel, params: Any, dataset: data.Dataset, *, levels: int = 128, batch: int = 100,
                 seed: int = 0, bar: bool = False) -> dict[str, float]:
    """The variational bound on the code length of a set's pictures given their conditions, in bits per number.

    Returns:
        "bits_per_dim" and its three terms "bits_prior", "bits_diffusion" and "bits_reconstruction".
    """
    dims = math.prod(dataset.image_shape)
    sigmas = diffusion.exponential_sigmas(levels, 0.001, 80.0)[:-1]

    @partial(jax.jit, compiler_options=compiler_options())
    def bound(params, key, images, cond, ids):
        found = diffusion.variational_bound(
            key, lambda x, sigma, cond: model.denoise(params, x, sigma, cond), sigmas, data.to_float(images),
            cond=model.encode(params, cond), sample_ids=ids)
        return jnp.stack([found.prior, found.diffusion, found.reconstruction])

    totals, key = np.zeros(3), jax.random.key(seed)
    batches = data.evaluation_batches(dataset, min(batch, len(dataset)))
    for found in tqdm(batches, total=math.ceil(len(dataset) / batch), unit="batch", disable=None if bar else True):
        nats = bound(params, key, jnp.asarray(found["image"]), batch_condition(model, found), jnp.asarray(found["id"]))
        totals += np.asarray(nats)[:, found["mask"]].sum(axis=1)
    terms = totals / (len(dataset) * dims * math.log(2))
    return {"bits_per_dim": float(terms.sum()), **dict(zip(("bits_prior", "bits_diffusion", "bits_reconstruction"),
                                                           map(float, terms)))}
