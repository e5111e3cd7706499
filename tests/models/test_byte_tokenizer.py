"""Bytes as tokens: a text is its own tokens, and both kinds of prior learn, measure and draw it without a VQ-VAE."""

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import models, objectives
from jaxgen import tokens as tk
from jaxgen.core.types import Variables
from jaxgen.nn import encode_text

TEXT = jnp.asarray(encode_text(["owl", "cat"], 4))
KEY = jax.random.key(0)
KINDS = ("masked", "autoregressive")


def build(kind):
    return models.build("token_prior", tokenizer={"name": "bytes"}, shape=(4,), kind=kind,
                        network={"features": 16, "depth": 1, "heads": 2},
                        conditions={"name": "classes", "count": 2})


def loss_of(model, **options):
    conditions = objectives.Conditions(model.conditions.entries, model.null, drop=0.0)
    if hasattr(model.model, "mask_id"):
        return partial(objectives.masked_prior_loss, logits=model.model.logits, mask_id=model.model.mask_id,
                       conditions=conditions, **options)
    return partial(objectives.autoregressive_prior_loss, logits=model.model.logits, conditions=conditions, **options)


@cache
def trained(kind):
    """A prior that has learned one text for each of two classes by heart."""
    model = build(kind)
    batch, optimizer = {"tokens": jnp.tile(TEXT, (8, 1)), "label": jnp.tile(jnp.arange(2), 8)}, optax.adam(0.03)
    loss_fn = loss_of(model)

    @jax.jit
    def run(key):
        variables = model.init(key, (4,))

        def step(carry, key):
            params, state = carry
            gradient = jax.grad(lambda p: loss_fn(p, variables.state, batch, key)[0])(params)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        start = variables.params, optimizer.init(variables.params)
        (params, _), _ = jax.lax.scan(step, start, jax.random.split(key, 150))
        return variables._replace(params=params)

    return model, run(KEY)


def test_a_text_is_its_tokens_and_comes_back():
    tokenizer = models.ByteTokenizer()
    variables = tokenizer.init(KEY, (4,))
    tokens = tokenizer.to_tokens(variables, TEXT)
    assert tokens.tolist() == [[ord(c) + 1 for c in word] + [0] for word in ("owl", "cat")]
    np.testing.assert_array_equal(tokenizer.from_tokens(variables, tokens), TEXT)
    assert (tokenizer.num_tokens, tokenizer.token_shape((4,))) == (257, (4,)) and jax.tree.leaves(variables) == []


@pytest.mark.parametrize(("x", "message"), [
    (np.array([[257]]), r"x must lie within 0 .. 256, got 257"), (np.array([[-1]]), "got -1"),
    (np.array([[0.5]]), "x must be whole numbers, got dtype float64")])
def test_what_are_no_bytes_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        models.ByteTokenizer().to_tokens(None, x)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_of_bytes_has_a_vocabulary_of_them(kind):
    model = build(kind)
    assert model.num_tokens == model.model.num_tokens == 257 and model.sample_shape == model.token_shape((4,)) == (4,)
    assert jax.eval_shape(lambda: model.init(KEY, (4,))).state == ({}, {})


@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_draws_the_text_of_its_class_that_it_has_learned(kind):
    model, (params, state) = trained(kind)
    cond = {"classes": jnp.array([1, 0, 1])}
    if kind == "masked":
        logits, mask_id = partial(model.model.logits, params), model.model.mask_id
        sample = partial(tk.sample_tokens, logits_fn=logits, unmasker=tk.ancestral(), times=tk.mask_times(4),
                         shape=(3, 4), mask_id=mask_id)
    else:
        next_fn, cache = partial(model.model.next_logits, params), model.model.init_cache(3, 4)
        sample = partial(tk.autoregressive_sample, next_fn=next_fn, cache=cache, shape=(3, 4))
    tokens = jax.jit(lambda key: sample(key, cond=cond, temperature=0.1))(KEY)
    np.testing.assert_array_equal(model.from_tokens(Variables(params, state), tokens), TEXT[jnp.array([1, 0, 1])])


def test_the_autoregressive_loss_is_the_code_length_by_numpy():
    model, (params, state) = trained("autoregressive")
    batch = {"tokens": jnp.concatenate([TEXT, TEXT[::-1]]), "label": jnp.array([0, 1, 0, 1])}
    loss, (metrics, _) = jax.jit(loss_of(model, train=False))(params, state, batch, KEY)
    logits = np.asarray(jax.jit(model.model.logits)(params, batch["tokens"], {"classes": batch["label"]}), np.float64)
    log_p = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True)) - logits.max(
        -1, keepdims=True)
    expected = -np.take_along_axis(log_p, np.asarray(batch["tokens"])[..., None], -1).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["bits_per_token"], expected / math.log(2), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_what_was_learned_is_small_and_of_the_other_class_large(kind):
    model, (params, state) = trained(kind)
    loss_fn = jax.jit(loss_of(model, train=False))
    right, wrong = (loss_fn(params, state, {"tokens": jnp.tile(TEXT, (8, 1)), "label": jnp.tile(labels, 8)}, KEY)[0]
                    for labels in (jnp.array([0, 1]), jnp.array([1, 0])))
    assert right < 0.3 < 1 < wrong
