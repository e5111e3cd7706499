"""What may be a first stage and what is refused as one, with a message that says what it lacks."""


import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import models
from jaxgen.core.types import Variables
from tests.models.test_base import (
    KEY,
    TEXT,
    X,
    autoregressive_prior,
    classifier,
    diffusion,
    kl_autoencoder,
    masked_prior,
    variables,
    vqvae,
    vqvae2,
)


@pytest.mark.parametrize(("tokenizer", "name"), [
    (vqvae2, "VQVAE2"), (kl_autoencoder, "KLAutoencoder"), (classifier, "Classifier"), (lambda: None, "NoneType")])
@pytest.mark.parametrize("make", [masked_prior, autoregressive_prior], ids=lambda make: make.__name__)
def test_what_is_no_tokenizer_has_no_prior(make, tokenizer, name):
    with pytest.raises(ValueError, match=f"a token prior needs a tokenizer, .* 'vqvae' or 'bytes'; got a {name}$"):
        make(tokenizer)


@pytest.mark.parametrize(("autoencoder", "name"), [
    (vqvae2, "VQVAE2"), (classifier, "Classifier"), (models.ByteTokenizer, "ByteTokenizer"), (diffusion, "Diffusion")])
def test_what_is_no_autoencoder_has_no_latent_diffusion(autoencoder, name):
    with pytest.raises(ValueError, match=f"latent diffusion needs an autoencoder, .*; got a {name}"):
        models.LatentDiffusion(model=diffusion(), autoencoder=autoencoder())


NETWORK = {"channels": 4, "multipliers": (1,), "num_res_blocks": 0, "norm_groups": 2, "middle_attention": False}
FIRST = {
    "vqvae2": {"latent_channels": 3, "example_channels": 1, "top_quantizer": {"name": "vq", "num_codes": 8},
               "bottom_quantizer": {"name": "vq", "num_codes": 8},
               **{part: NETWORK for part in ("bottom_encoder", "top_encoder", "top_decoder", "decoder")}},
    "kl_autoencoder": {"latent_channels": 3, "example_channels": 1, "encoder": NETWORK, "decoder": NETWORK},
}


@pytest.mark.parametrize(("name", "kind"), [("vqvae2", "VQVAE2"), ("kl_autoencoder", "KLAutoencoder")])
def test_a_description_of_another_first_stage_is_refused_with_its_kind(name, kind):
    with pytest.raises(ValueError, match=f"a token prior needs a tokenizer, .*got a {kind}"):
        models.build("token_prior", tokenizer={"name": name, **FIRST[name]}, shape=(4, 4), network={})
    if kind == "VQVAE2":
        with pytest.raises(ValueError, match=f"latent diffusion needs an autoencoder, .*got a {kind}"):
            models.build("latent_diffusion", autoencoder={"name": name, **FIRST[name]}, shape=(4, 4, 3),
                         network={"name": "dit"})


def test_a_class_of_ones_own_with_the_methods_is_a_first_stage():
    """Nothing has to inherit."""
    class Halves:
        num_tokens = 2

        def init(self, key, example_shape):
            return Variables({}, {})

        def to_tokens(self, variables, x):
            return (x > 0).astype(jnp.int32)

        def from_tokens(self, variables, tokens):
            return tokens - 0.5

        def token_shape(self, example_shape):
            return example_shape

    prior = masked_prior(Halves, shape=(4,), codes=2)
    tokens = prior.to_tokens(prior.init(KEY, (4,)), jnp.array([[0.3, -1.0, 2.0, -0.1]]))
    assert tokens.tolist() == [[1, 0, 1, 0]]


@pytest.mark.parametrize("make", [vqvae, masked_prior, models.ByteTokenizer], ids=lambda make: make.__name__)
def test_tokens_lie_below_their_number_in_their_shape(make):
    model, own = variables(make)
    x = TEXT if make is models.ByteTokenizer else X
    tokens = np.asarray(model.to_tokens(own, x))
    assert tokens.dtype == np.int32 and 0 <= tokens.min() <= tokens.max() < model.num_tokens
    assert tokens.shape == (4, *model.token_shape(x.shape[1:])) and len(np.unique(tokens)) > 1
