"""KL autoencoders: the posterior, draws of it, the way back, the loss, and what is refused."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen.core.types import Variables
from jaxgen.losses import Gaussian, gaussian_kl
from jaxgen.models import KLAutoencoder, build
from jaxgen.nn import Decoder, Encoder
from jaxgen.objectives import vqvae_loss
from tests.helpers.parameters import drawn

KEY = jax.random.key(0)
NETWORK = {"channels": 4, "multipliers": (1, 2), "num_res_blocks": 0, "norm_groups": 2, "middle_attention": False}
MODEL = {"latent_channels": 3, "example_channels": 1, "encoder": {**NETWORK, "z_channels": 5},
         "decoder": {**NETWORK, "z_channels": 4}, "scale": 0.5, "shift": 0.3}
IDS = np.array([4, 9, 2])


class Found(NamedTuple):
    """What the tests look at, all of one program."""

    variables: Variables
    x: np.ndarray
    output: np.ndarray  # of the encoder only
    decoded: np.ndarray  # by the decoder only, of the means
    gaussian: Gaussian
    mode: np.ndarray
    samples: tuple  # of three places in a batch, and of the second one by itself
    ways: dict  # to the same images, without a draw
    forward: tuple
    forwards: dict  # where nothing is drawn
    draws: tuple  # by vmap over two keys, and the second by decoding a sample
    losses: dict
    objective: tuple
    train: tuple  # `forward` in training
    gradients: dict


@pytest.fixture(scope="module")
def found():
    model, weighted = build("kl_autoencoder", **MODEL), build("kl_autoencoder", **MODEL, kl_weight=0.02)
    variables = drawn(model, (4, 4, 1))
    x = np.random.default_rng(0).uniform(-1, 1, (3, 4, 4, 1)).astype(np.float32)

    def loss(params, x):
        x_r, output, _ = model.forward(Variables(params, {}), x, train=True, key=KEY)
        return jnp.mean((x - x_r) ** 2) + 1e-2 * jnp.mean(gaussian_kl(output.gaussian))

    @jax.jit
    def run(variables, x, key):
        gaussian = model.encode(variables, x)
        output = model.encoder.apply({"params": variables.params["encoder"]}, x)
        mode, keys = model.mode(gaussian), jax.random.split(key, 2)
        alone = model.sample(key, jax.tree.map(lambda v: v[1:2], gaussian), sample_ids=IDS[1:2])
        drawn = jax.vmap(lambda key: model.forward(variables, x, train=True, key=key)[:2])(keys)
        return Found(
            variables=variables, x=x, output=output, gaussian=gaussian, mode=mode,
            decoded=model.decoder.apply({"params": variables.params["decoder"]}, gaussian.mean),
            samples=(model.sample(key, gaussian, sample_ids=IDS), alone),
            ways={"decode": model.decode(variables, mode),
                  "latents": model.from_latents(variables, model.to_latents(variables, x))},
            forward=model.forward(variables, x),
            forwards={name: model.forward(variables, x, **options)[0]
                      for name, options in (("train", {"train": True}), ("key", {"key": key}))},
            draws=(drawn, model.decode(variables, model.sample(keys[1], gaussian))),
            losses=weighted.forward(variables, x)[1].losses,
            objective=vqvae_loss(*variables, {"image": x}, key, forward=model.forward),
            train=model.forward(variables, x, train=True, key=key), gradients=jax.grad(loss)(variables.params, x),
        )

    return jax.device_get(run(variables, x, KEY))


def test_the_encoder_predicts_mean_and_logvar(found):
    assert found.output.shape == (3, 2, 2, 6) and found.variables.state == {}
    chex.assert_trees_all_equal(found.gaussian, Gaussian(found.output[..., :3], found.output[..., 3:]))
    assert {name: found.variables.params[side][name]["kernel"].shape
            for side, name in (("encoder", "quant_conv"), ("decoder", "post_quant_conv"))} == {
        "quant_conv": (1, 1, 5, 6), "post_quant_conv": (1, 1, 3, 4)}


class Given(nn.Module):
    """An encoder whose output is what it is given."""

    def __call__(self, x):
        return x


def test_logvar_is_clipped():
    model = KLAutoencoder(encoder=Given(), decoder=Given())
    x = np.float32([0.3, -7, 100, 1e4, -100, -29])
    gaussian = jax.jit(model.encode)(Variables({"encoder": {}}, {}), np.tile(x, (1, 2, 2, 1)))
    chex.assert_trees_all_equal(gaussian, Gaussian(np.tile(x[:3], (1, 2, 2, 1)), np.tile(
        np.float32([20, -30, -29]), (1, 2, 2, 1))))


def test_samples_have_the_gaussians_moments_scaled_and_shifted():
    mean, logvar = np.float32([0.3, -2.0]), np.float32([-1.0, 0.8])
    shape = (2, 50, 50, 2)
    z = np.asarray(jax.jit(build("kl_autoencoder", **MODEL).sample)(
        KEY, Gaussian(np.broadcast_to(mean, shape), np.broadcast_to(logvar, shape))))
    np.testing.assert_allclose(z.mean((0, 1, 2)), (mean - 0.3) * 0.5, atol=0.04)
    np.testing.assert_allclose(z.std((0, 1, 2)), np.exp(logvar / 2) * 0.5, rtol=0.04)
    assert np.abs(np.corrcoef(z[0, ..., 0].ravel(), z[1, ..., 0].ravel())[0, 1]) < 0.1


def test_a_sample_is_the_same_by_itself_and_in_a_batch(found):
    batch, alone = found.samples
    chex.assert_trees_all_close(alone, batch[1:2], atol=1e-6)
    assert np.abs(batch - found.mode).max() > 0.05
    with pytest.raises(ValueError, match="sample_ids must name each of the 3 samples"):
        build("kl_autoencoder", **MODEL).sample(KEY, found.gaussian, sample_ids=IDS[:2])


def test_decoding_takes_the_scale_back(found):
    np.testing.assert_allclose(found.mode, (found.gaussian.mean - 0.3) * 0.5, atol=1e-6)
    for name, images in {**found.ways, "forward": found.forward[0]}.items():
        np.testing.assert_allclose(images, found.decoded, atol=1e-5, err_msg=name)


def test_forward_draws_with_a_key_in_training_only_and_under_jit_and_vmap(found):
    x_r, output, state = found.forward
    chex.assert_trees_all_close((x_r, output.gaussian), (found.ways["decode"], found.gaussian), atol=1e-5)
    assert state == {}
    for options, images in found.forwards.items():
        np.testing.assert_allclose(images, x_r, atol=1e-5, err_msg=options)
    (drawn, same), expected = found.draws
    chex.assert_trees_all_close(drawn[1], expected, atol=1e-5)
    chex.assert_trees_all_close(same.gaussian.mean[0], found.gaussian.mean, atol=1e-5)
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3


def test_the_loss_is_the_weighted_divergence_per_number_of_an_image(found):
    """0.5 sum(mean^2 + variance - 1 - logvar), of the unscaled latents."""
    mean, logvar = (np.asarray(v, np.float64) for v in found.gaussian)
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum((1, 2, 3))
    np.testing.assert_allclose(found.losses["kl"], 0.02 * kl / 16, rtol=1e-5)
    assert list(found.losses) == ["kl"]


def test_the_objective_takes_the_loss_as_it_is(found):
    loss, (metrics, _) = found.objective
    x_r, output, _ = found.train
    np.testing.assert_allclose(metrics["kl"], np.mean(output.losses["kl"]), rtol=1e-5)
    np.testing.assert_allclose(loss, np.mean((found.x - x_r) ** 2) + np.mean(output.losses["kl"]), rtol=1e-5)


def test_a_device_draws_by_the_place_in_the_global_batch():
    model, whole = (KLAutoencoder(encoder=Given(), decoder=Given(), axis_name=name) for name in ("d", None))
    variables = Variables({"encoder": {}, "decoder": {}}, {})
    moments = np.random.default_rng(1).normal(size=(4, 2, 2, 6)).astype(np.float32)
    parts = jax.pmap(lambda x: model.forward(variables, x, train=True, key=KEY)[0], axis_name="d")(
        moments.reshape(2, 2, 2, 2, 6))
    expected = jax.jit(lambda x: whole.forward(variables, x, train=True, key=KEY)[0])(moments)
    np.testing.assert_allclose(np.asarray(parts).reshape(expected.shape), expected, atol=1e-5)
    assert np.abs(expected - moments[..., :3]).max() > 0.1


def test_gradients_reach_every_parameter(found):
    for path, gradient in jax.tree_util.tree_leaves_with_path(found.gradients):
        assert np.any(gradient != 0), jax.tree_util.keystr(path)


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
