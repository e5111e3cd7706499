import importlib
from pathlib import Path

import jax
import pytest

from experiments import configs
from jaxgen import models

NAMES = sorted(p.stem for p in Path(configs.__file__).parent.glob("[a-z]*_*.py"))
# Image shape and the number of indices for one picture, from each file's own header.
EXPECTED = {
    "vqvae_mnist": ((28, 28, 1), 49), "vqvae_fashion_mnist": ((28, 28, 1), 49), "vqvae_cifar10": ((32, 32, 3), 64),
    "vqvae_celeba64": ((64, 64, 3), 256), "vqvae_emoji32": ((32, 32, 3), 64), "vqvae2_emoji64": ((64, 64, 3), 320),
}


def test_every_configuration_is_checked_here():
    assert set(NAMES) == set(EXPECTED)


@pytest.mark.parametrize("variant", [None, "smoke"])
@pytest.mark.parametrize("name", NAMES)
def test_configurations_build_a_model_with_the_codes_that_their_header_states(name, variant):
    config = importlib.import_module(f"experiments.configs.{name}").get_config(variant)
    image_shape, count = EXPECTED[name]
    model = models.build(**config.model.to_dict(), image_channels=image_shape[-1])

    def indices(key):
        return model.indices(model.init(key, image_shape), jax.numpy.zeros((1, *image_shape)))

    maps = jax.eval_shape(indices, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(maps)) == count
    assert config.num_steps <= 4 if variant else config.num_steps >= 1000


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_variant_is_refused(name):
    with pytest.raises(ValueError, match="Did you mean 'smoke'"):
        importlib.import_module(f"experiments.configs.{name}").get_config("smok")
