"""Intervals: how often they hold what they are for, SciPy's bootstrap, and Wilson's equation."""

import numpy as np
import pytest
from scipy import stats

from jaxgen.metrics import Moments, binomial_interval, bootstrap_interval, frechet_to

X = np.random.default_rng(0).exponential(size=(80, 1))


def test_the_interval_is_scipys_by_percentiles():
    found = bootstrap_interval(np.mean, X, resamples=4000, level=0.9)
    theirs = stats.bootstrap((X[:, 0],), np.mean, n_resamples=4000, confidence_level=0.9, method="percentile", rng=1)
    np.testing.assert_allclose(found, theirs.confidence_interval, atol=0.02 * X.std())


def test_two_sets_are_resampled_by_themselves_and_pairs_together():
    def difference(x, y):
        return float(np.mean(x) - np.mean(y))

    low, high = bootstrap_interval(difference, X, X + 1, resamples=400, paired=True)
    np.testing.assert_allclose((low, high), -1, atol=1e-9)
    low, high = bootstrap_interval(difference, X, X[:40] + 1, resamples=400)
    error = np.std(X) * np.sqrt(1 / 80 + 1 / 40)
    assert 2.5 * error < high - low < 6 * error


def test_centred_intervals_hold_the_frechet_distance_at_n_and_percentiles_do_not():
    dim, count, trials = 12, 50, 60  # a bias of 1.4, a std of 0.5
    distance, rng = frechet_to(Moments(10**9, np.zeros(dim), np.eye(dim) * (10**9 - 1))), np.random.default_rng(0)

    def draw():
        return 1.2 * rng.normal(size=(count, dim)) + 0.4

    expected = np.mean([distance(draw()) for _ in range(1500)])
    held = []
    for seed, x in enumerate(draw() for _ in range(trials)):
        ends = [bootstrap_interval(distance, x, resamples=100, centred=centred, level=0.9, seed=seed)
                for centred in (True, False)]
        held.append([low <= expected <= high for low, high in ends])
    centred, percentiles = np.mean(held, axis=0)
    assert 0.8 <= centred <= 0.99
    assert percentiles < 0.6


def test_wilsons_interval_ends_where_its_equation_holds():
    for successes, count, level in ((3, 17, 0.95), (50, 100, 0.5), (999, 1000, 0.99)):
        p, z = successes / count, stats.norm.ppf((1 + level) / 2)
        for end in binomial_interval(successes, count, level=level):
            np.testing.assert_allclose(abs(p - end), z * np.sqrt(end * (1 - end) / count), rtol=1e-9)
    for successes in (0, 7, 20):
        wanted = stats.binomtest(successes, 20).proportion_ci(method="wilson")
        np.testing.assert_allclose(binomial_interval(successes, 20), wanted, atol=1e-12)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="level must be a probability between 0 and 1, got 95"):
        bootstrap_interval(np.mean, X, level=95)
    with pytest.raises(ValueError, match=r"arrays must have rows, .*got shapes \[\(0, 3\)\]"):
        bootstrap_interval(np.mean, np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"paired arrays must have equally many rows, got \[80, 79\]"):
        bootstrap_interval(np.mean, X, X[1:], paired=True)
    with pytest.raises(ValueError, match="statistic must be finite, got nan"):
        bootstrap_interval(lambda x: np.nan, X, resamples=3)
    with pytest.raises(ValueError, match="successes=3 is more than count=2"):
        binomial_interval(3, 2)
