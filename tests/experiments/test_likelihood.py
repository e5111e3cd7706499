"""Code lengths over a data set, against models whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.likelihood import bits_per_dim, bits_per_token
from jaxgen import data
from jaxgen.core.types import Variables
from jaxgen.models import DiffusionModel, TokenPrior

PICTURES = np.random.default_rng(0).integers(0, 256, (23, 4, 4, 1), dtype=np.uint8)
LABELS = np.arange(23) % 2
SET = data.Dataset.from_arrays(PICTURES, LABELS, name="noise", split="test")


def test_bits_per_token_are_the_cross_entropy_of_a_prior_that_draws_each_token_by_itself():
    log_q = np.log(np.random.default_rng(1).dirichlet(np.ones(8), size=2)).astype(np.float32)

    def tokens(state, x):
        return (jnp.round((x.reshape(-1, 16) + 1) * 127.5) // 32).astype(jnp.int32)

    def logits(params, tokens, t, cond):
        return jnp.broadcast_to(params[cond["classes"]][:, None], (*tokens.shape, 8))

    model = TokenPrior(None, logits, tokens, None, None, (4, 4), num_codes=8, num_classes=2, mask_id=8)
    found = bits_per_token(model, Variables(jnp.asarray(log_q), {}), SET, batch=10, times=256)
    expected = -np.mean([log_q[label][picture.reshape(-1) // 32] for picture, label in zip(PICTURES, LABELS)])
    assert found["bits_per_token"] == pytest.approx(expected / np.log(2), rel=0.03)
    assert found["bits_per_picture"] == pytest.approx(16 * found["bits_per_token"])


def test_bits_per_token_of_an_autoregressive_prior_are_the_entropy_of_each_token_given_the_one_before():
    log_q = np.log(np.random.default_rng(1).dirichlet(np.ones(8), size=(2, 8))).astype(np.float32)

    def tokens(state, x):
        return (jnp.round((x.reshape(-1, 16) + 1) * 127.5) // 32).astype(jnp.int32)

    def logits(params, tokens, cond):
        return params[cond["classes"][:, None], jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1]]

    model = TokenPrior(None, logits, tokens, None, None, (4, 4), 8, 2, None, "autoregressive")
    found = bits_per_token(model, Variables(jnp.asarray(log_q), {}), SET, batch=10)
    nats = 0.0
    for label, codes in zip(LABELS, PICTURES.reshape(23, 16) // 32):
        nats -= sum(log_q[label, before, code] for before, code in zip([0, *codes], codes))
    assert found["bits_per_token"] == pytest.approx(nats / (23 * 16) / np.log(2), rel=1e-5)
    assert found["bits_per_picture"] == pytest.approx(16 * found["bits_per_token"])


def test_bits_per_dim_of_noise_are_eight_for_a_model_that_knows_the_pictures_and_their_noise():
    """The denoiser of uniform bytes: no model needs fewer than eight bits for each, and the exact one hardly more."""
    values = jnp.linspace(-1, 1, 256)

    def denoise(params, x, sigma, cond=None, *, key=None):
        weights = jax.nn.softmax(-((x[..., None] - values) ** 2) / (2 * sigma.reshape(-1, 1, 1, 1, 1) ** 2), axis=-1)
        return weights @ values

    model = DiffusionModel(None, denoise, lambda params, cond: cond, None, None, num_classes=0, text_length=0)
    found = bits_per_dim(model, {}, SET, batch=10, levels=256)
    assert 7.9 < found["bits_per_dim"] < 8.4
    assert found["bits_per_dim"] == pytest.approx(sum(found[f"bits_{n}"] for n in ("prior", "diffusion",
                                                                                  "reconstruction")))
