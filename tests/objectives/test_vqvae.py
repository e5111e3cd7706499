"""The VQ-VAE objective by hand: its terms, its metrics, on devices, and with other outputs than a quantizer's."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.losses import l1
from jaxgen.objectives import vqvae_loss
from jaxgen.quantize import QuantizeOutput


def forward(variables, x, *, train, key):
    """A model simple enough to know by hand: reconstruction w * x, one loss per vector, all indices on code 1 or 3."""
    indices = jnp.where(x[:, :, 0, 0] > 0, 1, 3).astype(jnp.int32)
    output = QuantizeOutput(x[:, :, 0], indices, {"commitment": 0.25 * jnp.abs(x[:, :, 0, 0])})
    return variables.params * x, output, variables.state + jnp.where(train, 1, 0)


BATCH = {"image": np.float32([0.5, 0.5, -0.5, -1.0]).reshape(2, 2, 1, 1)}


def measured(w, state, **options):
    """`vqvae_loss` of the batch, in one program."""
    return jax.jit(lambda w, state: vqvae_loss(w, state, BATCH, None, **options))(w, state)


def test_loss_is_reconstruction_plus_the_mean_of_each_quantizer_loss():
    loss, (metrics, state) = measured(0.5, 7, forward=forward, num_codes=4)
    reconstruction = np.mean([0.25**2, 0.25**2, 0.25**2, 0.5**2])
    commitment = 0.25 * np.mean([0.5, 0.5, 0.5, 1.0])
    assert metrics["reconstruction"] == pytest.approx(reconstruction)
    assert metrics["commitment"] == pytest.approx(commitment)
    assert loss == pytest.approx(reconstruction + commitment)
    assert metrics["perplexity"] == pytest.approx(2.0)
    assert state == 8


def test_gradient_reaches_the_parameters():
    gradient = jax.jit(jax.grad(lambda w: vqvae_loss(w, 0, BATCH, None, forward=forward)[0]))(0.5)
    assert gradient == pytest.approx(2 * (0.5 - 1) * np.mean([0.25, 0.25, 0.25, 1.0]))


def test_another_reconstruction_loss_and_evaluation_mode():
    _, (metrics, state) = measured(0.5, 7, forward=forward, reconstruction=l1, train=False)
    assert metrics["reconstruction"] == pytest.approx(np.mean([0.25, 0.25, 0.25, 0.5]))
    assert state == 7 and "perplexity" not in metrics


def test_levels_are_named_in_the_metrics_and_summed_in_the_loss():
    def two_levels(variables, x, *, train, key):
        x_r, output, state = forward(variables, x, train=train, key=key)
        return x_r, {"top": output, "bottom": output}, state

    loss, (metrics, _) = measured(1.0, 0, forward=two_levels,
                                    num_codes={"top": 4, "bottom": 8})
    assert loss == pytest.approx(metrics["top_commitment"] + metrics["bottom_commitment"])
    assert {"top_perplexity", "bottom_perplexity"} <= set(metrics)


def test_each_level_of_a_residual_quantizer_has_its_own_perplexity():
    def two_deep(variables, x, *, train, key):
        _, output, state = forward(variables, x, train=train, key=key)
        indices = jnp.stack([output.indices, jnp.zeros_like(output.indices)], axis=-1)
        return x, QuantizeOutput(x[:, :, 0], indices, {}), state

    _, (metrics, _) = measured(1.0, 0, forward=two_deep, num_codes=4)
    assert metrics["0_perplexity"] == pytest.approx(2.0) and metrics["1_perplexity"] == pytest.approx(1.0)
    assert "perplexity" not in metrics


def test_perplexity_counts_the_whole_batch_of_all_devices():
    def per_device(images):
        return vqvae_loss(jnp.float32(1), 0, {"image": images}, None, forward=forward, num_codes=4,
                          axis_name="devices")[1][0]["perplexity"]

    # Each device alone sees one code only (perplexity 1); together they see two.
    values = jax.pmap(per_device, axis_name="devices")(BATCH["image"].reshape(2, 1, 2, 1, 1))
    assert values == pytest.approx(2.0)


def test_outputs_without_indices_have_losses_and_no_perplexity():
    """As a KL autoencoder has them."""
    def continuous(variables, x, *, train, key):
        return variables.params * x, SimpleNamespace(losses={"kl": jnp.array([1.0, 3.0])}), variables.state

    loss, (metrics, _) = measured(1.0, 0, forward=continuous, num_codes=4)
    assert loss == 2 == metrics["kl"] and set(metrics) == {"loss", "reconstruction", "kl"}


def test_no_outputs_leave_the_reconstruction():
    loss, (metrics, _) = measured(0.5, 0, forward=lambda v, x, *, train, key: (v.params * x, {}, v.state))
    assert loss == metrics["reconstruction"] and set(metrics) == {"loss", "reconstruction"}


def test_a_batch_without_images_is_refused():
    with pytest.raises(ValueError, match=r"'image', got \['pixels'\]"):
        vqvae_loss(jnp.float32(1), 0, {"pixels": BATCH["image"]}, None, forward=forward)


def test_a_vector_that_is_not_finite_uses_no_code():
    def spoiled(variables, x, *, train, key):
        x_r, output, state = forward(variables, x, train=train, key=key)
        lost = jnp.zeros((2, 2), bool).at[0, 0].set(True)
        return x_r, output._replace(quantized=jnp.where(lost[..., None], jnp.nan, output.quantized),
                                    indices=jnp.where(lost, 0, output.indices)), state

    _, (metrics, _) = measured(1.0, 0, forward=spoiled, num_codes=4)
    p = np.array([1, 2]) / 3  # one vector is left on code 1, two on code 3
    assert metrics["perplexity"] == pytest.approx(np.exp(-np.sum(p * np.log(p))))
