"""Latent diffusion: the latents are the autoencoder's, scaled, and come back as images."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import models
from jaxgen.core.types import Variables
from tests.helpers.parameters import compiled, drawn

SHAPE, KEY = (8, 8, 1), jax.random.key(0)
SIDES = {side: {"channels": 8, "multipliers": (1, 2), "num_res_blocks": 1, "middle_attention": False, "norm_groups": 4}
         for side in ("encoder", "decoder")}
AUTOENCODERS = {
    "vq": {"name": "vqvae", "latent_channels": 3, "example_channels": 1, "quantizer": {"name": "vq", "num_codes": 7},
           **SIDES},
    "kl": {"name": "kl_autoencoder", "latent_channels": 3, "example_channels": 1, "scale": 0.5, "shift": 0.2, **SIDES},
}
NETWORK = {"name": "dit", "patch_size": 1, "features": 16, "depth": 1, "heads": 2}
STD = 1.7
X = jax.random.uniform(jax.random.key(5), (3, *SHAPE), minval=-1)


def description(kind, **changes):
    return {"name": "latent_diffusion", "autoencoder": AUTOENCODERS[kind], "shape": (4, 4, 3), "network": NETWORK,
            "conditions": {"name": "classes", "count": 2}, **changes}


@pytest.fixture(scope="module", params=AUTOENCODERS)
def built(request):
    descriptions = (description(request.param), AUTOENCODERS[request.param])
    model, autoencoder = (compiled(models.build(**d)) for d in descriptions)
    params, state = drawn(model, SHAPE)
    assert state["std"] == 1
    return model, autoencoder, Variables(params, {**state, "std": jnp.float32(STD)})


def test_latents_are_the_encoders_over_their_std(built):
    model, autoencoder, variables = built
    own, latents = variables.state["autoencoder"], partial(model.to_latents, variables)
    encoded = autoencoder.encode(own, X)
    if isinstance(model.autoencoder, models.VQVAE):
        expected = drawn = encoded
    else:
        ids = jnp.array([4, 9, 2])
        expected, drawn = autoencoder.mode(encoded), autoencoder.sample(KEY, encoded, sample_ids=ids)
        alone = latents(X[1:2], key=KEY, sample_ids=ids[1:2])
        np.testing.assert_allclose(alone, latents(X, key=KEY, sample_ids=ids)[1:2], atol=1e-5)
        assert np.abs(expected - drawn).max() > 0.05
    np.testing.assert_allclose(latents(X), expected / STD, atol=1e-5)
    found = latents(X, key=KEY, sample_ids=jnp.array([4, 9, 2]))
    np.testing.assert_allclose(found, drawn / STD, atol=1e-5)


def test_images_of_latents_are_the_autoencoders_reconstructions(built):
    model, autoencoder, variables = built
    images = jax.jit(lambda variables: model.from_latents(variables, model.to_latents(variables, X)))(variables)
    expected = autoencoder.forward(variables.state["autoencoder"], X)[0]
    np.testing.assert_allclose(images, expected, atol=1e-5)


def test_a_vq_decoder_sees_nothing_but_codes():
    model = models.build(**description("vq"))
    params, state = drawn(model, SHAPE)
    state = {**state, "std": jnp.float32(STD)}
    z = jax.random.normal(jax.random.key(1), (2, 4, 4, 3))
    codebook = np.asarray(state["autoencoder"].params["quantizer"]["codebook"])
    nearest = codebook[((STD * np.asarray(z)[..., None, :] - codebook) ** 2).sum(-1).argmin(-1)]
    expected = jax.jit(model.autoencoder.decode)(state["autoencoder"], nearest)
    np.testing.assert_allclose(jax.jit(model.from_latents)(Variables(params, state), z), expected, atol=1e-5)


def test_the_denoiser_is_a_diffusion_models_of_such_arrays_at_std_one(built):
    model, _, (params, _) = built
    plain = compiled(models.build("diffusion", shape=(4, 4, 3), network=NETWORK, sigma_data=1.0,
                                  conditions={"name": "classes", "count": 2}))
    z, sigma = jax.random.normal(KEY, (2, 4, 4, 3)), jnp.array([0.3, 4.0])
    for cond in ({"classes": jnp.array([0, 1])}, model.null(2)):
        np.testing.assert_array_equal(model.denoise(params, z, sigma, cond), plain.denoise(params, z, sigma, cond))
    assert (model.conditions, model.schedule, model.sample_shape) == (models.Classes(2), None, (4, 4, 3))


@pytest.mark.parametrize(("kind", "changes", "message"), [
    ("vq", {"autoencoder": {"name": "bytes"}}, "needs an autoencoder, .* 'kl_autoencoder'; got a ByteTokenizer"),
    ("vq", {"shape": (2, 2, 3)}, r"latents \(4, 4, 3\), but this model is over \(2, 2, 3\)"),
    ("kl", {"shape": (4, 4, 6)}, r"latents \(4, 4, 3\), but this model is over \(4, 4, 6\)"),
    ("kl", {"sigmadata": 1.0}, "Did you mean 'sigma_data'"),
])
def test_mistakes_in_a_description_name_themselves(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        model = models.build(**description(kind, **changes))
        variables = jax.eval_shape(lambda: model.init(KEY, SHAPE))
        jax.eval_shape(model.to_latents, variables, X)


def test_latent_shape_is_that_of_the_latents_of_one_example(built):
    model, autoencoder, variables = built
    found = models.latent_shape(model.autoencoder, SHAPE)
    assert found == (4, 4, 3) == autoencoder.to_latents(variables.state["autoencoder"], X).shape[1:]


def test_the_first_stage_is_the_autoencoder_and_its_variables(built):
    _, _, variables = built
    model = models.build(**description("vq"))
    first, own = model.first_stage(variables._replace(state={**variables.state, "autoencoder": ({"a": 1}, {"b": 2})}))
    assert first is model.autoencoder and own == Variables({"a": 1}, {"b": 2}) and isinstance(own, Variables)


def test_std_is_measured_over_the_latents_of_all_examples_that_count_with_their_draws(built):
    model, autoencoder, variables = built
    own = variables.state["autoencoder"]
    ids, mask = jnp.array([4, 9, 2]), np.array([True, True, False])
    batches = [(X, ids, np.ones(3, bool)), (X + 1, ids + 10, mask)]
    found = models.measure_std(model.autoencoder, own, batches, seed=3)
    assert found.dtype == np.float32
    z = [np.asarray(autoencoder.to_latents(own, x, key=jax.random.key(3), sample_ids=i), np.float64)[m]
         for x, i, m in batches]
    np.testing.assert_allclose(found, np.concatenate(z).std(), rtol=1e-5)


def test_latents_that_do_not_vary_have_no_std(built):
    model, _, variables = built
    still = jax.tree.map(jnp.zeros_like, variables.state["autoencoder"])
    batches = [(X, jnp.arange(3), np.ones(3, bool))]
    if hasattr(model.autoencoder, "quantizer"):
        with pytest.raises(ValueError, match="the latents have the variance 0: this autoencoder tells no example"):
            models.measure_std(model.autoencoder, still, batches)
    else:  # draws of a posterior vary by themselves
        np.testing.assert_allclose(models.measure_std(model.autoencoder, still, batches), 0.5, rtol=0.2)
