"""Models refuse bytes where they expect images in [-1, 1], and whole numbers, such as indices, where latents belong."""

from functools import cache

import jax
import jax.numpy as jnp
import pytest

from jaxgen.models import build
from jaxgen.nn import PatchDiscriminator, StyleDiscriminator

KEY = jax.random.key(0)
NETWORK = {"channels": 4, "multipliers": (1, 2), "num_res_blocks": 1, "norm_groups": 2, "middle_attention": False}
SIDES = {"example_channels": 1, "latent_channels": 3, "encoder": NETWORK, "decoder": NETWORK}
VQ = {"name": "vq", "num_codes": 8}
VQVAE = {"name": "vqvae", "quantizer": VQ, **SIDES}
KL = {"name": "kl_autoencoder", **SIDES}
VQVAE2 = {"name": "vqvae2", "latent_channels": 3, "example_channels": 1, "top_quantizer": VQ, "bottom_quantizer": VQ,
          **{part: NETWORK for part in ("bottom_encoder", "top_encoder", "top_decoder", "decoder")}}
LATENT = {"name": "latent_diffusion", "autoencoder": KL, "shape": (4, 4, 3),
          "network": {"name": "dit", "patch_size": 1, "features": 8, "depth": 1, "heads": 2}}
PRIOR = {"name": "token_prior", "tokenizer": VQVAE, "shape": (4, 4),
         "network": {"features": 8, "depth": 1, "heads": 2}}
CLASSIFIER = {"name": "classifier", "num_classes": 3, "channels": (4, 4)}
MODELS = {description["name"]: description for description in (VQVAE, KL, VQVAE2, LATENT, PRIOR, CLASSIFIER)}
TAKE_IMAGES = {"vqvae": "encode forward to_latents to_tokens", "vqvae2": "quantize forward to_indices",
               "kl_autoencoder": "encode forward to_latents", "latent_diffusion": "to_latents",
               "token_prior": "to_tokens", "classifier": "logits features"}


@cache
def built(name):
    model = build(**MODELS[name])
    return model, jax.eval_shape(lambda: model.init(KEY, (8, 8, 1)))


def call(name, function, x):
    model, variables = built(name)
    return jax.eval_shape(getattr(model, function), variables, x)


@pytest.mark.parametrize(("name", "function"), [
    (name, function) for name, functions in TAKE_IMAGES.items() for function in functions.split()])
def test_bytes_are_refused_with_the_way_to_convert_them(name, function):
    for dtype, fix in ((jnp.uint8, "jaxgen.data.to_float"), (jnp.int32, "astype")):
        with pytest.raises(ValueError, match=rf"x must hold floating-point numbers .* {jnp.dtype(dtype)}: .*{fix}"):
            call(name, function, jnp.zeros((2, 8, 8, 1), dtype))


@pytest.mark.parametrize(("name", "function", "argument"), [
    ("vqvae", "decode", "z_q"), ("vqvae", "from_latents", "z"), ("kl_autoencoder", "decode", "z"),
    ("kl_autoencoder", "from_latents", "z"), ("latent_diffusion", "from_latents", "z")])
def test_indices_are_no_latents(name, function, argument):
    with pytest.raises(ValueError, match=f"{argument} must hold floating-point numbers .* int32"):
        call(name, function, jnp.zeros((2, 4, 4, 3), jnp.int32))


def test_indices_are_no_latents_of_either_level():
    z_q = {"top": jnp.zeros((2, 2, 2, 3), jnp.int32), "bottom": jnp.zeros((2, 4, 4, 3))}
    with pytest.raises(ValueError, match=r"z_q\['top'\] must hold floating-point numbers .* int32"):
        call("vqvae2", "decode", z_q)


@pytest.mark.parametrize("network", [PatchDiscriminator(4, layers=1), StyleDiscriminator(4, (1, 2))])
def test_discriminators_refuse_bytes(network):
    variables = jax.eval_shape(network.init, KEY, jnp.zeros((4, 8, 8, 1)))
    with pytest.raises(ValueError, match=r"x must hold floating-point numbers .* uint8: .*jaxgen.data.to_float"):
        jax.eval_shape(network.apply, variables, jnp.zeros((4, 8, 8, 1), jnp.uint8))
