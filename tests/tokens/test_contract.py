"""Draws and decoding loops of token priors in every mode; NaN, lengths and bad input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxgen import diffusion
from jaxgen import tokens as tk
from jaxgen.nn import Transformer
from jaxgen.nn.attention import Attention, KVCache

KEY = jax.random.key(5)
IDS = np.array([7, 3, 0, 9], np.int32)
COND = np.float32([1, -1, 0.5, 2])
NETWORK = Transformer(num_tokens=5, features=8, depth=1, heads=2, max_length=6, causal=True)
SHAPES = jax.eval_shape(NETWORK.init, KEY, np.zeros((1, 6), np.int32))
PARAMS = jax.tree.map(lambda a: np.random.default_rng(0).normal(0, 0.3, a.shape).astype(a.dtype), SHAPES)


def logits_fn(tokens, t, cond):
    return jnp.sin(jnp.arange(6.0)[:, None] * 1.7 + tokens[..., None] + jnp.arange(4.0) * cond[:, None, None]) * 3


def next_fn(tokens, cache, index, cond):
    cache = cache.at[:, index].set(tokens[:, 0])
    return logits_fn(jnp.broadcast_to(cache.sum(1, keepdims=True), (len(tokens), 6)), None, cond)[:, :1], cache


def autoregressive(cond, ids):
    return tk.autoregressive_sample(KEY, next_fn, jnp.zeros((len(ids), 6), jnp.int32), (len(ids), 6), cond=cond,
                                    sample_ids=ids, temperature=0.9, top_k=np.int64(3), top_p=0.95)


def unmasked(name, cond, ids):
    return tk.sample_tokens(KEY, diffusion.cfg(1.5, 0.0)(logits_fn), tk.UNMASKERS[name](0.5), tk.mask_times(3),
                            (len(ids), 6), mask_id=4, cond=cond, sample_ids=ids)


# name: function of cond [B] and ids [B] -> int32 [B, 6]
CASES = {
    "draw_tokens": lambda cond, ids: tk.draw_tokens(KEY, logits_fn(jnp.zeros((len(ids), 6)), None, cond), ids, 2),
    "autoregressive": autoregressive,
    **{name: partial(unmasked, name) for name in tk.UNMASKERS},
}
EVERY = pytest.mark.parametrize("name", CASES)


@EVERY
def test_sequences_are_those_of_single_ones_in_a_vmap_in_a_scan_in_a_shard_map_and_nan_is_no_token(name):
    def by_themselves(*batch):
        singles = jax.tree.map(lambda a: a.reshape(-1, 1, 1), batch)
        return jax.lax.scan(lambda c, a: (c, jax.vmap(CASES[name])(*a)), None, singles)[1][:, 0, 0]

    data, run = PartitionSpec("data"), jax.jit(CASES[name])
    sharded = jax.shard_map(by_themselves, mesh=Mesh(jax.devices()[:2], "data"), in_specs=data, out_specs=data,
                            check_vma=True)
    whole = np.asarray(run(COND, IDS))
    np.testing.assert_array_equal(jax.jit(sharded)(COND, IDS), whole)
    assert whole.dtype == jnp.int32 and whole.min() >= 0 and whole.max() < 4 and len(np.unique(whole)) > 1
    broken = np.asarray(run(np.float32([1, -1, np.nan, 2]), IDS))
    np.testing.assert_array_equal(np.delete(broken, 2, 0), np.delete(whole, 2, 0))
    assert (broken[2] == -1).all()
    with jax.enable_x64(True):
        assert jax.eval_shape(CASES[name], np.asarray(COND, np.float64), np.asarray(IDS, np.int64)).dtype == jnp.int32


def test_draws_where_nothing_may_be_drawn_are_minus_one_and_a_certain_token_is_drawn():
    logits = np.float32([[0, 1, 2], [np.nan, 1, 2], [-np.inf] * 3, [-np.inf, 0, -np.inf], [0, np.inf, 0]])
    every = ({}, {"top_k": 2}, {"top_p": 0.9}, {"top_k": np.int32(7)})

    @jax.jit
    def draw(logits):
        draws = [tk.draw_tokens(KEY, logits, np.arange(5), 0, **options) for options in every]
        return [*draws, tk.draw_tokens(KEY, logits.astype(jnp.bfloat16), np.arange(5), 0)]

    for drawn in draw(logits):
        assert drawn[0] >= 0 and drawn[1:4].tolist() == [-1, -1, 1] and drawn[4] in (1, -1)


def sample(length, cache, **options):
    def cached(tokens, cache, index, cond):
        return NETWORK.apply(PARAMS, tokens, cache=cache, index=index)

    return tk.autoregressive_sample(KEY, cached, cache, (2, length), **options)


def test_decoding_beyond_the_cache_names_both_lengths():
    with pytest.raises(ValueError, match="shape asks for 6 tokens, but the cache holds 4"):
        jax.eval_shape(lambda: sample(6, NETWORK.init_cache(2, 4)))
    with pytest.raises(ValueError, match="9 tokens does not fit in max_length=6 learned positions"):
        NETWORK.init_cache(2, 9)
    with pytest.raises(ValueError, match="7 tokens do not fit in max_length=6 learned positions"):
        NETWORK.apply(PARAMS, np.zeros((2, 7), np.int32))
    assert jax.eval_shape(lambda: sample(4, NETWORK.init_cache(2, np.int64(4)))).shape == (2, 4)


def test_a_cache_of_another_batch_is_refused():
    with pytest.raises(ValueError, match="the cache is of 3 sequences, and x of 2"):
        jax.eval_shape(lambda: sample(6, NETWORK.init_cache(3)))

    def guided(tokens, cache, index, cond):
        return NETWORK.apply(PARAMS, tokens, cache=cache, index=index)

    with pytest.raises(ValueError, match="the cache is of 2 sequences, and x of 4: .* guidance"):
        jax.eval_shape(lambda: tk.autoregressive_sample(
            KEY, tk.guide(guided, 2.0, 0.0), NETWORK.init_cache(2), (2, 6), cond=COND[:2]))


def test_an_index_beyond_the_cache_is_refused_or_gives_nan():
    tokens, cache = np.zeros((2, 1), np.int32), jax.jit(lambda: NETWORK.init_cache(2, 4))()
    apply = lambda index: NETWORK.apply(PARAMS, tokens, cache=cache, index=index)  # noqa: E731
    for index in (4, jnp.int32(4), -1):
        with pytest.raises(ValueError, match=f"index={index} and 1 tokens reach position {index + 1} of a cache of 4"):
            jax.eval_shape(lambda index=index: apply(index))
    logits = jax.jit(lambda i: apply(i)[0])
    assert np.isfinite(logits(3)).all() and np.isnan(logits(4)).all()
    attention = Attention(heads=1, causal=True)
    x, empty = np.ones((1, 2, 4), np.float32), np.zeros((1, 3, 1, 4), np.float32)
    params = jax.tree.map(lambda a: np.ones(a.shape, a.dtype), jax.eval_shape(attention.init, KEY, x))
    run = jax.jit(lambda i: attention.apply(params, x, cache=KVCache(jnp.asarray(empty), jnp.asarray(empty)),
                                            index=i)[0])
    assert np.isfinite(run(1)).all() and np.isnan(run(2)).all()


def test_tokens_outside_the_vocabulary_are_refused_or_give_nan():
    tokens = np.int32([[0, 1, 2], [3, 4, 1], [1, -1, 2]])
    logits = np.random.default_rng(0).normal(size=(3, 3, 4)).astype(np.float32)
    with pytest.raises(ValueError, match=r"tokens must lie within 0 \.\. 3, got 4"):
        tk.autoregressive_loss(logits, tokens)
    nats = jax.jit(tk.token_nats)(logits, tokens)
    np.testing.assert_array_equal(np.isnan(nats), (tokens < 0) | (tokens > 3))
    with pytest.raises(ValueError, match=r"tokens must lie within 0 \.\. 3, got 4"):
        tk.maskgit_loss(KEY, lambda x, r, c: logits, tokens, np.zeros(3, np.float32), mask_id=4)
    with pytest.raises(ValueError, match=r"tokens must lie within 0 \.\. 3, got 4"):
        tk.masked_diffusion_loss(KEY, lambda x, t, c: jnp.asarray(logits), tokens, np.ones(3, np.float32), mask_id=5)
    seen = np.asarray(jax.jit(lambda t: NETWORK.apply(PARAMS, t))(np.int32([[0, 1, 2], [0, 5, 1], [0, -1, 1]])))
    assert np.isfinite(seen[0]).all() and np.isnan(seen[1:, 2]).all()


LOGITS = jnp.zeros((2, 3))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: tk.draw_tokens(KEY, LOGITS, jnp.arange(2), 0, temperature=0), "positive, got 0; for the most likely"),
    (lambda: tk.draw_tokens(KEY, LOGITS, jnp.arange(2), 0, temperature=np.inf), "temperature must be finite"),
    (lambda: tk.draw_tokens(KEY, LOGITS, jnp.arange(2), 0, temperature=np.nan), "temperature must be positive"),
    (lambda: tk.draw_tokens(KEY, LOGITS, jnp.arange(2), 0, top_k=2.5), "top_k must be whole numbers"),
    (lambda: tk.draw_tokens(KEY, LOGITS, jnp.arange(2), 0, top_p=np.nan), "top_p must be a fraction"),
    (lambda: tk.draw_tokens(KEY, LOGITS, jnp.arange(3), 0), r"each of the 2 samples, shape \(2,\); got \(3,\)"),
    (lambda: tk.draw_tokens(KEY, LOGITS, jnp.ones(2), 0), "sample_ids must be whole numbers"),
    (lambda: tk.draw_tokens(KEY, LOGITS.astype(int), jnp.arange(2), 0), "logits must hold floating-point"),
    (lambda: tk.draw_tokens(0, LOGITS, jnp.arange(2), 0), "key must be one key"),
    (lambda: tk.filter_logits(np.zeros((2, 3), np.uint8), top_k=1), "logits must hold floating-point"),
    (lambda: tk.autoregressive_sample(0, next_fn, None, (2, 6)), "key must be one key"),
    (lambda: tk.autoregressive_sample(KEY, next_fn, None, (2, 6), known=jnp.ones((2, 6)),
                                      keep=jnp.ones((2, 6), bool)), "known must be whole numbers"),
    (lambda: tk.guide(next_fn, np.nan, 0.0), "scale must be finite"),
    (lambda: tk.guide(next_fn, 2.0, 0.0)(jnp.zeros((2, 1)), None, 0, None), "give cond="),
    (lambda: tk.mask_tokens(KEY, jnp.ones((2, 6)), jnp.ones(2), mask_id=4), "tokens must be whole numbers"),
    (lambda: tk.mask_tokens(KEY, jnp.ones((2, 6), int), jnp.ones(3), mask_id=4), "t must be one number or"),
    (lambda: tk.mask_tokens(KEY, jnp.ones((2, 6), int), 0.5, mask_id=4, keep=jnp.ones((2, 6))), "keep must be boolean"),
    (lambda: tk.masked_diffusion_loss(KEY, logits_fn, jnp.ones((2, 6), int), jnp.ones(3), mask_id=4), "t must hold"),
    (lambda: tk.maskgit_loss(KEY, logits_fn, jnp.ones((2, 6), int), jnp.zeros(3), mask_id=4), "r must hold one number"),
    (lambda: tk.maskgit_loss(KEY, logits_fn, jnp.ones((2, 6), int), jnp.zeros(2), mask_id=4, label_smoothing=2),
     r"label_smoothing must be a fraction in \[0, 1\], got 2"),
    (lambda: tk.coarse_to_fine_loss(KEY, logits_fn, jnp.ones((2, 6), int), jnp.zeros(2), mask_id=4, levels=4),
     "levels=4 does not divide the 6 tokens"),
    (lambda: tk.coarse_to_fine_loss(KEY, logits_fn, jnp.ones((2, 6), int), jnp.zeros(3), mask_id=4, levels=2),
     "r must hold one number"),
])
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
