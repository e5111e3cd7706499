"""Decoding loops and losses of token priors against exact distributions, NumPy loops and the uncached network."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import tokens as tk
from jaxgen.nn import Transformer
from jaxgen.tokens._categorical import draw_categorical

KEY = jax.random.key(0)
START = np.array([0.5, 0.3, 0.2])
STEP = np.array([[0.1, 0.6, 0.3], [0.5, 0.1, 0.4], [0.25, 0.25, 0.5]])


def chain(tokens, cache, index, cond):
    """The next token's log-probabilities of a Markov chain; the cache counts the calls."""
    logits = jnp.where(index == 0, jnp.log(START), jnp.log(STEP)[tokens])
    return logits, cache + 1


def test_filters_keep_the_most_likely_and_the_nucleus():
    logits = np.random.default_rng(0).normal(0, 2, (50, 7)).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    filters = ((1, None), (3, None), (None, 0.6), (4, 0.8), (None, 0.0), (9, 1.0))
    filtered = jax.jit(lambda x: [tk.filter_logits(x, top_k=k, top_p=threshold) for k, threshold in filters])(logits)
    for (k, threshold), kept in zip(filters, np.isfinite(filtered), strict=True):
        for i in range(50):
            order, expected, total = np.argsort(-p[i]), set(), 0.0
            for rank, token in enumerate(order):
                if (k is None or rank < k) and (threshold is None or total < threshold or rank == 0):
                    expected.add(token)
                total += p[i, token]
            assert set(np.flatnonzero(kept[i])) == expected, f"top_k={k}, top_p={threshold}"
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        tk.filter_logits(logits, top_k=0)
    with pytest.raises(ValueError, match=r"top_p must be a fraction in \[0, 1\], got 95"):
        tk.filter_logits(logits, top_p=95)
    with pytest.raises(ValueError, match="temperature must be positive"):
        tk.autoregressive_sample(KEY, chain, np.int32(0), (2, 3), temperature=0.0)


def test_samples_have_the_joint_distribution_of_the_chain_and_of_the_chain_given_tokens():
    count = 20_000
    sample = jax.jit(lambda known, keep: tk.autoregressive_sample(
        KEY, chain, jnp.int32(0), (count, 3), known=known, keep=keep))
    for given in (None, 2):
        keep = np.zeros((count, 3), bool)
        keep[:, 1] = given is not None
        tokens = np.asarray(sample(np.full((count, 3), given or 0), keep))
        for a, b, c in itertools.product(range(3), repeat=3):
            middle = STEP[a, b] if given is None else float(b == given)
            expected = START[a] * middle * STEP[b, c]
            found = np.mean((tokens == [a, b, c]).all(1))
            assert abs(found - expected) < 4 * np.sqrt(max(expected, 1e-9) / count) + 1e-9


def test_a_sequence_is_the_same_in_every_batch_and_the_scan_calls_the_network_once_per_token():
    sample = jax.jit(tk.autoregressive_sample, static_argnums=(1, 3))
    whole = np.asarray(sample(KEY, chain, np.int32(0), (8, 5)))
    part = sample(KEY, chain, np.int32(0), (2, 5), sample_ids=np.array([6, 3]))
    np.testing.assert_array_equal(part, whole[[6, 3]])


def test_guidance_extrapolates_from_the_null_condition_with_a_cache_for_both():
    def next_fn(tokens, cache, index, cond):
        assert cache.shape == (6,)
        return jnp.broadcast_to(cond[:, None, None] * jnp.arange(4.0), (6, 1, 4)), cache

    guided = tk.guide(next_fn, 3.0, 1.0)
    logits, _ = jax.jit(guided)(np.zeros((3, 1), int), np.zeros(6), 0, np.float32([1, 2, 5]))
    np.testing.assert_allclose(logits[:, 0], [[k * (1 + 3 * (c - 1)) for k in range(4)] for c in (1, 2, 5)], rtol=1e-6)


@pytest.mark.parametrize("levels", [1, 2])
def test_cached_sampling_draws_the_tokens_of_the_uncached_network(levels):
    network = Transformer(num_tokens=6, features=16, depth=2, heads=2, max_length=7, causal=True, num_classes=3,
                          levels=levels)
    shape = (4, 7) if levels == 1 else (4, 7, levels)
    classes = np.array([0, 1, 2, 1])
    params = jax.eval_shape(network.init, KEY, np.zeros(shape, int), classes=classes)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: rng.normal(0, 0.3, a.shape).astype(a.dtype), params)
    options = {"temperature": 0.8, "top_k": 4}

    def next_fn(tokens, cache, index, cond):
        return network.apply(params, tokens, classes=cond, cache=cache, index=index)

    tokens = jax.jit(lambda key: tk.autoregressive_sample(
        key, next_fn, network.init_cache(4), shape, cond=classes, **options))(KEY)

    def extended(i, tokens):
        """The tokens with those at place i, from the logits of the whole sequence."""
        logits = network.apply(params, tokens, classes=classes)[:, i]
        return tokens.at[:, i].set(tk.draw_tokens(KEY, logits, jnp.arange(4), i, **options))

    expected = jax.jit(lambda tokens: jax.lax.fori_loop(0, 7, extended, tokens))(np.zeros(shape, np.int32))
    np.testing.assert_array_equal(tokens, expected)
    assert len(np.unique(tokens)) > 2


def test_losses_are_the_sums_and_means_that_they_say():
    rng = np.random.default_rng(1)
    logits, tokens = np.float32(rng.normal(size=(3, 5, 4))), rng.integers(0, 4, (3, 5), np.int32)
    log_p = logits - np.log(np.exp(np.float64(logits)).sum(-1, keepdims=True))
    nats = np.array([[-0.9 * log_p[b, n, tokens[b, n]] - 0.1 * log_p[b, n].mean() for n in range(5)] for b in range(3)])
    r, ids = np.float32([0.0, 0.5, 0.99]), np.array([2, 0])

    def losses(tokens, r, ids):
        seen = []

        def logits_fn(xt, r, cond):
            seen.append(xt)
            wide = jnp.concatenate([logits, jnp.full((3, 5, 1), 50.0)], -1)  # the mask is never an answer
            return wide if len(xt) == 3 else wide[ids]

        whole = tk.maskgit_loss(KEY, logits_fn, tokens, r, mask_id=4)
        part = tk.maskgit_loss(KEY, logits_fn, tokens[ids], r[ids], mask_id=4, sample_ids=ids)
        return tk.autoregressive_loss(logits, tokens, label_smoothing=0.1), whole, part, seen

    each, whole, part, (seen, seen_of_part) = jax.device_get(jax.jit(losses)(tokens, r, ids))
    np.testing.assert_allclose(each, nats.sum(1), rtol=1e-5)
    hidden = seen == 4
    assert hidden.sum(1).tolist() == [5, 4, 1]  # ceil(5 cos(pi r / 2))
    np.testing.assert_array_equal(seen[~hidden], tokens[~hidden])
    np.testing.assert_allclose(whole, [nats[b][hidden[b]].mean() for b in range(3)], rtol=1e-5)
    np.testing.assert_array_equal(seen_of_part, seen[ids])  # what is hidden follows the place in the global batch
    np.testing.assert_allclose(part, whole[ids], rtol=1e-6)


def test_draws_in_two_stages_have_the_distribution_of_the_logits():
    number, cases = 40_000, {}
    for count in (1, 2, 7, 12, 16):
        cases[count] = np.random.default_rng(count).normal(0, 2, count).astype(np.float32)
        cases[count][1:2] = -np.inf
    every = jax.jit(lambda cases: jax.tree.map(
        lambda logits: draw_categorical(KEY, jnp.broadcast_to(logits, (2, number // 2, len(logits)))), cases))
    for count, drawn in every(cases).items():
        p = np.exp(cases[count]) / np.exp(cases[count]).sum()
        assert drawn.shape == (2, number // 2) and drawn.dtype == jnp.int32
        result = np.bincount(np.asarray(drawn).ravel(), minlength=count) / number
        assert len(result) == count
        np.testing.assert_array_less(np.abs(result - p), 4.5 * np.sqrt(p * (1 - p) / number) + 1e-9, f"{count=}")
