"""Configurations of models with a discriminator: shapes, and the parameters that the published ones have."""

import jax
import jax.numpy as jnp
import pytest

from experiments.vqgan import GAN_LOSSES
from jaxgen import models
from jaxgen.train import make_optimizer
from tests.experiments.test_configs import ALL, get

# Picture, and the shape of its codes or latents, from each file's header.
VQGANS = {
    "vqgan_mnist": ((28, 28, 1), (7, 7)), "vqgan_fashion_mnist": ((28, 28, 1), (7, 7)),
    "vqgan_emoji32": ((32, 32, 3), (8, 8)), "vqgan_emoji64": ((64, 64, 3), (16, 16)),
    "vqgan_cifar10": ((32, 32, 3), (8, 8)), "vqgan_celeba64": ((64, 64, 3), (16, 16)),
    "vqgan_imagenet_taming": ((256, 256, 3), (16, 16)), "vqgan_imagenet_llamagen": ((256, 256, 3), (16, 16)),
    "vqgan_imagenet_maskgit": ((256, 256, 3), (16, 16)), "kl_mnist": ((28, 28, 1), (7, 7, 4)),
    "kl_celeba64": ((64, 64, 3), (16, 16, 4)),
}


def test_every_such_configuration_is_checked_here():
    assert {name for name in ALL if name.startswith(("vqgan", "kl"))} == set(VQGANS)


@pytest.mark.parametrize("variant", [None, "smoke"])
@pytest.mark.parametrize("name", VQGANS)
def test_autoencoder_and_discriminator_fit_the_pictures(name, variant):
    config, (image_shape, shape) = get(name, variant), VQGANS[name]
    if variant and name.startswith("vqgan_imagenet"):
        image_shape, shape = (64, 64, 3), (4, 4)
    assert config.data.image_size in (0, image_shape[0])
    model = models.build(**config.model.to_dict(), image_channels=image_shape[-1])
    discriminator = models.build_discriminator(**config.discriminator.to_dict())
    x = jnp.zeros((2, *image_shape))

    def run(key):
        variables = model.init(key, image_shape)
        kl = isinstance(model, models.KLAutoencoder)
        codes = model.encode(variables.params, x).mean if kl else model.indices(variables, x)
        logits = discriminator.apply(discriminator.init(key, x), x)
        return codes, model.reconstruct(variables, x), logits, variables.params["decoder"]["conv_out"]["kernel"]

    codes, x_r, logits, _ = jax.eval_shape(run, jax.random.key(0))
    assert codes.shape == (2, *shape) and x_r.shape == x.shape and logits.shape[0] == 2
    assert config.adversarial.loss in GAN_LOSSES
    for optimizer in (config.optimizer, config.discriminator_optimizer):
        kwargs = {key: value for key, value in optimizer.to_dict().items() if key not in ("schedule", "warmup_steps")}
        make_optimizer(**kwargs)
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
    model = models.build(**get("vqgan_imagenet_taming").model.to_dict(), image_channels=3)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), (256, 256, 3))).params
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in params.items()}
    assert counts == {"encoder": encoder, "decoder": decoder, "quantizer": 1024 * 256}
