"""Configurations of models with a discriminator: shapes, and the parameters that the published ones have."""

import jax
import jax.numpy as jnp
import pytest

from experiments.common.training import make_optimizer
from jaxgen import models
from tests.experiments.built import build, forward_shapes, get, loss_shape, shapes
from tests.experiments.test_configs import ALL

# Image, and the shape of its codes or latents, from each file's header.
VQGANS = {
    "vqgan_mnist": ((28, 28, 1), (7, 7)), "vqgan_fashion_mnist": ((28, 28, 1), (7, 7)),
    "vqgan_emoji32": ((32, 32, 3), (8, 8)), "vqgan_emoji64": ((64, 64, 3), (16, 16)),
    "vqgan_photos": ((128, 128, 3), (8, 8, 6)),
    "vqgan_cifar10": ((32, 32, 3), (8, 8)), "vqgan_celeba64": ((64, 64, 3), (16, 16)),
    "vqgan_imagenet_taming": ((256, 256, 3), (16, 16)), "vqgan_imagenet_llamagen": ((256, 256, 3), (16, 16)),
    "vqgan_imagenet_maskgit": ((256, 256, 3), (16, 16)), "kl_mnist": ((28, 28, 1), (7, 7, 4)),
    "kl_fashion_mnist": ((28, 28, 1), (7, 7, 4)), "kl_celeba64": ((64, 64, 3), (16, 16, 4)),
}


def test_every_such_configuration_is_checked_here():
    assert {name for name in ALL if name.startswith(("vqgan", "kl"))} == set(VQGANS)


@pytest.mark.parametrize("variant", [pytest.param(None, marks=pytest.mark.slow), "smoke"])
@pytest.mark.parametrize("name", VQGANS)
def test_autoencoder_and_discriminator_fit_the_images(name, variant):
    example_shape, shape = VQGANS[name]
    if variant and name.startswith("vqgan_imagenet"):
        example_shape, shape = (64, 64, 3), (4, 4)
    config, recipe = build(name, variant, example_shape)
    assert config.data.image_size in (0, example_shape[0])
    variables = shapes(recipe)
    x_r, outputs, _ = forward_shapes(recipe, variables)
    codes = models.latent_shape(recipe.model, example_shape) if name.startswith("kl") else outputs.indices.shape[1:]
    assert codes == shape and x_r.shape == (2, *example_shape)
    params, own = jax.eval_shape(recipe.adversary.init, jax.random.key(0))
    assert own is not None
    if variant:
        assert loss_shape(recipe, variables, discriminator_params=params, step=jnp.zeros((), int)) == ()
    for optimizer in (config.optimizer, config.discriminator_optimizer):
        make_optimizer(optimizer, config.num_steps)
    assert config.num_steps <= 4 if variant else config.num_steps >= 1000
    assert config.adversarial.start < config.num_steps


def resnet(cin, cout):
    """Parameters of a residual block: two norms, two 3x3 convolutions, a 1x1 where the features change."""
    return 2 * cin + (9 * cin + 1) * cout + 2 * cout + (9 * cout + 1) * cout + (cin != cout) * (cin + 1) * cout


def attention(c):
    return 2 * c + 4 * (c + 1) * c


def test_tamings_autoencoder_has_the_parameters_that_its_description_makes():
    """By the description of its configuration: ch 128, ch_mult 1 1 2 2 4, 2 blocks, attention at 16, z 256."""
    widths, z = [128, 128, 256, 256, 512], 256
    encoder, c = (9 * 3 + 1) * 128, 128
    for level, width in enumerate(widths):
        for _ in range(2):
            encoder += resnet(c, width) + (attention(width) if level == 4 else 0)
            c = width
        encoder += (9 * c + 1) * c if level < 4 else 0
    encoder += 2 * resnet(c, c) + attention(c) + 2 * c + (9 * c + 1) * z + (z + 1) * z
    decoder, c = (z + 1) * z + (9 * z + 1) * 512 + 2 * resnet(512, 512) + attention(512), 512
    for level, width in reversed(list(enumerate(widths))):
        for _ in range(3):
            decoder += resnet(c, width) + (attention(width) if level == 4 else 0)
            c = width
        decoder += (9 * c + 1) * c if level else 0
    decoder += 2 * c + (9 * c + 1) * 3
    model = models.build(**get("vqgan_imagenet_taming").model.to_dict(), example_channels=3)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), (256, 256, 3))).params
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in params.items()}
    assert counts == {"encoder": encoder, "decoder": decoder, "quantizer": 1024 * 256}
