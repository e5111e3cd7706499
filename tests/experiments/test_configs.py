"""Each configuration goes through its own script's `build`, on a data set of the shape that its header names."""

from pathlib import Path

import jax
import pytest

from experiments import configs
from jaxgen import models
from tests.experiments.built import build, forward_shapes, get, loss_shape, shapes

ALL = sorted(p.stem for p in Path(configs.__file__).parent.glob("[a-z]*_*.py"))
# Image shape and the number of indices for one image, from each file's own header.
EXPECTED = {
    "vqvae_mnist": ((28, 28, 1), 49), "vqvae_fashion_mnist": ((28, 28, 1), 49), "vqvae_cifar10": ((32, 32, 3), 64),
    "vqvae_celeba64": ((64, 64, 3), 256), "vqvae_emoji32": ((32, 32, 3), 64), "vqvae2_emoji64": ((64, 64, 3), 320),
    "vqvae_emoji64": ((64, 64, 3), 384),
}
# Image shape and classes of the diffusion models.
DIFFUSION = {
    "diffusion_mnist": ((28, 28, 1), 10), "diffusion_fashion_mnist": ((28, 28, 1), 10), "dit_mnist": ((28, 28, 1), 10),
    "diffusion_cifar10": ((32, 32, 3), 10), "diffusion_celeba64": ((64, 64, 3), 0),
    "diffusion_emoji32": ((32, 32, 3), 0),
}
# Kind of prior; the tokenizer, the image, its map of codes and the classes that each file's header names.
DIGITS = ("vqvae_mnist", (28, 28, 1), (7, 7), 10)
PRIORS = {
    "token_prior_mnist": ("masked", *DIGITS), "token_prior_demo": ("masked", *DIGITS),
    "token_prior_autoregressive_mnist": ("autoregressive", *DIGITS),
    "token_prior_emoji32": ("autoregressive", "vqgan_emoji32", (32, 32, 3), (8, 8), 7),
    "token_prior_text_emoji32": ("autoregressive", "vqgan_emoji32", (32, 32, 3), (8, 8), 0),
    "token_prior_autoregressive_fashion_mnist": ("autoregressive", "vqvae_fashion_mnist", (28, 28, 1), (7, 7), 10),
    "token_prior_fashion_mnist": ("masked", "vqgan_fashion_mnist", (28, 28, 1), (7, 7), 10),
    "token_prior_emoji64": ("autoregressive", "vqgan_emoji64", (64, 64, 3), (16, 16), 7),
    "token_prior_cifar10": ("masked", "vqgan_cifar10", (32, 32, 3), (8, 8), 10),
    "token_prior_celeba64": ("autoregressive", "vqgan_celeba64", (64, 64, 3), (16, 16), 0),
    "token_prior_photos": ("masked", "vqgan_photos", (128, 128, 3), (8, 8, 6), 0),
    "token_prior_imagenet_maskgit": ("masked", "vqgan_imagenet_maskgit", (256, 256, 3), (16, 16), 1000),
}
CLASSIFIERS = ("classifier_mnist", "classifier_fashion_mnist")
FACTOR_4 = {"channels": 128, "multipliers": (1, 2, 4), "num_res_blocks": 1, "z_channels": 3}
VQ_F4 = {"name": "vqvae", "latent_channels": 3, "quantizer": {"name": "vq", "num_codes": 8192}, "encoder": FACTOR_4,
         "decoder": FACTOR_4}
# The autoencoder and the examples that a file's own header names, the latents of one image, and the conditions.
LATENT = {
    "latent_diffusion_mnist": ("vqvae_mnist", (28, 28, 1), (7, 7, 8), 10),
    "latent_diffusion_fashion_mnist": ("kl_fashion_mnist", (28, 28, 1), (7, 7, 4), 10),
    "latent_diffusion_emoji32": ("vqvae_emoji32", (32, 32, 3), (8, 8, 8), 7),
    "latent_diffusion_text_emoji32": ("vqvae_emoji32", (32, 32, 3), (8, 8, 8), 0),
    "latent_diffusion_celeba64": ("kl_celeba64", (64, 64, 3), (16, 16, 4), 0),
    "ldm4_celebahq": (VQ_F4, (256, 256, 3), (64, 64, 3), 0),
}


variants = pytest.mark.parametrize("variant", [pytest.param(None, marks=pytest.mark.slow), "smoke"])


def check_conditions(config, recipe, classes):
    """The header's classes are the model's condition, or its captions are, or nothing is."""
    conditions = recipe.model.conditions
    assert type(conditions) is {"none": models.Unconditional, "classes": models.Classes,
                                "text": models.Text}[config.conditions.name]
    assert conditions.num_classes == classes


def check_length(config, variant, least=1000):
    assert config.num_steps <= 4 if variant else config.num_steps >= least


def test_every_configuration_is_checked_here():
    elsewhere = {name for name in ALL if name.startswith(("vqgan", "kl"))}  # test_vqgan_configs.py
    assert set(ALL) - elsewhere == {*EXPECTED, *DIFFUSION, *PRIORS, *LATENT, *CLASSIFIERS}


@variants
@pytest.mark.parametrize("name", DIFFUSION)
def test_diffusion_configurations_build_a_denoiser_of_images(name, variant):
    shape, classes = DIFFUSION[name]
    config, recipe = build(name, variant, shape, classes)
    check_conditions(config, recipe, classes)
    assert recipe.model.sample_shape == shape
    assert loss_shape(recipe, shapes(recipe)) == ()
    check_length(config, variant)


@variants
@pytest.mark.parametrize("name", LATENT)
def test_latent_configurations_build_a_denoiser_of_the_latents_of_their_autoencoder(name, variant):
    autoencoder, example_shape, shape, classes = LATENT[name]
    autoencoder = get(autoencoder, variant).model.to_dict() if isinstance(autoencoder, str) else autoencoder
    config, recipe = build(name, variant, example_shape, classes, first=autoencoder)
    check_conditions(config, recipe, classes)
    assert recipe.model.sample_shape == shape
    if (name, variant) == ("ldm4_celebahq", None):  # of the published weights
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes(recipe).params)) == 274_056_163
    else:
        assert loss_shape(recipe, shapes(recipe)) == ()
    check_length(config, variant)


@variants
@pytest.mark.parametrize("name", PRIORS)
def test_the_priors_configurations_fit_the_tokenizer_that_they_name(name, variant):
    kind, tokenizer, example_shape, shape, classes = PRIORS[name]
    tokenizer = get(tokenizer, variant).model.to_dict()
    config, recipe = build(name, variant, example_shape, classes, first=tokenizer)
    check_conditions(config, recipe, classes)
    quantizer = tokenizer["quantizer"].get("quantizer", tokenizer["quantizer"])  # that of a residual one's levels
    assert recipe.model.sample_shape == shape and recipe.model.num_tokens == quantizer["num_codes"]
    assert isinstance(recipe.model.model, {"masked": models.MaskedTokens, "autoregressive": models.NextTokens}[kind])
    if variant:
        assert loss_shape(recipe, shapes(recipe)) == ()
    check_length(config, variant, 400)


@variants
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_classifiers_configuration_builds_one(name, variant):
    config, recipe = build(name, variant, (28, 28, 1), 10)
    assert recipe.model.num_classes == 10 and loss_shape(recipe, shapes(recipe)) == ()
    check_length(config, variant, 400)


@variants
@pytest.mark.parametrize("name", EXPECTED)
def test_configurations_build_a_model_with_the_codes_that_their_header_states(name, variant):
    example_shape, count = EXPECTED[name]
    config, recipe = build(name, variant, example_shape)
    x_r, outputs, _ = forward_shapes(recipe, shapes(recipe), count=1)
    maps = outputs.values() if isinstance(outputs, dict) else [outputs]
    assert x_r.shape == (1, *example_shape) and sum(output.indices.size for output in maps) == count
    check_length(config, variant)


@pytest.mark.parametrize("name", ALL)
def test_an_unknown_variant_is_refused(name):
    with pytest.raises(ValueError, match="Did you mean 'smoke'"):
        get(name, "smok")


# By the papers' own text or, where it is silent, their published configurations.
PUBLISHED = {
    "vqgan_imagenet_taming": {
        "model.quantizer.num_codes": 1024, "model.latent_channels": 256, "optimizer.learning_rate": 4.32e-4,
        "data.batch_size": 96, "optimizer.b1": 0.5, "optimizer.b2": 0.9, "adversarial.loss": "hinge",
        "adversarial.weight": 0.8, "adversarial.adaptive": True, "perceptual.weight": 1.0, "reconstruction": "l1",
    },
    "vqgan_imagenet_maskgit": {
        "model.quantizer.num_codes": 1024, "model.latent_channels": 256, "reconstruction": "l2",
        "perceptual.weight": 0.1, "adversarial.loss": "non_saturating", "adversarial.weight": 0.1,
        "adversarial.adaptive": False, "adversarial.r1": 2 * 10, "optimizer.learning_rate": 1e-4, "optimizer.b1": 0.0,
        "optimizer.b2": 0.99, "ema_decay": 0.999,
    },
    "vqgan_imagenet_llamagen": {
        "model.quantizer.num_codes": 16384, "model.latent_channels": 8, "model.quantizer.metric": "cosine",
        "adversarial.loss": "hinge", "adversarial.weight": 0.5, "adversarial.start": 20_000, "reconstruction": "l2",
        "optimizer.learning_rate": 1e-4, "optimizer.b1": 0.9, "optimizer.b2": 0.95, "data.batch_size": 128,
    },
    "token_prior_imagenet_maskgit": {
        "objective": "maskgit", "model.network.features": 768, "model.network.depth": 24, "model.network.heads": 8,
        "optimizer.b1": 0.9, "optimizer.b2": 0.96, "data.batch_size": 256, "num_steps": 1_500_000,
        "optimizer.learning_rate": 1e-4, "optimizer.weight_decay": 0.045, "drop_condition": 0.0,
        "sampling.solver": "maskgit", "sampling.steps": 8, "sampling.choice_temperature": 4.5,
    },
    "ldm4_celebahq": {
        "optimizer.learning_rate": 9.6e-5, "data.batch_size": 48, "num_steps": 410_000, "model.kind": "eps",
        "model.schedule.beta_start": 0.0015, "model.schedule.beta_end": 0.0195, "model.schedule.steps": 1000,
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes_have_their_published_values(name):
    config = get(name)
    for path, expected in PUBLISHED[name].items():
        value = config
        for part in path.split("."):
            value = value[part]
        assert value == pytest.approx(expected) if isinstance(expected, float) else value == expected, path
