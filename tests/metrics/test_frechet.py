"""The Fréchet distance against SciPy's matrix root, closed forms, and its limit for many samples."""

import numpy as np
import pytest
from scipy import linalg

from jaxgen.metrics import Moments, covariance, frechet_distance, frechet_distance_infinity, frechet_to, moments

DIM = 24


def drawn(seed, count, dim=DIM):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dim)) @ rng.normal(size=(dim, dim)) + rng.normal(size=dim)


def gaussian(mean, square):
    """Moments of as good as infinitely many draws."""
    return Moments(10**9, np.asarray(mean, float), np.asarray(square, float) * (10**9 - 1))


def by_matrix_root(a, b):
    step = a.mean - b.mean
    squares = covariance(a), covariance(b)
    return step @ step + sum(np.trace(square) for square in squares) - 2 * np.trace(linalg.sqrtm(np.dot(*squares))).real


# SciPy's root loses half of the digits where the product has no full rank: sqrt(1e-16), for each lacking dimension.
@pytest.mark.parametrize("counts, rtol", [((900, 500), 1e-12), ((10, 900), 1e-7), ((10, 7), 1e-7), ((2, 2), 1e-7)],
                         ids=str)
def test_it_is_scipys_also_without_full_rank(counts, rtol):
    a, b = (moments(drawn(seed, count)) for seed, count in enumerate(counts))
    np.testing.assert_allclose(frechet_distance(a, b), by_matrix_root(a, b), rtol=rtol)
    np.testing.assert_allclose(frechet_distance(b, a), frechet_distance(a, b), rtol=1e-8)


@pytest.mark.parametrize("lacking", [0, 20])
def test_of_commuting_covariances_it_is_the_distance_of_means_and_stds(lacking):
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    stds = rng.uniform(0.1, 3, (2, DIM)) * (np.arange(DIM) >= lacking)
    means = rng.normal(size=(2, DIM))
    found = frechet_distance(*(gaussian(mean, axes * std**2 @ axes.T) for mean, std in zip(means, stds)))
    np.testing.assert_allclose(found, np.sum((means[0] - means[1])**2) + np.sum((stds[0] - stds[1])**2), rtol=1e-6)


def test_a_set_is_at_distance_zero_of_itself_and_never_below():
    for count in (3, 500):
        x = drawn(0, count)
        assert 0 <= frechet_distance(moments(x), moments(x[::-1])) < 1e-5 * np.trace(covariance(moments(x)))


def test_to_a_reference_it_is_the_same_of_features_and_of_moments():
    x, reference = drawn(0, 50), moments(drawn(1, 60))
    assert frechet_to(reference)(x) == frechet_to(reference)(moments(x)) == frechet_distance(moments(x), reference)


def test_extrapolated_to_infinitely_many_samples_it_is_unbiased():
    dim, count, trials = 8, 500, 40
    reference, exact = gaussian(np.zeros(dim), np.eye(dim)), dim * (0.4**2 + 0.2**2)
    sets = 1.2 * np.random.default_rng(0).normal(size=(trials, count, dim)) + 0.4
    plain = [frechet_to(reference)(x) for x in sets]
    found = [frechet_distance_infinity(x, reference, seed=i) for i, x in enumerate(sets)]
    assert np.mean(plain) - exact > 3 * np.std(plain) / trials**0.5
    assert abs(np.mean(found) - exact) < 2 * np.std(found) / trials**0.5


def test_the_intercept_is_that_of_a_line_over_one_over_n():
    x, reference = drawn(0, 40, 4), moments(drawn(1, 60, 4))
    draws = np.random.default_rng(3)
    points = [[n, frechet_distance(moments(x[draws.choice(40, n, replace=False)]), reference)]
              for n in (10, 20, 40) for _ in range(2)]
    sizes, values = np.transpose(points)
    line = np.linalg.lstsq(np.stack([1 / sizes, np.ones(6)], axis=1), values)[0]
    found = frechet_distance_infinity(x, reference, sizes=(10, 20, 40), repeats=2, seed=3)
    np.testing.assert_allclose(found, line[1], rtol=1e-9)


def test_bad_arguments_are_named():
    x, reference = drawn(0, 40), moments(drawn(1, 40))
    with pytest.raises(ValueError, match=r"a and b must be of features of one network, got \[23, 24\]"):
        frechet_distance(moments(x[:, 1:]), reference)
    with pytest.raises(ValueError, match="b must be Moments, got ndarray"):
        frechet_distance(reference, x)
    for sizes in ([41, 20], [20, 20]):
        with pytest.raises(ValueError, match=r"sizes must be 2 different numbers at least, up to the 40 rows.*got"):
            frechet_distance_infinity(x, reference, sizes=sizes)
    with pytest.raises(ValueError, match="sizes must be an integer of at least 2, got 1"):
        frechet_distance_infinity(x, reference, sizes=1)
