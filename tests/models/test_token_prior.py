"""Token priors: tokens and examples of their tokenizer, logits of both kinds, the cache."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import models, nn
from jaxgen import tokens as tk
from jaxgen.nn import encode_text
from tests.helpers.parameters import drawn, filled

TOKENIZER = {"name": "vqvae", "latent_channels": 4, "example_channels": 1, "quantizer": {"name": "vq", "num_codes": 7},
             **{side: {"channels": 4, "multipliers": (1, 2), "num_res_blocks": 0, "middle_attention": False,
                       "norm": "none"} for side in ("encoder", "decoder")}}
RESIDUAL = {**TOKENIZER, "quantizer": {"name": "residual", "depth": 2, "quantizer": TOKENIZER["quantizer"]}}
SHAPE = (8, 8, 1)
NETWORK = {"features": 16, "depth": 1, "heads": 2}
TEXT = {"name": "text", "length": 6, "features": 8, "depth": 1, "heads": 2}
KEY = jax.random.key(0)


def classes(count):
    return {"name": "classes", "count": count}


X = np.random.default_rng(5).normal(size=(3, *SHAPE)).astype(np.float32)


def test_a_prior_holds_its_tokenizer_and_gives_its_examples():
    prior = models.build("token_prior", tokenizer=TOKENIZER, shape=(4, 4), conditions=classes(2), network=NETWORK)
    variables, tokenizer = drawn(prior, SHAPE), models.build(**TOKENIZER)

    @jax.jit
    def run(variables):
        tokens = prior.to_tokens(variables, X)
        masked = tokens.at[:, ::2].set(prior.model.mask_id)
        logits = prior.model.logits(variables.params, masked, jnp.full(3, 0.5), {"classes": jnp.array([0, 1, 2])})
        return tokens, prior.from_tokens(variables, tokens), logits, tokenizer.forward(variables.state, X)[:2]

    tokens, images, logits, (x_r, output) = jax.device_get(run(variables))
    np.testing.assert_array_equal(tokens, output.indices.reshape(3, 16))
    np.testing.assert_allclose(images, x_r, rtol=1e-5, atol=1e-6)
    assert prior.token_shape(SHAPE) == (16,) and prior.num_tokens == 7 and prior.conditions == models.Classes(2)
    assert logits.shape == (3, 16, 7) and np.isfinite(logits).all()


def test_levels_of_codes_are_one_sequence_and_known_each_by_itself():
    prior = models.build("token_prior", tokenizer=RESIDUAL, shape=(4, 4, 2), network=NETWORK)
    variables, tokenizer, model = drawn(prior, SHAPE), models.build(**RESIDUAL), prior.model
    known = np.tile(np.arange(32) % 2 == 1, (3, 1))

    @jax.jit
    def run(variables, key):
        params, own = variables
        tokens, half = prior.to_tokens(variables, X), jnp.full(3, 0.5)
        logits = [model.logits(params, t, half) for t in (tokens, tokens.at[:, 5].set(model.mask_id))]
        sampled = tk.sample_tokens(
            key, partial(model.logits, params), tk.ancestral(), tk.mask_times(4), (3, 32), mask_id=model.mask_id,
            known=tokens, keep=known)
        return tokens, prior.from_tokens(variables, tokens), logits, sampled, tokenizer.forward(own, X)[:2]

    tokens, images, (logits, one), sampled, (x_r, output) = jax.device_get(run(variables, KEY))
    np.testing.assert_array_equal(tokens, output.indices.reshape(3, 32))
    np.testing.assert_allclose(images, x_r, rtol=1e-5, atol=1e-6)
    assert logits.shape == (3, 32, 7) and np.abs(logits - one).max() > 1e-3
    np.testing.assert_array_equal(sampled[:, 1::2], tokens[:, 1::2])
    assert int(sampled.max()) < 7


@functools.cache
def made(kind, levels=1, takes="classes"):
    """A prior over 16 or 32 tokens of seven codes, its token model, and parameters that are random everywhere."""
    prior = models.build(
        "token_prior", tokenizer=TOKENIZER if levels == 1 else RESIDUAL, kind=kind,
        shape=(4, 4) if levels == 1 else (4, 4, levels), network={**NETWORK, "depth": 2 if takes == "classes" else 1},
        conditions=classes(3) if takes == "classes" else TEXT)
    shapes = jax.eval_shape(lambda key: prior.model.init(key, 16 * levels), KEY)
    return prior, prior.model, filled(shapes)


@pytest.mark.parametrize(("levels", "scale", "takes"), [(1, None, "classes"), (2, 2.0, "classes"), (1, 2.0, "text")])
def test_an_autoregressive_prior_draws_with_its_cache_what_the_whole_network_says_token_for_token(
        levels, scale, takes):
    prior, model, params = made("autoregressive", levels, takes)
    cond = {"classes": np.array([0, 2, 1])} if takes == "classes" else {"text": encode_text(["cat", "", "owl"], 6)}
    count = 16 * levels
    given = np.random.default_rng(0).integers(0, 7, (3, count)).astype(np.int32)
    kept = np.tile(np.arange(count) % 5 == 1, (3, 1))

    @jax.jit
    def run(params, cond, key):
        next_fn, cache = partial(model.next_logits, params), model.init_cache(3, count)
        if scale:
            next_fn, cache = tk.guide(next_fn, scale, prior.null(3)), model.init_cache(6, count)
        drawn = tk.autoregressive_sample(
            key, next_fn, cache, (3, count), temperature=0.8, known=given, keep=kept, cond=cond)

        def extend(i, before):
            """The tokens with the one at place i, from the logits of the whole sequence."""
            logits = model.logits(params, before, cond)[:, i]
            if scale:
                without = model.logits(params, before, prior.null(3))[:, i]
                logits = without + scale * (logits - without)
            found = tk.draw_tokens(key, logits, jnp.arange(3), i, temperature=0.8)
            return before.at[:, i].set(jnp.where(jnp.asarray(kept)[:, i], jnp.asarray(given)[:, i], found))

        return drawn, jax.lax.fori_loop(0, count, extend, jnp.zeros((3, count), jnp.int32))

    drawn, expected = jax.device_get(run(params, cond, KEY))
    np.testing.assert_array_equal(drawn, expected)
    assert len(np.unique(drawn)) > 3


@pytest.mark.parametrize("kind", ["masked", "autoregressive"])
def test_text_acts_through_its_encoding_once_or_every_time(kind):
    prior, model, params = made(kind, takes="text")
    tokens, time = np.zeros((3, 16), np.int32), (np.ones(3, np.float32),) if kind == "masked" else ()
    cond = {"text": encode_text(["cat", "", "owl"], 6)}

    def loss(params, cond):
        logits = model.logits(params, tokens, *time, cond)
        return jnp.sum(logits ** 2), logits

    @jax.jit
    def run(params, cond):
        others = [model.logits(params, tokens, *time, c) for c in (prior.encode(params, cond), prior.null(3))]
        return jax.grad(loss, has_aux=True)(params, cond), others

    (gradient, logits), (once, none) = jax.device_get(run(params, cond))
    np.testing.assert_allclose(once, logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(none[1], logits[1], rtol=1e-5, atol=1e-6)  # "" is "no condition"
    assert np.abs(none[0] - logits[0]).max() > 1e-3 and np.abs(logits[0] - logits[2]).max() > 1e-3
    assert max(np.abs(g).max() for g in jax.tree.leaves(gradient["text"])) > 1e-3
    with pytest.raises(ValueError, match="'classes', but this model takes 'text'"):
        model.logits(params, tokens, *time, {"classes": np.zeros(3, np.int32)})


@functools.cache
def changed_logits(levels):
    """Of an autoregressive prior: `(params, tokens [N + 1, N]) -> logits`, and tokens with one changed in each row."""
    prior, model, _ = made("autoregressive", levels)
    count = 16 * levels
    tokens = np.random.default_rng(1).integers(0, 7, (1, count)).astype(np.int32)
    changed = (tokens + np.eye(count, dtype=np.int32)) % 7
    return (jax.jit(lambda params, tokens: model.logits(params, tokens, prior.null(count + 1))),
            np.concatenate([tokens, changed]))


@pytest.mark.parametrize("levels", [1, 2])
def test_an_autoregressive_priors_logits_know_the_tokens_before_and_no_others(levels):
    """With levels, those of one position are given each other: the upper one follows the lower one."""
    run, tokens = changed_logits(levels)
    # In one batch, what does not know the change is the same to the last bit.
    logits = np.asarray(run(made("autoregressive", levels)[2], tokens))
    differs = (logits[1:] != logits[0]).any(-1)
    count = 16 * levels
    np.testing.assert_array_equal(differs, np.arange(count) > np.arange(count)[:, None])


def test_each_level_has_codes_of_its_own_so_that_one_levels_may_get_other_names():
    """The upper level's codes are the network's tokens 7 to 13: moved by one there and in the tokens, all is as was."""
    (run, tokens), params = changed_logits(2), made("autoregressive", 2)[2]
    table = np.array(params["tokens0"]["embedding"])
    table[7:] = np.roll(table[7:], 1, axis=0)
    renamed = params | {"tokens0": {"embedding": table}}
    moved = np.where(np.arange(32) % 2 == 1, (tokens + 1) % 7, tokens)
    np.testing.assert_array_equal(run(renamed, moved), run(params, tokens))
    assert np.any(run(renamed, tokens) != run(params, tokens))


def test_a_network_without_context_takes_no_text():
    network = nn.Transformer(num_tokens=8, num_outputs=7, **NETWORK)
    text = models.Text(nn.TextEncoder(8, 1, 2), 6)
    with pytest.raises(ValueError, match="context=False needs conditions without text, got Text"):
        models.MaskedModel(network=network, conditions=text)
    with pytest.raises(ValueError, match=r"context=True needs conditions of text, got Unconditional\(\)"):
        models.MaskedModel(network=network.clone(context=True))
    with pytest.raises(ValueError, match="conditions 'text' needs 'length'"):
        models.build("token_prior", tokenizer=TOKENIZER, shape=(4, 4), network=NETWORK,
                     conditions={"name": "text", "features": 8})


@pytest.mark.parametrize("own", [0, 2])
def test_a_network_of_other_classes_is_refused(own):
    network = nn.Transformer(num_tokens=8, num_outputs=7, num_classes=own, **NETWORK)
    with pytest.raises(ValueError, match=f"num_classes={own}, but the conditions are of 3 classes: make them equal"):
        models.MaskedModel(network=network, conditions=models.Classes(3))


def test_levels_within_levels_are_refused():
    with pytest.raises(ValueError, match=r"\[h, w, levels\], got \(4, 4, 2, 2\)"):
        models.build("token_prior", tokenizer=RESIDUAL, shape=(4, 4, 2, 2), network=NETWORK)


def test_a_prior_over_another_codebook_or_map_is_refused():
    model = models.MaskedModel(network=nn.Transformer(num_tokens=9, num_outputs=8))
    with pytest.raises(ValueError, match="the tokenizer has 7 tokens, but the model draws 8: .* num_outputs=7"):
        models.TokenPrior(model=model, tokenizer=models.build(**TOKENIZER), sample_shape=(4, 4))
    model = models.AutoregressiveModel(network=nn.Transformer(num_tokens=7, num_outputs=7, causal=True))
    with pytest.raises(ValueError, match=r"the model has 1 tokens per position, .* the shape \(4, 4, 2\)"):
        models.TokenPrior(model=model, tokenizer=models.build(**RESIDUAL), sample_shape=(4, 4, 2))
    prior = models.build("token_prior", tokenizer=TOKENIZER, shape=(2, 2), network={"features": 16, "depth": 1})
    variables = jax.eval_shape(lambda: prior.init(KEY, SHAPE))
    with pytest.raises(ValueError, match=r"have tokens \(4, 4\), but this prior is over \(2, 2\)"):
        jax.eval_shape(prior.to_tokens, variables, X)


@pytest.mark.parametrize(("network", "message"), [
    ({"num_outputs": 7, "num_tokens": 8, "causal": True}, "not causal, of num_tokens = num_outputs .* got causal=True"),
    ({"num_outputs": 7, "num_tokens": 7}, r"num_outputs \+ 1 \(the mask\); got causal=False, 7 and 7"),
])
def test_a_masked_models_network_sees_all_tokens_and_the_mask(network, message):
    with pytest.raises(ValueError, match=message):
        models.MaskedModel(network=nn.Transformer(**NETWORK, **network))


@pytest.mark.parametrize(("network", "message"), [
    ({"num_outputs": 7, "num_tokens": 14}, "needs a causal network .* got causal=False, levels=1, 14 and 7"),
    ({"num_outputs": 7, "num_tokens": 9, "causal": True}, "num_outputs; got causal=True, levels=1, 9 and 7"),
    ({"num_outputs": 7, "num_tokens": 7, "levels": 2}, "needs a causal network with levels=1"),
])
def test_an_autoregressive_models_network_is_causal_over_codes_of_each_level(network, message):
    with pytest.raises(ValueError, match=message):
        models.AutoregressiveModel(network=nn.Transformer(**NETWORK, **network))


@pytest.mark.parametrize(("kind", "network", "message"), [
    ("autoregresive", {}, "unknown kind of a token prior 'autoregresive'.*Did you mean 'autoregressive'"),
    ("masked", {"causal": True}, "needs a network that is not causal"),
    ("autoregressive", {"causal": False}, "needs a causal network with levels=1, .*got causal=False"),
    ("autoregressive", {"levels": 2}, "needs a causal network with levels=1, .*got causal=True, levels=2"),
])
def test_a_network_of_the_other_kind_is_refused(kind, network, message):
    with pytest.raises(ValueError, match=message):
        models.build("token_prior", tokenizer=TOKENIZER, shape=(4, 4), kind=kind, network=network)
