"""Code lengths over a data set, against models whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import data
from jaxgen.evaluate import bits_per_dim
from tests.evaluate import toys

IMAGES = np.random.default_rng(0).integers(0, 256, (23, 4, 4, 1), dtype=np.uint8)
LABELS = np.arange(23) % 2
SET = data.Dataset.from_arrays(IMAGES, LABELS, name="noise", split="test")


def test_bits_per_dim_of_noise_are_eight_for_a_model_that_knows_the_examples_and_their_noise():
    """The denoiser of uniform bytes: no model needs fewer than eight bits for each, and the exact one hardly more."""
    values = jnp.linspace(-1, 1, 256)

    def denoise(params, x, sigma, cond=None, *, key=None):
        weights = jax.nn.softmax(-((x[..., None] - values) ** 2) / (2 * sigma.reshape(-1, 1, 1, 1, 1) ** 2), axis=-1)
        return weights @ values

    model = toys.Noise()
    model.denoise = denoise
    result = bits_per_dim(model, batch_size=10, levels=256)(toys.variables(), SET)
    assert 7.9 < result["bits_per_dim"] < 8.4
    assert result["bits_per_dim"] == pytest.approx(sum(result[f"bits_{n}"] for n in ("prior", "diffusion",
                                                                                  "reconstruction")))
