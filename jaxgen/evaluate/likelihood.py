"""On a whole set: a diffusion model's bits for examples, a prior's for their tokens, a latent model's errors."""

import math
from functools import partial

import jax
import jax.numpy as jnp

from jaxgen import diffusion
from jaxgen.core.types import Variables
from jaxgen.data import Dataset
from jaxgen.evaluate.base import BATCH, Batch, Evaluator, each_example
from jaxgen.models import Autoencoder, Denoising, NextTokens, TokenGenerating
from jaxgen.tokens import autoregressive_loss, masked_diffusion_loss

LATENT_LEVELS = (0.1, 0.3, 1.0, 3.0, 10.0)


def bits_per_dim(
    model: Denoising, *, levels: int = 128, batch_size: int = BATCH, seed: int = 0, bar: bool = False
) -> Evaluator:
    """The variational bound on the code length of examples given their conditions, in bits per number.

    A grey pixel is one number, a colour pixel three.

    Returns:
        An `Evaluator` of "bits_per_dim" and its terms "bits_prior", "bits_diffusion" and "bits_reconstruction".
    """
    sigmas = diffusion.exponential_sigmas(levels, 0.001, 80.0)[:-1]

    def bound(variables: Variables, batch: Batch):
        params, x = variables.params, batch["x"]
        cond = model.encode(params, model.conditions.of_batch(batch))
        result = diffusion.variational_bound(
            jax.random.key(seed), lambda x, sigma, cond: model.denoise(params, x, sigma, cond), sigmas, x, cond=cond,
            sample_ids=batch["id"])
        return {"bits_prior": result.prior, "bits_diffusion": result.diffusion,
                "bits_reconstruction": result.reconstruction}

    of_each = each_example(bound, batch_size=batch_size, bar=bar)

    def evaluate(variables: Variables, dataset: Dataset) -> dict[str, float]:
        nats, numbers = of_each(variables, dataset), math.prod(dataset.example_shape)
        terms = {name: value / (numbers * math.log(2)) for name, value in nats.items()}
        return {"bits_per_dim": sum(terms.values()), **terms}

    return evaluate


def bits_per_token(
    model: TokenGenerating, *, times: int = 16, batch_size: int = BATCH, seed: int = 0, bar: bool = False
) -> Evaluator:
    """The code length of the tokens of examples given their conditions.

    Exact for an autoregressive model, else the variational bound of masked diffusion, a mean over `times` times per
    example which are spread evenly.

    Returns:
        An `Evaluator` of "bits_per_token", and "bits_per_example" of all its tokens.
    """
    key = jax.random.key(seed)

    def tokens_and_cond(variables, batch):
        tokens = model.to_tokens(variables, batch["x"])
        return tokens, model.encode(variables.params, model.conditions.of_batch(batch))

    def exact(variables: Variables, batch: Batch):
        tokens, cond = tokens_and_cond(variables, batch)
        return {"nats": autoregressive_loss(model.model.logits(variables.params, tokens, cond), tokens)}

    def bound(variables: Variables, batch: Batch):
        tokens, cond = tokens_and_cond(variables, batch)
        logits, ids = partial(model.model.logits, variables.params), batch["id"]

        def at(i):
            # Each example's times are equally far apart, from a start of its own: a better mean than of draws.
            starts = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(key, k)))(ids)
            t = jnp.clip((i + starts) / times, 1e-4, 1.0)
            return masked_diffusion_loss(jax.random.fold_in(key, i), logits, tokens, t, mask_id=model.model.mask_id,
                                         cond=cond, sample_ids=ids)

        return {"nats": jnp.mean(jax.lax.map(at, jnp.arange(times)), axis=0)}

    length = exact if isinstance(model.model, NextTokens) else bound
    of_each = each_example(length, batch_size=batch_size, bar=bar)

    def evaluate(variables: Variables, dataset: Dataset) -> dict[str, float]:
        bits = of_each(variables, dataset)["nats"] / math.log(2)
        return {"bits_per_token": bits / math.prod(model.sample_shape), "bits_per_example": bits}

    return evaluate


def latent_errors(model: Denoising, *, batch_size: int = BATCH, seed: int = 0, bar: bool = False) -> Evaluator:
    """"latent_error_S": the mean squared error per number of latents denoised given their conditions, at noise level S.

    Latents have std 1 over the training set, so that 1 is what a constant reaches.

    Args:
        model: one that is an `Autoencoder` too.
    """
    if not isinstance(model, Autoencoder):
        raise ValueError(f"latent errors are of a model with latents, and a {type(model).__name__} has none")

    def errors(variables: Variables, batch: Batch):
        noise_key, latent_key = jax.random.split(jax.random.key(seed))
        z = model.to_latents(variables, batch["x"], key=latent_key, sample_ids=batch["id"])
        cond = model.encode(variables.params, model.conditions.of_batch(batch))

        def at(i, level):
            x = z + level * diffusion.sample_noise(noise_key, z.shape[1:], batch["id"], i)
            error = (z - model.denoise(variables.params, x, level, cond)) ** 2
            return jnp.mean(error, axis=tuple(range(1, z.ndim)))

        return {f"latent_error_{level}": at(i, level) for i, level in enumerate(LATENT_LEVELS)}

    return each_example(errors, batch_size=batch_size, bar=bar)
