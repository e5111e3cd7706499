"""Nearest neighbours, and what is counted by them, against loops over full distance matrices; memory of the blocks."""

import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxgen.metrics import (
    authenticity,
    gaussian_mmd,
    manifold,
    nearest_neighbours,
    precision_recall_density_coverage,
    rows,
)

RNG = np.random.default_rng(0)
REAL, GENERATED = RNG.normal(size=(60, 3)), 0.7 * RNG.normal(size=(50, 3)) + 0.4


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks, and odd last ones."""
    monkeypatch.setattr(rows.blocks, "__defaults__", (16,))
    monkeypatch.setattr(manifold, "BLOCK", 11)


def radius(points, i, k):
    """Distance of points[i] to its k-th neighbour."""
    return sorted(np.linalg.norm(points[i] - other) for j, other in enumerate(points) if j != i)[k - 1]


@pytest.mark.parametrize("k", [1, 3, 49])
def test_it_is_the_definition(k, small_blocks):
    real_radii = [radius(REAL, i, k) for i in range(60)]
    generated_radii = [radius(GENERATED, i, k) for i in range(50)]
    inside = np.array([[np.linalg.norm(g - r) <= limit for r, limit in zip(REAL, real_radii)] for g in GENERATED])
    recalled = [any(np.linalg.norm(g - r) <= limit for g, limit in zip(GENERATED, generated_radii)) for r in REAL]
    wanted = (inside.any(1).mean(), np.mean(recalled), inside.sum(1).mean() / k, inside.any(0).mean())
    for dtype in (np.float64, np.float32):
        found = precision_recall_density_coverage(REAL.astype(dtype), GENERATED.astype(dtype), k=k)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_of_equal_distributions_density_is_one():
    found = [precision_recall_density_coverage(*RNG.normal(size=(2, 200, 4)), k=5) for _ in range(20)]
    assert abs(np.mean([each.density for each in found]) - 1) < 0.03


@pytest.mark.parametrize("k", [1, 4, 60])
def test_neighbours_are_those_of_the_distance_matrix(k, small_blocks):
    distances, indices = nearest_neighbours(GENERATED, REAL, k=k)
    full = cdist(GENERATED, REAL)
    np.testing.assert_array_equal(indices, np.argsort(full, axis=1)[:, :k])
    np.testing.assert_allclose(distances, np.sort(full, axis=1)[:, :k], rtol=1e-12)


def test_a_copy_is_at_distance_zero_far_from_the_origin_in_float32():
    x = (1000 + RNG.normal(size=(200, 64))).astype(np.float32)
    distances, indices = nearest_neighbours(x[50:60], x)
    assert indices[:, 0].tolist() == list(range(50, 60)) and (distances == 0).all()


def test_memory_does_not_grow_with_the_product_of_the_counts(monkeypatch):
    monkeypatch.setattr(rows.blocks, "__defaults__", (128,))
    monkeypatch.setattr(manifold, "BLOCK", 128)
    peaks = []
    for count in (1500, 3000):  # 9 and 36 MB, were all distances kept
        x, y = RNG.normal(size=(2, count, 4)).astype(np.float32)
        tracemalloc.start()
        try:
            nearest_neighbours(x, y, k=3)
            precision_recall_density_coverage(x, y)
            gaussian_mmd(x, y)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 2.2 * peaks[0] < 3e6


def test_authenticity_is_its_definition(small_blocks):
    train, held_out, samples = RNG.normal(size=(40, 3)), RNG.normal(size=(31, 3)), RNG.normal(size=(50, 3))
    samples[:9] = train[:9] + 1e-3
    of_samples, of_held_out = (cdist(x, train).min(axis=1) for x in (samples, held_out))
    between = cdist(train, train) + np.diag(np.full(40, np.inf))
    nearest = cdist(samples, train).argmin(axis=1)
    found = authenticity(samples, train, held_out)
    assert found.closer == np.mean(of_samples < np.median(of_held_out))
    np.testing.assert_allclose(found.ratio, np.median(of_samples) / np.median(of_held_out), rtol=1e-12)
    assert found.authentic == np.mean(of_samples > between.min(axis=1)[nearest])


def test_a_model_that_copies_and_one_that_does_not():
    train, held_out, fresh = RNG.normal(size=(3, 400, 6))
    copied = authenticity(train + 1e-4 * fresh, train, held_out)
    assert copied.closer == 1 and copied.ratio < 1e-2 and copied.authentic == 0
    new = authenticity(fresh, train, held_out)
    assert abs(new.closer - 0.5) < 0.1 and abs(new.ratio - 1) < 0.1 and abs(new.authentic - 0.5) < 0.1


def test_examples_that_the_training_set_has_twice_are_not_authentic_at_distance_zero():
    train = np.repeat(RNG.normal(size=(20, 3)), 3, axis=0)
    assert authenticity(train[::3], train, RNG.normal(size=(20, 3))).authentic == 0
    assert authenticity(train[::3] + 1e-3, train, RNG.normal(size=(20, 3))).authentic == 1


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="generated must have 4 rows at least, got 3"):
        precision_recall_density_coverage(REAL, GENERATED[:3])
    with pytest.raises(ValueError, match="reference must have 61 rows at least, got 60"):
        nearest_neighbours(GENERATED, REAL, k=61)
    with pytest.raises(ValueError, match=r"samples, train, held_out must be features of one network, got \[3, 3, 2\]"):
        authenticity(GENERATED, REAL, REAL[:, 1:])
    with pytest.raises(ValueError, match="held_out must not be training examples"):
        authenticity(GENERATED, REAL, REAL[:9])
