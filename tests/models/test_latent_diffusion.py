"""Latent diffusion as a tuple of functions: the latents are the autoencoder's, scaled, and come back as pictures."""

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
    "vq": {"name": "vqvae", "latent_channels": 3, "image_channels": 1, "quantizer": {"name": "vq", "num_codes": 7},
           **SIDES},
    "kl": {"name": "kl_autoencoder", "latent_channels": 3, "image_channels": 1, "scale": 0.5, "shift": 0.2, **SIDES},
}
NETWORK = {"name": "dit", "patch_size": 1, "features": 16, "depth": 1, "heads": 2}
DEVIATION = 1.7
X = jax.random.uniform(jax.random.key(5), (3, *SHAPE), minval=-1)


def description(kind, **changes):
    return {"name": "latent_diffusion", "autoencoder": AUTOENCODERS[kind], "shape": (4, 4, 3), "network": NETWORK,
            "num_classes": 2, **changes}


@pytest.fixture(scope="module", params=AUTOENCODERS)
def built(request):
    descriptions = (description(request.param), AUTOENCODERS[request.param])
    model, autoencoder = (compiled(models.build(**d)) for d in descriptions)
    params, state = drawn(model, SHAPE)
    assert state["deviation"] == 1
    return model, autoencoder, Variables(params, {**state, "deviation": jnp.float32(DEVIATION)})


def test_latents_are_the_encoders_over_their_deviation(built):
    model, autoencoder, (_, state) = built
    own = state["autoencoder"]
    encoded = autoencoder.encode(own.params, X)
    latents = model.latents
    if isinstance(autoencoder, models.VQVAE):
        expected = drawn = encoded
    else:
        ids = jnp.array([4, 9, 2])
        expected, drawn = autoencoder.mode(encoded), autoencoder.sample(KEY, encoded, sample_ids=ids)
        alone = latents(state, X[1:2], key=KEY, sample_ids=ids[1:2])
        np.testing.assert_allclose(alone, latents(state, X, key=KEY, sample_ids=ids)[1:2], atol=1e-5)
        assert np.abs(expected - drawn).max() > 0.05
    np.testing.assert_allclose(latents(state, X), expected / DEVIATION, atol=1e-5)
    found = latents(state, X, key=KEY, sample_ids=jnp.array([4, 9, 2]))
    np.testing.assert_allclose(found, drawn / DEVIATION, atol=1e-5)


def test_pictures_of_latents_are_the_autoencoders_reconstructions(built):
    model, autoencoder, (_, state) = built
    pictures = jax.jit(lambda state: model.pictures(state, model.latents(state, X)))(state)
    np.testing.assert_allclose(pictures, autoencoder.reconstruct(state["autoencoder"], X), atol=1e-5)


def test_a_vq_decoder_sees_nothing_but_codes():
    model = models.build(**description("vq"))
    state = drawn(model, SHAPE).state
    state = {**state, "deviation": jnp.float32(DEVIATION)}
    z = jax.random.normal(jax.random.key(1), (2, 4, 4, 3))
    codebook = np.asarray(state["autoencoder"].params["quantizer"]["codebook"])
    nearest = codebook[((DEVIATION * np.asarray(z)[..., None, :] - codebook) ** 2).sum(-1).argmin(-1)]
    expected = jax.jit(model.autoencoder.decode)(state["autoencoder"].params, nearest)
    np.testing.assert_allclose(jax.jit(model.pictures)(state, z), expected, atol=1e-5)


def test_the_denoiser_is_a_diffusion_models_of_such_arrays_at_deviation_one(built):
    model, _, (params, _) = built
    plain = compiled(models.build("diffusion", image_channels=3, network=NETWORK, num_classes=2, sigma_data=1.0))
    z, sigma = jax.random.normal(KEY, (2, 4, 4, 3)), jnp.array([0.3, 4.0])
    for cond in ({"classes": jnp.array([0, 1])}, model.null(2)):
        np.testing.assert_array_equal(model.denoise(params, z, sigma, cond), plain.denoise(params, z, sigma, cond))
    assert (model.num_classes, model.text_length, model.schedule) == (2, 0, None)


@pytest.mark.parametrize(("kind", "changes", "message"), [
    ("vq", {"autoencoder": {"name": "vqvae2"}}, "of the kind 'vqvae' or 'kl_autoencoder', got 'vqvae2'"),
    ("vq", {"shape": (2, 2, 3)}, r"latents \(4, 4, 3\), but this model is over \(2, 2, 3\)"),
    ("kl", {"shape": (4, 4, 6)}, r"latents \(4, 4, 3\), but this model is over \(4, 4, 6\)"),
    ("kl", {"sigmadata": 1.0}, "Did you mean 'sigma_data'"),
])
def test_mistakes_in_a_description_name_themselves(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        model = models.build(**description(kind, **changes))
        state = jax.eval_shape(lambda: model.init(KEY, SHAPE)).state
        jax.eval_shape(model.latents, state, X)
