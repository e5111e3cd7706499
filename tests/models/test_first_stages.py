"""What may be a first stage and what is refused as one, with a message that says what it lacks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import models
from jaxgen.core.types import Variables
from tests.models.test_base import (
    KEY,
    SHAPE,
    TEXT,
    X,
    autoregressive_prior,
    classifier,
    diffusion,
    kl_autoencoder,
    latent_diffusion,
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
    x = np.float32([[0.3, -1.0, 2.0, -0.1]])
    tokens = jax.jit(lambda key: prior.to_tokens(prior.init(key, (4,)), x))(KEY)
    assert tokens.tolist() == [[1, 0, 1, 0]]


@pytest.mark.parametrize("make", [vqvae, masked_prior, models.ByteTokenizer], ids=lambda make: make.__name__)
def test_tokens_lie_below_their_number_in_their_shape(make):
    model, own = variables(make)
    x = TEXT if make is models.ByteTokenizer else X
    tokens = np.asarray(jax.jit(model.to_tokens)(own, x))
    assert tokens.dtype == np.int32 and 0 <= tokens.min() <= tokens.max() < model.num_tokens
    assert tokens.shape == (4, *model.token_shape(x.shape[1:])) and len(np.unique(tokens)) > 1


@pytest.mark.parametrize("make", [latent_diffusion, masked_prior, autoregressive_prior],
                         ids=lambda make: make.__name__)
def test_a_first_stage_and_its_variables_do_by_themselves_what_they_do_inside(make):
    model, own = variables(make)
    first, of_first = model.first_stage(own)
    assert isinstance(of_first, Variables)

    @jax.jit
    def run(own, of_first):
        if make is not latent_diffusion:
            return model.to_tokens(own, X), first.to_tokens(of_first, X)
        z = model.to_latents(own, X)
        inside = z * own.state["std"], model.from_latents(own, z)
        return inside, (first.to_latents(of_first, X), first.forward(of_first, X)[0])

    inside, alone = jax.device_get(run(own, of_first))
    if make is latent_diffusion:
        chex.assert_trees_all_close(inside, alone, atol=1e-5)
    else:
        np.testing.assert_array_equal(inside, alone.reshape(4, -1))
        assert model.token_shape(SHAPE) == (4,) and first.token_shape(SHAPE) == alone.shape[1:] == (2, 2)
