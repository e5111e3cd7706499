"""One tiny model of every sampling family, with random weights."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen import generate, models
from tests.helpers.parameters import drawn

SHAPE, KEY = (8, 8, 1), jax.random.key(0)
SIDE = {"channels": 8, "multipliers": (1, 2), "num_res_blocks": 0, "middle_attention": False, "norm_groups": 4}
TOKENIZER = {"name": "vqvae", "latent_channels": 4, "example_channels": 1, "encoder": SIDE, "decoder": SIDE,
             "quantizer": {"name": "vq", "num_codes": 7}}
DIT = {"name": "dit", "features": 16, "depth": 1, "heads": 2}
NETWORK = {"features": 16, "depth": 1, "heads": 2}
CLASSES = {"name": "classes", "count": 3}

DESCRIPTIONS = {
    "pixels": {"name": "diffusion", "shape": SHAPE, "network": DIT, "conditions": CLASSES},
    "latents": {"name": "latent_diffusion", "shape": (4, 4, 4), "network": {**DIT, "patch_size": 1},
                "autoencoder": TOKENIZER, "conditions": CLASSES},
    "masked": {"name": "token_prior", "shape": (4, 4), "network": NETWORK, "tokenizer": TOKENIZER,
               "conditions": CLASSES},
    "autoregressive": {"name": "token_prior", "kind": "autoregressive", "shape": (4, 4), "network": NETWORK,
                       "tokenizer": TOKENIZER, "conditions": CLASSES},
    "text": {"name": "token_prior", "kind": "autoregressive", "shape": (6,), "network": NETWORK,
             "tokenizer": {"name": "bytes"}, "conditions": CLASSES},
}
DIFFUSION, PRIORS, IMAGES = ("pixels", "latents"), ("masked", "autoregressive"), ("pixels", "latents", "masked",
                                                                                  "autoregressive")
# Guided, as every setting of guidance but 1 then takes the same program.
SETTINGS = {name: {"guidance": 2.0, "steps": 3} if name in (*DIFFUSION, "masked") else {"guidance": 2.0}
            for name in DESCRIPTIONS}


class Case(NamedTuple):
    """A model, its variables and the shape of one of its samples."""

    model: Any
    variables: Any
    shape: tuple[int, ...]


@functools.cache
def case(name):
    model, shape = models.build(**DESCRIPTIONS[name]), (6,) if name == "text" else SHAPE
    return Case(model, drawn(model, shape), shape)


@functools.cache
def sampler(name, **settings):
    return generate.make_sampler(case(name).model, {**SETTINGS[name], **settings})


def classes(*numbers):
    return {"classes": np.array(numbers, np.int32)}


def draw(name, ids, cond, key=KEY, **settings):
    return np.asarray(sampler(name, **settings).draw(case(name).variables, key, np.asarray(ids, np.int32), cond))


def images(count, seed=5):
    return np.random.default_rng(seed).uniform(-1, 1, (count, *SHAPE)).astype(np.float32)
