"""Scores of one set against loops and closed forms."""

import math

import jax
import numpy as np
import pytest

from jaxgen.metrics import bits_per_dim, inception_score, pairwise_diversity

LOGITS = 2 * np.random.default_rng(0).normal(size=(23, 6))


def of_part(logits):
    p = [[math.exp(v) / sum(math.exp(u) for u in row) for v in row] for row in logits]
    mean = [sum(row[k] for row in p) / len(p) for k in range(len(p[0]))]
    return math.exp(sum(v * math.log(v / mean[k]) for row in p for k, v in enumerate(row)) / len(p))


@pytest.mark.parametrize("splits", [1, 2, 5, 23])
def test_inception_score_is_its_definition(splits):
    parts = [LOGITS[i * 23 // splits:(i + 1) * 23 // splits] for i in range(splits)]
    scores = [of_part(part) for part in parts]
    np.testing.assert_allclose(inception_score(LOGITS, splits=splits, seed=None),
                               (np.mean(scores), np.std(scores)), rtol=1e-12, atol=1e-12)
    order = np.random.default_rng(4).permutation(23)
    np.testing.assert_allclose(inception_score(LOGITS, splits=splits, seed=4),
                               inception_score(LOGITS[order], splits=splits, seed=None), rtol=1e-12, atol=1e-12)


def test_inception_score_runs_from_one_to_the_number_of_classes():
    with np.errstate(divide="ignore"):
        sure = np.log(np.eye(5))
    np.testing.assert_allclose(inception_score(np.repeat(sure, 3, 0), splits=1)[0], 5)
    np.testing.assert_allclose(inception_score(np.repeat(sure[:1], 9, 0), splits=3), (1, 0))
    np.testing.assert_allclose(inception_score(np.zeros((9, 5)), splits=3), (1, 0), atol=1e-12)
    logits = np.float32(LOGITS)
    p = np.asarray(jax.nn.softmax(logits))
    np.testing.assert_allclose(inception_score(np.log(p)), inception_score(logits), rtol=1e-5)


def test_bad_logits_are_named():
    with pytest.raises(ValueError, match=r"logits are probabilities.*np.log\(p\)"):
        inception_score(np.full((20, 4), 0.25, np.float32))
    with pytest.raises(ValueError, match="finite greatest number in each row, got nan in row 2"):
        inception_score(np.where(np.arange(23)[:, None] == 2, np.nan, LOGITS))
    with pytest.raises(ValueError, match="finite greatest number in each row, got -inf in row 0"):
        inception_score(np.full((20, 4), -np.inf))
    with pytest.raises(ValueError, match="splits=10 is more than the 9 rows"):
        inception_score(LOGITS[:9])
    with pytest.raises(ValueError, match=r"\[N, K\], got shape \(23,\)"):
        inception_score(LOGITS[:, 0])


def test_bits_per_dim_of_a_uniform_density_is_the_same_in_both_units():
    values, shape = 256, (4, 4, 3)
    nats = np.full(2, 48 * np.log(values), np.float32)  # of bytes, all equally likely
    np.testing.assert_allclose(bits_per_dim(nats, shape), 8, rtol=1e-6)
    scaled = np.full(2, 48 * np.log(values / 127.5), np.float32)  # the density of x / 127.5 - 1
    np.testing.assert_allclose(bits_per_dim(scaled, shape, offset=np.log2(127.5)), 8, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda x: bits_per_dim(x, shape))(nats), 8, rtol=1e-6)
    with pytest.raises(ValueError, match=r"shape\[0\] must be an integer of at least 1, got 0"):
        bits_per_dim(nats, (0, 4))


def absolute(x, y):
    return np.abs(x - y)[:, 0]


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_diversity_over_all_pairs_is_the_mean_of_the_loop(batch_size):
    x = np.random.default_rng(1).normal(size=(9, 1))
    wanted = np.mean([abs(x[i, 0] - x[j, 0]) for i in range(9) for j in range(i)])
    np.testing.assert_allclose(pairwise_diversity(absolute, x, pairs=36, batch_size=batch_size), wanted, rtol=1e-12)
    assert pairwise_diversity(absolute, np.ones((9, 1)), pairs=5) == 0


def test_pairs_are_drawn_of_different_rows_without_replacement_and_evenly():
    seen, sizes = [], set()

    def spy(x, y):
        seen.extend(tuple(sorted((int(a), int(b)))) for a, b in zip(x[:, 0], y[:, 0]))
        sizes.add(len(x))
        return np.zeros(len(x))

    x = np.arange(50)[:, None]
    for seed in range(20):
        pairwise_diversity(spy, x, pairs=64, seed=seed, batch_size=32)
        drawn = seen[-64:]
        assert len(set(drawn)) == 64 and all(a != b for a, b in drawn)
    assert sizes == {32}
    counts = np.bincount(np.ravel(seen), minlength=50)
    assert counts.min() > 25 and counts.max() < 80  # 51 on average, std 7


def test_bad_distances_are_named():
    with pytest.raises(ValueError, match=r"distance must give one number for each of 4 pairs, got shape \(4, 1\)"):
        pairwise_diversity(lambda x, y: x - y, np.ones((9, 1)), pairs=5, batch_size=4)
    with pytest.raises(ValueError, match="x must have 2 examples at least, got 1"):
        pairwise_diversity(absolute, np.ones((1, 1)), pairs=5)
