"""Latent diffusion: the latents are the autoencoder's, scaled, and come back as images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import models
from jaxgen.core.types import Variables
from tests.helpers.parameters import drawn

SHAPE, KEY = (8, 8, 1), jax.random.key(0)
SIDES = {side: {"channels": 4, "multipliers": (1, 2), "num_res_blocks": 0, "middle_attention": False, "norm": "none"}
         for side in ("encoder", "decoder")}
AUTOENCODERS = {
    "vq": {"name": "vqvae", "latent_channels": 3, "example_channels": 1, "quantizer": {"name": "vq", "num_codes": 7},
           **SIDES},
    "kl": {"name": "kl_autoencoder", "latent_channels": 3, "example_channels": 1, "scale": 0.5, "shift": 0.2, **SIDES},
}
NETWORK = {"name": "dit", "patch_size": 1, "features": 16, "depth": 1, "heads": 2}
STD = 1.7
RNG = np.random.default_rng(5)
X, Z, NOISY = (RNG.normal(size=shape).astype(np.float32) for shape in ((3, *SHAPE), (2, 4, 4, 3), (2, 4, 4, 3)))
SIGMA, IDS, CLASSES = np.float32([0.3, 4.0]), np.array([4, 9, 2]), {"classes": np.array([0, 1])}


def description(kind, **changes):
    return {"name": "latent_diffusion", "autoencoder": AUTOENCODERS[kind], "shape": (4, 4, 3), "network": NETWORK,
            "conditions": {"name": "classes", "count": 2}, **changes}


@pytest.fixture(scope="module", params=AUTOENCODERS)
def built(request):
    """(model, autoencoder, variables, what both make of the same arrays, in one program)."""
    kind = request.param
    model, autoencoder = models.build(**description(kind)), models.build(**AUTOENCODERS[kind])
    plain = models.build("diffusion", shape=(4, 4, 3), network=NETWORK, sigma_data=1.0,
                         conditions={"name": "classes", "count": 2})
    params, state = drawn(model, SHAPE)
    assert state["std"] == 1
    variables = Variables(params, {**state, "std": jnp.float32(STD)})

    @jax.jit
    def run(variables, x, key):
        own = variables.state["autoencoder"]
        encoded = autoencoder.encode(own, x)
        mode = encoded if kind == "vq" else autoencoder.mode(encoded)
        conds = CLASSES, model.null(2)
        latents = model.to_latents(variables, x)
        return {
            "latents": latents, "drawn": model.to_latents(variables, x, key=key, sample_ids=IDS),
            "alone": model.to_latents(variables, x[1:2], key=key, sample_ids=IDS[1:2]), "mode": mode,
            "sample": encoded if kind == "vq" else autoencoder.sample(key, encoded, sample_ids=IDS),
            "images": model.from_latents(variables, latents), "x_r": autoencoder.forward(own, x)[0],
            "of the autoencoder": autoencoder.to_latents(own, x),
            "denoised": [model.denoise(variables.params, NOISY, SIGMA, cond) for cond in conds],
            "plainly denoised": [plain.denoise(variables.params, NOISY, SIGMA, cond) for cond in conds],
            "of Z": model.from_latents(variables, Z),
        }

    return model, autoencoder, variables, jax.device_get(run(variables, X, KEY))


def test_latents_are_the_encoders_over_their_std(built):
    model, _, _, found = built
    if not isinstance(model.autoencoder, models.VQVAE):
        assert np.abs(found["mode"] - found["sample"]).max() > 0.05
    np.testing.assert_allclose(found["alone"], found["drawn"][1:2], atol=1e-5)
    np.testing.assert_allclose(found["latents"], found["mode"] / STD, atol=1e-5)
    np.testing.assert_allclose(found["drawn"], found["sample"] / STD, atol=1e-5)


def test_images_of_latents_are_the_autoencoders_reconstructions(built):
    np.testing.assert_allclose(built[3]["images"], built[3]["x_r"], atol=1e-5)


def test_a_decoder_sees_the_latents_times_their_std_and_of_a_vqvae_nothing_but_codes(built):
    model, autoencoder, variables, found = built
    own, z = variables.state["autoencoder"], STD * Z
    if isinstance(model.autoencoder, models.VQVAE):
        codebook = np.asarray(own.params["quantizer"]["codebook"])
        z = codebook[((z[..., None, :] - codebook) ** 2).sum(-1).argmin(-1)]
    expected = jax.jit(autoencoder.decode)(own, z)
    np.testing.assert_allclose(found["of Z"], expected, atol=1e-5)


def test_the_denoiser_is_a_diffusion_models_of_such_arrays_at_std_one(built):
    model, _, _, found = built
    np.testing.assert_array_equal(found["denoised"], found["plainly denoised"])
    assert np.abs(found["denoised"][0] - found["denoised"][1]).max() > 1e-3
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
    model, _, _, found = built
    assert models.latent_shape(model.autoencoder, SHAPE) == (4, 4, 3) == found["of the autoencoder"].shape[1:]


def test_the_first_stage_is_the_autoencoder_and_its_variables():
    model = models.build(**description("vq"))
    first, own = model.first_stage(Variables({}, {"std": 1.0, "autoencoder": ({"a": 1}, {"b": 2})}))
    assert first is model.autoencoder and own == Variables({"a": 1}, {"b": 2}) and isinstance(own, Variables)


def test_std_is_measured_over_the_latents_of_all_examples_that_count_with_their_draws(built):
    model, autoencoder, variables, _ = built
    own = variables.state["autoencoder"]
    batches = [(X, IDS, np.ones(3, bool)), (X + 1, IDS + 10, np.array([True, True, False]))]
    found = models.measure_std(model.autoencoder, own, batches, seed=3)
    assert found.dtype == np.float32
    latents = jax.jit(lambda x, i: autoencoder.to_latents(own, x, key=jax.random.key(3), sample_ids=i))
    z = [np.asarray(latents(x, i), np.float64)[mask] for x, i, mask in batches]
    np.testing.assert_allclose(found, np.concatenate(z).std(), rtol=1e-5)


def test_latents_that_do_not_vary_have_no_std(built):
    model, _, variables, _ = built
    still = jax.tree.map(np.zeros_like, variables.state["autoencoder"])
    batches = [(X, np.arange(3), np.ones(3, bool))]
    if hasattr(model.autoencoder, "quantizer"):
        with pytest.raises(ValueError, match="the latents have the variance 0: this autoencoder tells no example"):
            models.measure_std(model.autoencoder, still, batches)
    else:  # draws of a posterior vary by themselves
        np.testing.assert_allclose(models.measure_std(model.autoencoder, still, batches), 0.5, rtol=0.2)
