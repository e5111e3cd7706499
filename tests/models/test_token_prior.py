"""Token priors as tuples of functions: tokens and pictures of their tokenizer, logits of both kinds, the cache."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import models, nn
from jaxgen import tokens as tk
from jaxgen.nn import encode_text
from tests.helpers.parameters import compiled, drawn

TOKENIZER = {"name": "vqvae", "latent_channels": 4, "image_channels": 1, "quantizer": {"name": "vq", "num_codes": 7},
             **{side: {"channels": 8, "multipliers": (1, 2), "num_res_blocks": 1, "middle_attention": False,
                       "norm_groups": 4} for side in ("encoder", "decoder")}}
RESIDUAL = {**TOKENIZER, "quantizer": {"name": "residual", "depth": 2, "quantizer": TOKENIZER["quantizer"]}}
SHAPE = (8, 8, 1)
NETWORK = {"features": 16, "depth": 1, "heads": 2}
TEXT = {"length": 6, "features": 8, "depth": 1, "heads": 2}
KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(5), (3, *SHAPE))


def test_a_prior_holds_its_tokenizer_and_gives_its_pictures():
    prior = compiled(models.build("token_prior", tokenizer=TOKENIZER, shape=(4, 4), num_classes=2,
                                  network=NETWORK))
    params, state = drawn(prior, SHAPE)
    tokenizer = compiled(models.build(**TOKENIZER))
    tokens = prior.tokens(state, X)
    np.testing.assert_array_equal(tokens, tokenizer.indices(state, X).reshape(3, 16))
    np.testing.assert_allclose(prior.pictures(state, tokens), tokenizer.reconstruct(state, X), rtol=1e-5, atol=1e-6)
    masked = tokens.at[:, ::2].set(prior.mask_id)
    logits = prior.logits(params, masked, jnp.full(3, 0.5), {"classes": jnp.array([0, 1, 2])})
    assert logits.shape == (3, 16, 7) and np.isfinite(logits).all()


def test_levels_of_codes_are_one_sequence_and_known_each_by_itself():
    prior = compiled(models.build("token_prior", tokenizer=RESIDUAL, shape=(4, 4, 2),
                                  network=NETWORK))
    params, state = drawn(prior, SHAPE)
    tokenizer = compiled(models.build(**RESIDUAL))
    tokens = prior.tokens(state, X)
    np.testing.assert_array_equal(tokens, tokenizer.indices(state, X).reshape(3, 32))
    np.testing.assert_allclose(prior.pictures(state, tokens), tokenizer.reconstruct(state, X), rtol=1e-5, atol=1e-6)
    logits = prior.logits(params, tokens, jnp.full(3, 0.5))
    one = prior.logits(params, tokens.at[:, 5].set(prior.mask_id), jnp.full(3, 0.5))
    assert logits.shape == (3, 32, 7) and np.abs(logits - one).max() > 1e-3
    known = jnp.zeros((3, 32), bool).at[:, 1::2].set(True)
    sampled = jax.jit(lambda key: tk.masked_sample(
        key, partial(prior.logits, params), tk.mask_times(4), (3, 32), mask_id=prior.mask_id, known=tokens,
        mask=known))(jax.random.key(1))
    np.testing.assert_array_equal(sampled[:, 1::2], tokens[:, 1::2])
    assert int(sampled.max()) < 7


@functools.cache
def autoregressive(levels, takes="classes"):
    """An autoregressive prior over 16 or 32 tokens of seven codes, and parameters that are random everywhere."""
    tokenizer = TOKENIZER if levels == 1 else RESIDUAL
    prior = compiled(models.build(
        "token_prior", tokenizer=tokenizer, shape=(4, 4) if levels == 1 else (4, 4, levels), kind="autoregressive",
        network={**NETWORK, "depth": 2}, **({"num_classes": 3} if takes == "classes" else {"text": TEXT})))
    return prior, *drawn(prior, SHAPE), compiled(models.build(**tokenizer))


@pytest.mark.parametrize(("levels", "scale", "takes"), [
    (1, None, "classes"), (2, None, "classes"), (2, 2.0, "classes"), (1, 2.0, "text"),
])
def test_an_autoregressive_prior_draws_with_its_cache_what_the_whole_network_says_token_for_token(
        levels, scale, takes):
    prior, params, state, tokenizer = autoregressive(levels, takes)
    cond = {"classes": jnp.array([0, 2, 1])} if takes == "classes" else {"text": encode_text(["cat", "", "owl"], 6)}
    count = 16 * levels
    given = prior.tokens(state, X)
    kept = jnp.zeros((3, count), bool).at[:, 1::5].set(True)
    next_fn, cache = partial(prior.next_logits, params), prior.init_cache(3)
    if scale:
        next_fn, cache = tk.guide(next_fn, scale, prior.null(3)), prior.init_cache(6)
    drawn = jax.jit(lambda key: tk.autoregressive_sample(
        key, next_fn, cache, (3, count), temperature=0.8, known=given, mask=kept, cond=cond))(KEY)

    @jax.jit
    def extended(before, i):
        """The tokens with the one at place i, from the logits of the whole sequence."""
        logits = prior.logits(params, before, cond)[:, i]
        if scale:
            without = prior.logits(params, before, prior.null(3))[:, i]
            logits = without + scale * (logits - without)
        found = tk.draw_tokens(KEY, logits, jnp.arange(3), i, temperature=0.8)
        return before.at[:, i].set(jnp.where(kept[:, i], given[:, i], found))

    expected = jnp.zeros((3, count), jnp.int32)
    for i in range(count):
        expected = extended(expected, i)
    np.testing.assert_array_equal(drawn, expected)
    assert len(np.unique(drawn)) > 3
    expected = tokenizer.decode_indices(state, drawn.reshape(3, *prior.shape))
    np.testing.assert_allclose(prior.pictures(state, drawn), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["masked", "autoregressive"])
def test_text_acts_through_its_encoding_once_or_every_time(kind):
    prior = compiled(models.build("token_prior", tokenizer=TOKENIZER, shape=(4, 4), kind=kind, network=NETWORK,
                                  text=TEXT))
    params, _ = drawn(prior, SHAPE)
    tokens, time = jnp.zeros((3, 16), jnp.int32), (jnp.ones(3),) if kind == "masked" else ()

    def loss(params, cond):
        logits = prior.logits(params, tokens, *time, cond)
        return jnp.sum(logits ** 2), logits

    function = jax.jit(jax.grad(loss, has_aux=True))
    cond = {"text": encode_text(["cat", "", "owl"], 6)}
    gradient, logits = function(params, cond)
    np.testing.assert_allclose(prior.logits(params, tokens, *time, prior.encode(params, cond)), logits, rtol=1e-5,
                               atol=1e-6)
    none = function(params, prior.null(3))[1]
    np.testing.assert_allclose(none[1], logits[1], rtol=1e-5, atol=1e-6)  # "" is "no condition"
    assert np.abs(none[0] - logits[0]).max() > 1e-3 and np.abs(logits[0] - logits[2]).max() > 1e-3
    assert max(np.abs(g).max() for g in jax.tree.leaves(gradient["text"])) > 1e-3
    with pytest.raises(ValueError, match="'classes', but this model takes 'text'"):
        prior.logits(params, tokens, *time, {"classes": jnp.zeros(3, jnp.int32)})


@pytest.mark.parametrize("levels", [1, 2])
def test_an_autoregressive_priors_logits_know_the_tokens_before_and_no_others(levels):
    """With levels, those of one position are given each other: the upper one follows the lower one."""
    prior, params, *_ = autoregressive(levels)
    count = 16 * levels
    tokens = jax.random.randint(KEY, (1, count), 0, 7)
    changed = [(tokens + (np.arange(count) == i)) % 7 for i in range(count)]
    # In one batch, what does not know the change is the same to the last bit.
    logits = prior.logits(params, jnp.concatenate([tokens, *changed]), prior.null(count + 1))
    differs = np.asarray(logits[1:] != logits[0]).any(-1)
    np.testing.assert_array_equal(differs, np.arange(count) > np.arange(count)[:, None])


def test_a_network_without_context_takes_no_text():
    network = nn.Transformer(num_tokens=8, num_outputs=7, **NETWORK)
    text = {"text_encoder": nn.TextEncoder(8, 1, 2), "text_length": 6}
    with pytest.raises(ValueError, match="context=False takes no text_encoder"):
        models.token_prior(network, models.build(**TOKENIZER), shape=(4, 4), **text)
    with pytest.raises(ValueError, match="belong together: got a text_encoder and text_length=0"):
        models.token_prior(network.clone(context=True), models.build(**TOKENIZER), shape=(4, 4),
                           text_encoder=text["text_encoder"])
    with pytest.raises(ValueError, match="length of text, .* must be an integer of at least 1, got None"):
        models.build("token_prior", tokenizer=TOKENIZER, shape=(4, 4), network=NETWORK, text={"features": 8})
    with pytest.raises(ValueError, match="classes or on text"):
        models.build("token_prior", tokenizer=TOKENIZER, shape=(4, 4), network=NETWORK, text=TEXT, num_classes=2)


def test_levels_within_levels_are_refused():
    with pytest.raises(ValueError, match=r"\[h, w, levels\], got \(4, 4, 2, 2\)"):
        models.build("token_prior", tokenizer=RESIDUAL, shape=(4, 4, 2, 2), network=NETWORK)


def test_a_prior_over_another_codebook_or_map_is_refused():
    network = nn.Transformer(num_tokens=9, num_outputs=8)
    with pytest.raises(ValueError, match="the tokenizer has 7 codes"):
        models.token_prior(network, models.build(**TOKENIZER), shape=(4, 4))
    with pytest.raises(ValueError, match="needs num_tokens=14 and num_outputs=7, got 9 and 8"):
        models.token_prior(network, models.build(**RESIDUAL), shape=(4, 4), levels=2, kind="autoregressive")
    prior = models.build("token_prior", tokenizer=TOKENIZER, shape=(2, 2), network={"features": 16, "depth": 1})
    state = jax.eval_shape(lambda: models.build(**TOKENIZER).init(jax.random.key(0), SHAPE))
    with pytest.raises(ValueError, match=r"index maps \(4, 4\), but this prior is over \(2, 2\)"):
        jax.eval_shape(prior.tokens, state, X)
    with pytest.raises(ValueError, match="tokenizer of the kind 'vqvae'"):
        models.build("token_prior", tokenizer={"name": "diffusion"}, shape=(2, 2), network={})


@pytest.mark.parametrize(("kind", "network", "message"), [
    ("autoregresive", {}, "unknown kind of a token prior 'autoregresive'.*Did you mean 'autoregressive'"),
    ("masked", {"causal": True}, "needs a network with causal=False and levels=1, got True"),
    ("autoregressive", {"causal": False}, "needs a network with causal=True and levels=1, got False"),
    ("autoregressive", {"levels": 2}, "needs a network with causal=True and levels=1, got True and 2"),
])
def test_a_network_of_the_other_kind_is_refused(kind, network, message):
    with pytest.raises(ValueError, match=message):
        models.build("token_prior", tokenizer=TOKENIZER, shape=(4, 4), kind=kind, network=network)
