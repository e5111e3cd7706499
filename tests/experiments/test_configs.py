import importlib
from pathlib import Path

import jax
import pytest

from experiments import configs
from experiments.diffusion import make_weighting, noise_levels
from experiments.latent_diffusion import latent_shape
from experiments.sampling import TOKEN_SAMPLERS, DiffusionSampler, LatentSampler
from jaxgen import models

ALL = sorted(p.stem for p in Path(configs.__file__).parent.glob("[a-z]*_*.py"))
NAMES = [name for name in ALL if name.startswith("vqvae")]
# Image shape and the number of indices for one picture, from each file's own header.
EXPECTED = {
    "vqvae_mnist": ((28, 28, 1), 49), "vqvae_fashion_mnist": ((28, 28, 1), 49), "vqvae_cifar10": ((32, 32, 3), 64),
    "vqvae_celeba64": ((64, 64, 3), 256), "vqvae_emoji32": ((32, 32, 3), 64), "vqvae2_emoji64": ((64, 64, 3), 320),
}


# Image shape and conditions of the diffusion models.
DIFFUSION = {
    "diffusion_mnist": ((28, 28, 1), {"num_classes": 10}),
    "diffusion_fashion_mnist": ((28, 28, 1), {"num_classes": 10}),
    "dit_mnist": ((28, 28, 1), {"num_classes": 10}), "diffusion_cifar10": ((32, 32, 3), {"num_classes": 10}),
    "diffusion_celeba64": ((64, 64, 3), {}), "diffusion_emoji32": ((32, 32, 3), {}),
}
PRIORS = {"token_prior_mnist": "masked", "token_prior_demo": "masked",
          "token_prior_autoregressive_mnist": "autoregressive"}
CLASSIFIERS = {"classifier_mnist"}
FACTOR_4 = {"channels": 128, "multipliers": (1, 2, 4), "num_res_blocks": 2, "z_channels": 3}
VQ_F4 = {"name": "vqvae", "latent_channels": 3, "quantizer": {"name": "vq", "num_codes": 8192}, "encoder": FACTOR_4,
         "decoder": {**FACTOR_4, "num_res_blocks": 3}}
# The autoencoder and the pictures that a file's own header names, the latents of one picture, and the conditions.
LATENT = {
    "latent_diffusion_mnist": ("vqvae_mnist", (28, 28, 1), (7, 7, 8), {"num_classes": 10}),
    "ldm4_celebahq": (VQ_F4, (256, 256, 3), (64, 64, 3), {}),
}


def get(name, variant=None):
    return importlib.import_module(f"experiments.configs.{name}").get_config(variant)


def test_every_configuration_is_checked_here():
    elsewhere = {name for name in ALL if name.startswith(("vqgan", "kl"))}  # test_vqgan_configs.py
    assert set(ALL) - elsewhere == {*EXPECTED, *DIFFUSION, *PRIORS, *LATENT, *CLASSIFIERS}


@pytest.mark.parametrize("variant", [None, "smoke"])
@pytest.mark.parametrize("name", DIFFUSION)
def test_diffusion_configurations_build_a_denoiser_of_pictures(name, variant):
    config, (image_shape, sizes) = get(name, variant), DIFFUSION[name]
    model = models.build(**config.model.to_dict(), image_channels=image_shape[-1], **sizes)
    assert bool(model.num_classes) == (config.condition == "classes")
    assert bool(model.text_length) == (config.condition == "text")

    def denoised(key):
        x = jax.numpy.zeros((2, *image_shape))
        return model.denoise(model.init(key, image_shape).params, x, jax.numpy.ones(2), model.null(2), key=key)

    assert jax.eval_shape(denoised, jax.random.key(0)).shape == (2, *image_shape)
    noise_levels(model.schedule, **config.noise)(jax.random.key(0), 4)
    make_weighting(**config.weighting)(jax.numpy.ones(2))
    DiffusionSampler(model, image_shape, config.sampling)
    assert config.num_steps <= 4 if variant else config.num_steps >= 1000


@pytest.mark.parametrize("variant", [None, "smoke"])
@pytest.mark.parametrize("name", LATENT)
def test_latent_configurations_build_a_denoiser_of_the_latents_of_their_autoencoder(name, variant):
    config, (autoencoder, image_shape, shape, sizes) = get(name, variant), LATENT[name]
    autoencoder = get(autoencoder).model.to_dict() if isinstance(autoencoder, str) else autoencoder
    autoencoder = {**autoencoder, "image_channels": image_shape[-1]}
    assert latent_shape(autoencoder, image_shape) == shape
    model = models.build(**config.model.to_dict(), autoencoder=autoencoder, shape=shape, **sizes)
    assert bool(model.num_classes) == (config.condition == "classes")

    def denoised(key):
        params = model.init(key, image_shape).params
        return params, model.denoise(params, jax.numpy.zeros((2, *shape)), jax.numpy.ones(2), model.null(2), key=key)

    params, answer = jax.eval_shape(denoised, jax.random.key(0))
    assert answer.shape == (2, *shape)
    if (name, variant) == ("ldm4_celebahq", None):  # of the published weights
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 274_056_163
    noise_levels(model.schedule, **config.noise)(jax.random.key(0), 4)
    make_weighting(**config.weighting)(jax.numpy.ones(2))
    LatentSampler(model, image_shape, config.sampling)
    assert config.num_steps <= 4 if variant else config.num_steps >= 1000


@pytest.mark.parametrize("variant", [None, "smoke"])
@pytest.mark.parametrize("name", PRIORS)
def test_the_priors_configurations_fit_the_tokenizer_that_they_name(name, variant):
    config, tokenizer = get(name, variant), {**get("vqvae_mnist").model.to_dict(), "image_channels": 1}
    prior = models.build(**config.model.to_dict(), tokenizer=tokenizer, shape=(7, 7), num_classes=10)
    assert prior.num_codes == 512 and prior.kind == PRIORS[name]
    TOKEN_SAMPLERS[prior.kind](prior, (28, 28, 1), config.sampling)
    assert config.num_steps <= 4 if variant else config.num_steps >= 600


@pytest.mark.parametrize("variant", [None, "smoke"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_classifiers_configuration_builds_one(name, variant):
    model = models.build(**get(name, variant).model.to_dict(), num_classes=10)

    def logits(key):
        return model.logits(model.init(key, (28, 28, 1)), jax.numpy.zeros((2, 28, 28, 1)))

    assert jax.eval_shape(logits, jax.random.key(0)).shape == (2, 10)


@pytest.mark.parametrize("variant", [None, "smoke"])
@pytest.mark.parametrize("name", NAMES)
def test_configurations_build_a_model_with_the_codes_that_their_header_states(name, variant):
    config = get(name, variant)
    image_shape, count = EXPECTED[name]
    model = models.build(**config.model.to_dict(), image_channels=image_shape[-1])

    def indices(key):
        return model.indices(model.init(key, image_shape), jax.numpy.zeros((1, *image_shape)))

    maps = jax.eval_shape(indices, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(maps)) == count
    assert config.num_steps <= 4 if variant else config.num_steps >= 1000


@pytest.mark.parametrize("name", ALL)
def test_an_unknown_variant_is_refused(name):
    with pytest.raises(ValueError, match="Did you mean 'smoke'"):
        get(name, "smok")
