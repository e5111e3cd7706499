"""Small transformers of token priors with random parameters, in floating point and in whole numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.codec import float_transformer
from jaxgen.codec.integer_transformer import quantize
from jaxgen.nn import Transformer
from tests.helpers.parameters import filled

CODES, LENGTH = 11, 12
SIZES = {"num_outputs": CODES, "features": 32, "depth": 2, "heads": 4, "max_length": LENGTH}
KINDS = {
    "causal": {"num_tokens": CODES, "causal": True},
    "causal with classes": {"num_tokens": CODES, "causal": True, "num_classes": 3},
    "masked": {"num_tokens": CODES + 1},
    "masked with time and classes": {"num_tokens": CODES + 1, "num_classes": 3},
    "masked of two levels": {"num_tokens": CODES + 1, "levels": 2},
}
TIMES = (1.0, 0.4)  # of the steps of "masked with time and classes"


def tokens_of(network, batch, seed=0):
    shape = (batch, LENGTH) if network.levels == 1 else (batch, LENGTH, network.levels)
    return np.random.default_rng(seed).integers(0, network.num_tokens, shape).astype(np.int32)


def calibration(network, batch=16, seed=7):
    return tokens_of(network, batch, seed).reshape(batch, LENGTH, network.levels)


@functools.cache
def float_network(kind):
    """(network, parameters as NumPy arrays, the condition of each step)."""
    network = Transformer(**SIZES, **KINDS[kind])
    timed = "time" in kind
    shapes = jax.eval_shape(lambda: network.init(
        jax.random.key(0), jnp.asarray(tokens_of(network, 1)), time=jnp.ones(1) if timed else None,
        classes=jnp.zeros(1, jnp.int32) if network.num_classes else None))
    params = jax.tree.map(np.asarray, filled(shapes)["params"])
    times = TIMES if timed else (None,)
    return network, params, [float_transformer.condition_of(params, time, network.time_scale) for time in times]


@functools.cache
def integer_network(kind):
    network, params, conditions = float_network(kind)
    return quantize(params, [calibration(network)] * len(conditions), conditions, heads=network.heads,
                    causal=network.causal)
