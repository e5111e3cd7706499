"""A tiny VQGAN: a generator whose last layer is a matrix, a linear discriminator, and the whole in NumPy's manner."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.quantize import QuantizeOutput

SHAPE = (4, 4, 3)


def params():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    return {"encoder": {"kernel": draw(3, 5)}, "decoder": {"conv_out": {"kernel": draw(5, 3), "bias": draw(3)}}}


def discriminator_params():
    rng = np.random.default_rng(1)
    return {"a": jnp.asarray(rng.normal(size=(3, 6)), jnp.float32), "b": jnp.asarray(rng.normal(size=6), jnp.float32)}


def batch(size=8):
    rng = np.random.default_rng(2)
    return {"image": jnp.asarray(rng.uniform(-1, 1, size=(size, *SHAPE)), jnp.float32), "id": jnp.arange(size)}


def generate(p, x):
    return jnp.tanh(x @ p["encoder"]["kernel"]) @ p["decoder"]["conv_out"]["kernel"] + p["decoder"]["conv_out"]["bias"]


def forward(variables, x, *, train, key):
    h = jnp.tanh(x @ variables.params["encoder"]["kernel"])
    output = QuantizeOutput(h, jnp.zeros(h.shape[:3], jnp.int32), {"commitment": 0.25 * jnp.sum(h**2, -1)})
    return generate(variables.params, x), output, variables.state + jnp.int32(train)


def commitment(p, x):
    return 0.25 * jnp.mean(jnp.sum(jnp.tanh(x @ p["encoder"]["kernel"]) ** 2, -1))


def discriminate(p, x):
    return (jnp.tanh(x @ p["a"]) @ p["b"])[..., None]


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(np.asarray(leaf, np.float64))) for leaf in jax.tree.leaves(tree)))
