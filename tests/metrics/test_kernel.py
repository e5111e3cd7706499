"""Kernel distances against loops over pairs of rows."""

import numpy as np
import pytest

from jaxgen.metrics import gaussian_mmd, kernel_distance, rows

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 5)), RNG.normal(size=(26, 5)) + 0.5


def mean_of_pairs(kernel, a, b, *, same=False):
    values = [kernel(u, v) for i, u in enumerate(a) for j, v in enumerate(b) if not (same and i == j)]
    return np.mean(values)


@pytest.mark.parametrize("options", [{}, {"degree": 1}, {"degree": 2, "gamma": 0.7, "coef": 0.3}], ids=str)
def test_of_whole_sets_it_is_the_unbiased_estimate(options):
    degree, gamma, coef = options.get("degree", 3), options.get("gamma", 1 / 5), options.get("coef", 1)

    def kernel(u, v):
        return (gamma * np.dot(u, v) + coef) ** degree

    x, y = X[:26], Y
    wanted = mean_of_pairs(kernel, x, x, same=True) + mean_of_pairs(kernel, y, y, same=True)
    wanted -= 2 * mean_of_pairs(kernel, x, y)
    mean, std = kernel_distance(x, y, subsets=3, subset_size=26, **options)
    np.testing.assert_allclose(mean, wanted, rtol=1e-10)
    assert std < 1e-12
    narrow, _ = kernel_distance(np.float32(x), np.float32(y), subsets=1, subset_size=26, **options)
    np.testing.assert_allclose(narrow, wanted, rtol=1e-4)


def test_for_equal_distributions_its_mean_is_zero_whatever_the_size():
    for size in (4, 40):
        means = [kernel_distance(*np.random.default_rng(i).normal(size=(2, size, 3)), subsets=1, subset_size=size)[0]
                 for i in range(400)]
        assert abs(np.mean(means)) < 3 * np.std(means) / 20
        assert min(means) < 0


def test_subsets_are_drawn_without_replacement_and_by_the_seed():
    draws = np.random.default_rng(5)
    wanted = []
    for _ in range(4):
        x, y = X[draws.choice(30, 10, replace=False)], Y[draws.choice(26, 10, replace=False)]
        wanted.append(kernel_distance(x, y, subsets=1, subset_size=10)[0])
    found = kernel_distance(X, Y, subsets=4, subset_size=10, seed=5)
    np.testing.assert_allclose(found, (np.mean(wanted), np.std(wanted)), rtol=1e-10)


def test_gaussian_mmd_is_the_biased_estimate_with_the_diagonal(monkeypatch):
    def kernel(u, v):
        return np.exp(-np.sum((u - v) ** 2) / (2 * 1.5**2))

    wanted = mean_of_pairs(kernel, X, X) + mean_of_pairs(kernel, Y, Y) - 2 * mean_of_pairs(kernel, X, Y)
    monkeypatch.setattr(rows.blocks, "__defaults__", (7,))  # several blocks, and odd last ones
    np.testing.assert_allclose(gaussian_mmd(X, Y, sigma=1.5, scale=7), 7 * wanted, rtol=1e-10)
    assert gaussian_mmd(X, X[::-1]) < 1e-9


@pytest.mark.parametrize("sigma", [10, 100])  # the kernel's values lie within 1e-2 and 1e-4 of 1
def test_of_embeddings_of_length_one_float32_keeps_five_digits(sigma):
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in RNG.normal(0.3, 1, (2, 300, 64)))
    wanted = gaussian_mmd(x, y, sigma=sigma)
    assert 0 < wanted < 10 / sigma**2
    np.testing.assert_allclose(gaussian_mmd(np.float32(x), np.float32(y), sigma=sigma), wanted, rtol=1e-5)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="subset_size=1000 is more than the 30 rows of x: give subset_size=26 at most"):
        kernel_distance(X, Y)
    with pytest.raises(ValueError, match="subset_size=30 is more than the 26 rows of y"):
        kernel_distance(X, Y, subset_size=30)
    for distance in (lambda x, y: kernel_distance(x, y, subset_size=5), gaussian_mmd):
        with pytest.raises(ValueError, match=r"x, y must be features of one network, got \[5, 4\]"):
            distance(X, Y[:, 1:])
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        gaussian_mmd(X, Y, sigma=0)
