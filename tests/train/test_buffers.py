"""No array of fresh variables or of a fresh training state stands twice: a step could not be given it to overwrite.

Only the functions' equations are looked at, so that nothing is compiled.
"""

import jax
import optax
import pytest

from jaxgen.models.build import MODELS, build
from jaxgen.train import init_state

NETWORKS = {"channels": 8, "multipliers": (1,), "num_res_blocks": 1}
QUANTIZER = {"name": "vq", "num_codes": 8, "ema_decay": 0.9, "kmeans_iterations": 1, "revive_below": 0.1}
VQVAE = {"latent_channels": 4, "example_channels": 1, "encoder": NETWORKS, "decoder": NETWORKS, "quantizer": QUANTIZER}
DIT = {"name": "dit", "depth": 1, "features": 16, "heads": 2, "patch_size": 2}
MODELS_OF_8_PIXELS = {
    "vqvae": VQVAE | {"quantizer": {"name": "residual", "quantizer": QUANTIZER, "depth": 2}},
    "vqvae2": {
        "latent_channels": 4, "example_channels": 1, "top_quantizer": QUANTIZER, "bottom_quantizer": QUANTIZER,
        "bottom_encoder": NETWORKS | {"multipliers": (1, 1)}, "top_encoder": NETWORKS | {"multipliers": (1, 1)},
        "top_decoder": NETWORKS | {"multipliers": (1, 1)}, "decoder": NETWORKS | {"multipliers": (1, 1)},
    },
    "kl_autoencoder": {name: VQVAE[name] for name in VQVAE if name != "quantizer"},
    "diffusion": {"network": DIT, "shape": (8, 8, 1)},
    "latent_diffusion": {"network": DIT, "autoencoder": {"name": "vqvae", **VQVAE}, "shape": (8, 8, 4)},
    "token_prior": {
        "network": {"depth": 1, "features": 16, "heads": 2}, "tokenizer": {"name": "vqvae", **VQVAE}, "shape": (8, 8)},
    "classifier": {"num_classes": 3, "channels": (8,)},
}


def test_every_model_is_looked_at():
    assert MODELS_OF_8_PIXELS.keys() | {"bytes"} == MODELS.keys()  # bytes have no variables


@pytest.mark.parametrize("name", MODELS_OF_8_PIXELS)
def test_no_array_of_a_models_first_variables_or_state_stands_twice(name):
    model = build(name, **MODELS_OF_8_PIXELS[name])

    def start(key):
        variables = model.init(key, (8, 8, 1))
        return variables, init_state(*variables, optax.adamw(1e-3), ema=True)

    arrays = jax.make_jaxpr(start)(jax.random.key(0)).jaxpr.outvars
    assert len(set(map(id, arrays))) == len(arrays) > 1
