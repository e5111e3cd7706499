"""U-Nets that the tests of this folder save and load."""

from functools import cache

import jax
import jax.numpy as jnp

from jaxgen.nn.unet import UNet
from tests.helpers.parameters import filled

WEIGHTS = "diffusion_pytorch_model.safetensors"
TINY = {"channels": (8, 16), "layers": 1, "norm_groups": 4, "down": ("plain", "attention")}
SINGLE = {"channels": (8,), "layers": 1, "norm_groups": 4, "down": ("plain",), "middle": "none"}
CROSSED = {**TINY, "down": ("cross_attention", "plain"), "middle": "cross_attention", "heads": 2}
KEY = jax.random.key(0)


def make(options, *, classes=False, seed=0):
    """A U-Net for images of 3 channels with random parameters; its context has 6 features, its classes are numbers."""
    model = UNet(**options)
    return model, filled(shapes(model, classes), seed)


@cache
def shapes(model, classes):
    """Those of the model's parameters; tracing it takes most of a test's time."""
    context = jnp.ones((1, 2, 6)) if "cross_attention" in (*model.down, model.middle) else None
    classes = jnp.ones(1) if classes else None
    init = lambda key: model.init(key, jnp.ones((1, 8, 8, 3)), jnp.ones(1), classes=classes, context=context)  # noqa: E731
    return jax.eval_shape(init, KEY)["params"]
