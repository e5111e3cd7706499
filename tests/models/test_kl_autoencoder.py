"""KL autoencoders: the posterior, draws of it, the way back, the loss, and what is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.types import Variables
from jaxgen.losses import Gaussian, gaussian_kl
from jaxgen.models import KLAutoencoder, build
from jaxgen.nn import Decoder, Encoder
from jaxgen.objectives import vqvae_loss
from tests.helpers.parameters import compiled, drawn

KEY = jax.random.key(0)
NETWORK = {"channels": 4, "multipliers": (1, 2), "num_res_blocks": 1, "norm_groups": 2, "middle_attention": False}
MODEL = {"latent_channels": 3, "example_channels": 1, "encoder": {**NETWORK, "z_channels": 5},
         "decoder": {**NETWORK, "z_channels": 4}, "scale": 0.5, "shift": 0.3}


@pytest.fixture(scope="module")
def built():
    model = compiled(build("kl_autoencoder", **MODEL))
    return model, drawn(model, (4, 4, 1)), jax.random.uniform(KEY, (3, 4, 4, 1), minval=-1)


def encoder_output(model, variables, x):
    return jax.jit(model.encoder.apply)({"params": variables.params["encoder"]}, x)


def test_the_encoder_predicts_mean_and_logvar(built):
    model, variables, x = built
    gaussian = model.encode(variables, x)
    output = encoder_output(model, variables, x)
    assert output.shape == (3, 2, 2, 6) and variables.state == {}
    chex.assert_trees_all_equal(gaussian, Gaussian(output[..., :3], output[..., 3:]))
    assert {name: variables.params[side][name]["kernel"].shape
            for side, name in (("encoder", "quant_conv"), ("decoder", "post_quant_conv"))} == {
        "quant_conv": (1, 1, 5, 6), "post_quant_conv": (1, 1, 3, 4)}


def test_logvar_is_clipped(built):
    model, variables, x = built
    bias = jnp.array([0, 0, 0, 100.0, -100.0, 0])
    convolution = {**variables.params["encoder"]["quant_conv"], "bias": bias}
    params = {**variables.params, "encoder": {**variables.params["encoder"], "quant_conv": convolution}}
    logvar = model.encode(Variables(params, {}), x).logvar
    chex.assert_trees_all_equal(logvar[..., 0], jnp.full((3, 2, 2), 20.0))
    chex.assert_trees_all_equal(logvar[..., 1], jnp.full((3, 2, 2), -30.0))
    assert jnp.abs(logvar[..., 2]).max() < 20


def test_samples_have_the_gaussians_moments_scaled_and_shifted(built):
    model, _, _ = built
    mean, logvar = jnp.array([0.3, -2.0]), jnp.array([-1.0, 0.8])
    shape = (2, 50, 50, 2)
    z = model.sample(KEY, Gaussian(jnp.broadcast_to(mean, shape), jnp.broadcast_to(logvar, shape)))
    np.testing.assert_allclose(z.mean((0, 1, 2)), (mean - 0.3) * 0.5, atol=0.04)
    np.testing.assert_allclose(z.std((0, 1, 2)), jnp.exp(logvar / 2) * 0.5, rtol=0.04)
    assert np.abs(np.corrcoef(z[0, ..., 0].ravel(), z[1, ..., 0].ravel())[0, 1]) < 0.1


def test_a_sample_is_the_same_alone_and_in_a_batch(built):
    model, variables, x = built
    gaussian = model.encode(variables, x)
    ids = jnp.array([4, 9, 2])
    alone = model.sample(KEY, jax.tree.map(lambda v: v[1:2], gaussian), sample_ids=ids[1:2])
    chex.assert_trees_all_close(alone, model.sample(KEY, gaussian, sample_ids=ids)[1:2], atol=1e-6)
    with pytest.raises(ValueError, match="sample_ids must name each of the 3 samples"):
        model.sample(KEY, gaussian, sample_ids=ids[:2])


def test_decoding_takes_the_scale_back(built):
    model, variables, x = built
    gaussian = model.encode(variables, x)
    np.testing.assert_allclose(model.mode(gaussian), (gaussian.mean - 0.3) * 0.5, atol=1e-6)
    expected = jax.jit(model.decoder.apply)({"params": variables.params["decoder"]}, gaussian.mean)
    chex.assert_trees_all_close(model.decode(variables, model.mode(gaussian)), expected, atol=1e-5)
    chex.assert_trees_all_close(model.from_latents(variables, model.to_latents(variables, x)), expected, atol=1e-5)
    chex.assert_trees_all_close(model.forward(variables, x)[0], expected, atol=1e-5)


def test_forward_draws_with_a_key_in_training_only_and_under_jit_and_vmap(built):
    model, variables, x = built
    x_r, output, state = model.forward(variables, x)
    gaussian = model.encode(variables, x)
    chex.assert_trees_all_close((x_r, output.gaussian), (model.decode(variables, model.mode(gaussian)), gaussian),
                                atol=1e-5)
    assert state == {}
    for options in ({"train": True}, {"key": KEY}):
        chex.assert_trees_all_close(model.forward(variables, x, **options)[0], x_r, atol=1e-5)
    keys = jax.random.split(KEY, 2)
    drawn, same, _ = jax.jit(jax.vmap(lambda key: model.forward(variables, x, train=True, key=key)))(keys)
    expected = model.decode(variables, model.sample(keys[1], gaussian))
    chex.assert_trees_all_close(drawn[1], expected, atol=1e-5)
    chex.assert_trees_all_close(same.gaussian.mean[0], gaussian.mean, atol=1e-5)
    assert jnp.abs(drawn[0] - drawn[1]).max() > 1e-3


def test_the_loss_is_the_weighted_divergence_per_number_of_an_image(built):
    """0.5 sum(mean^2 + variance - 1 - logvar), of the unscaled latents."""
    _, variables, x = built
    output = jax.jit(build("kl_autoencoder", **MODEL, kl_weight=0.02).forward)(variables, x)[1]
    mean, logvar = (np.asarray(v, np.float64) for v in output.gaussian)
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum((1, 2, 3))
    np.testing.assert_allclose(output.losses["kl"], 0.02 * kl / 16, rtol=1e-5)
    assert list(output.losses) == ["kl"]


def test_the_objective_takes_the_loss_as_it_is(built):
    model, variables, x = built
    loss, (metrics, _) = jax.jit(lambda v: vqvae_loss(*v, {"image": x}, KEY, forward=model.forward))(variables)
    x_r, output, _ = model.forward(variables, x, train=True, key=KEY)
    np.testing.assert_allclose(metrics["kl"], np.mean(output.losses["kl"]), rtol=1e-5)
    np.testing.assert_allclose(loss, np.mean((x - x_r) ** 2) + np.mean(output.losses["kl"]), rtol=1e-5)


def test_a_device_draws_by_the_place_in_the_global_batch(built):
    _, variables, x = built
    model, x = build("kl_autoencoder", **MODEL, axis_name="d"), jnp.concatenate([x, x[:1]])
    parts = jax.pmap(lambda x: model.forward(variables, x, train=True, key=KEY)[0], axis_name="d")(
        x.reshape(2, 2, *x.shape[1:]))
    whole = built[0].forward(variables, x, train=True, key=KEY)[0]
    chex.assert_trees_all_close(parts.reshape(x.shape), whole, atol=1e-5)


def test_gradients_reach_every_parameter(built):
    model, variables, x = built

    def loss(params):
        x_r, output, _ = model.forward(variables._replace(params=params), x, train=True, key=KEY)
        return jnp.mean((x - x_r) ** 2) + 1e-2 * jnp.mean(gaussian_kl(output.gaussian))

    for path, gradient in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(variables.params)):
        assert np.any(np.asarray(gradient) != 0), jax.tree_util.keystr(path)


def test_latents_are_float32_under_bfloat16():
    model = build("kl_autoencoder", **MODEL, dtype="bfloat16")
    variables, gaussian = jax.eval_shape(
        lambda key: (variables := model.init(key, (4, 4, 1)), model.encode(variables, jnp.ones((1, 4, 4, 1)))),
        KEY)
    assert model.encoder.dtype == model.decoder.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, gaussian))} == {jnp.dtype("float32")}


def test_bad_arguments_are_named():
    encoder, decoder = Encoder(latent_channels=3, **NETWORK), Decoder(image_channels=1, **NETWORK)
    with pytest.raises(ValueError, match="scale must be above 0, got 0"):
        KLAutoencoder(encoder=encoder, decoder=decoder, scale=0)
    with pytest.raises(ValueError, match="kl_weight must not be below 0, got -1"):
        build("kl_autoencoder", **MODEL, kl_weight=-1.0)
    with pytest.raises(ValueError, match="an even number of channels; got 3"):
        jax.eval_shape(lambda: KLAutoencoder(encoder=encoder, decoder=decoder).init(KEY, (4, 4, 1)))
    with pytest.raises(ValueError, match=r"\(5, 5, 1\) comes back from the decoder as \(6, 6, 1\)"):
        jax.eval_shape(lambda: build("kl_autoencoder", **MODEL).init(KEY, (5, 5, 1)))
    with pytest.raises(ValueError, match="unknown argument of model 'kl_autoencoder' 'scal'.*Did you mean 'scale'"):
        build("kl_autoencoder", **MODEL, scal=1.0)
