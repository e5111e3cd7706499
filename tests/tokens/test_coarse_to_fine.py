"""Levels one after the other: the loss against loops over what is masked, and the order in which tokens are shown."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import tokens as tk
from tests.tokens.waves import IDS, KEY, waves

MASK = 4


def test_one_level_is_masked_in_part_the_finer_ones_whole():
    rng = np.random.default_rng(0)
    tokens, logits = rng.integers(0, 4, (40, 12), np.int32), np.float32(rng.normal(size=(40, 12, 5)))
    r, ids = np.linspace(0, 0.99, 40, dtype=np.float32), np.array([31, 2, 17])
    log_p = logits[..., :4] - np.log(np.exp(np.float64(logits[..., :4])).sum(-1, keepdims=True))

    @jax.jit
    def losses(tokens, r):
        seen = []

        def logits_fn(xt, t, cond):
            seen.append((xt, t))
            return logits if len(xt) == 40 else logits[ids]

        options = {"mask_id": MASK, "levels": 3}
        whole = tk.coarse_to_fine_loss(KEY, logits_fn, tokens, r, **options)
        return whole, tk.coarse_to_fine_loss(KEY, logits_fn, tokens[ids], r[ids], sample_ids=ids, **options), seen

    whole, part, ((seen, share), (seen_of_part, _)) = jax.device_get(losses(tokens, r))
    drawn = set()
    for b in range(40):
        hidden = (seen[b] == MASK).reshape(4, 3)
        level = int(np.flatnonzero(hidden.any(0))[0])
        count = max(1, math.ceil(r[b] * 4))
        assert hidden[:, level].sum() == count and hidden[:, level + 1:].all()
        np.testing.assert_array_equal(seen[b][~hidden.ravel()], tokens[b][~hidden.ravel()])
        scored = 3 * np.flatnonzero(hidden[:, level]) + level
        nats = [-log_p[b, i, tokens[b, i]] for i in scored]
        assert whole[b] == pytest.approx(np.mean(nats), rel=1e-5) and share[b] == pytest.approx(hidden.mean())
        drawn.add((level, tuple(scored)))
    assert {level for level, _ in drawn} == {0, 1, 2} and len(drawn) > 15
    np.testing.assert_array_equal(seen_of_part, seen[ids])  # what is hidden follows the place in the global batch
    np.testing.assert_allclose(part, whole[ids], rtol=1e-6)


def test_in_expectation_it_is_the_code_length_of_levels_in_any_order_of_places():
    """By all orders of three places in each of two levels; the network's logits depend on all that it sees."""
    tokens, n = np.int32([[0, 3, 2, 2, 1, 0]]), 60_000

    def nats(seen):
        logits = np.asarray(waves(jnp.asarray(seen), jnp.mean(jnp.asarray(seen) == MASK, axis=1), None), np.float64)
        return np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, tokens[..., None], -1)[..., 0]

    total = []
    for level, order in itertools.product(range(2), itertools.permutations(range(3))):
        seen = tokens.copy()
        seen[:, [2 * place + fine for place in range(3) for fine in range(level, 2)]] = MASK
        for place in order:
            total.append(nats(seen)[0, 2 * place + level])
            seen[0, 2 * place + level] = tokens[0, 2 * place + level]
    r = np.float32((np.arange(n) + 0.5) / n)
    found = jax.jit(lambda tokens, r: tk.coarse_to_fine_loss(
        KEY, lambda x, t, cond: waves(x, t, None), tokens, r, mask_id=MASK, levels=2).mean())(tokens.repeat(n, 0), r)
    assert found == pytest.approx(np.mean(total), rel=0.01)


def test_coarser_levels_are_shown_before_finer_ones():
    unmasker = tk.confidence(0.5, levels=2)
    known, keep = np.full((4, 6), 1, np.int32), np.zeros((4, 6), bool)
    keep[2, [0, 3]] = True
    tokens, seen = jax.jit(lambda key: tk.sample_tokens(
        key, lambda x, t, cond: waves(x, t, None), unmasker, tk.mask_times(6), (4, 6), mask_id=MASK, sample_ids=IDS,
        known=known, keep=keep, trajectory=True))(KEY)
    hidden = np.asarray(seen == MASK).reshape(6, 4, 3, 2)
    for coarse, fine in zip(hidden[..., 0].sum(2).T, hidden[..., 1].sum(2).T):  # of each sample, over the steps
        assert all(f == fine[0] for c, f in zip(coarse, fine) if c) and fine[-1] == coarse[-1] == 0
    assert hidden[0, 0, :, 1].all() and hidden[0, 2, :, 1].tolist() == [True, False, True]
    first = np.asarray(seen[0] != MASK).reshape(4, 3, 2)[[0, 1, 3], :, 0]
    assert (first.sum(1) == 1).all() and len({tuple(row) for row in first.tolist()}) > 1  # by confidence within one
    assert tokens[2, 0] == tokens[2, 3] == 1
