"""Moments of features: one pass over odd batches and over devices gives what NumPy gives of all rows."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxgen.metrics import Moments, covariance, frechet_distance, merge, moments

# Means of a thousand stds, which a sum of squares in float32 would not survive.
X = (1000 + np.random.default_rng(0).normal(size=(2084, 6)) @ np.diag([1, 2, 3, 1, 0.5, 1])).astype(np.float32)
WANTED = Moments(len(X), X.mean(0, dtype=np.float64), np.cov(X.astype(np.float64), rowvar=False) * (len(X) - 1))


def assert_same(found, wanted=WANTED, rtol=1e-6):
    assert found.count == wanted.count
    assert found.mean.dtype == found.scatter.dtype == np.float64
    np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-9)
    scale = np.sqrt(np.outer(np.diag(wanted.scatter), np.diag(wanted.scatter)))
    np.testing.assert_allclose(found.scatter / scale, wanted.scatter / scale, atol=rtol)


@pytest.mark.parametrize("edges", [[], [1], [7, 8, 1000], [1024, 2083]], ids=str)
def test_odd_batches_merge_to_the_moments_of_all_rows(edges):
    parts = [moments(part) for part in np.split(X, edges)]
    assert_same(functools.reduce(merge, parts), rtol=1e-12)
    assert_same(functools.reduce(merge, parts[::-1]), rtol=1e-12)
    np.testing.assert_allclose(covariance(functools.reduce(merge, parts)), np.cov(X.astype(float), rowvar=False),
                               rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spec", [P("data"), P("data", "model"), P(None, "model"), P()], ids=str)
def test_features_sharded_over_four_devices_and_an_odd_last_batch(spec):
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "model"))
    found = [moments(jax.device_put(batch, NamedSharding(mesh, spec))) for batch in (X[:1000], X[1000:2000])]
    found.append(moments(jax.device_put(np.pad(X[2000:], ((0, 12), (0, 0))), NamedSharding(mesh, spec))[:84]))
    assert_same(functools.reduce(merge, found))


def test_features_in_bfloat16_are_counted_as_they_are():
    x = jax.numpy.asarray(X - 1000, jax.numpy.bfloat16)
    wide = np.asarray(x).astype(np.float64)
    np.testing.assert_allclose(covariance(moments(x)), np.cov(wide, rowvar=False), rtol=1e-12)


def test_published_statistics_are_moments():
    published = Moments(len(X), WANTED.mean, np.cov(X, rowvar=False, dtype=np.float64) * (len(X) - 1))
    assert frechet_distance(published, moments(X)) < 1e-9


def test_bad_features_are_named():
    with pytest.raises(ValueError, match=r"features must be features \[N, D\], got shape \(3, 2, 2\)"):
        moments(np.zeros((3, 2, 2)))
    with pytest.raises(ValueError, match="features must be finite, .* row 1500"):
        moments(np.where(np.arange(len(X))[:, None] == 1500, np.nan, X))
    with pytest.raises(ValueError, match="features must hold floating-point numbers.*int"):
        moments(np.zeros((3, 2), int))
    with pytest.raises(ValueError, match="features is traced, but is measured on the host"):
        jax.jit(lambda x: moments(x).mean)(X)
    with pytest.raises(ValueError, match=r"of one network, got \[6, 5\]"):
        merge(WANTED, moments(X[:, :5]))
    with pytest.raises(ValueError, match="moments must be of 2 rows at least.*got 1"):
        covariance(moments(X[:1]))
    with pytest.raises(ValueError, match="moments must be Moments, got ndarray"):
        covariance(X)


def test_features_of_several_processes_are_refused_with_the_fix():
    class Elsewhere:
        is_fully_addressable = False

    with pytest.raises(ValueError, match="several processes.*merge.*process_allgather"):
        moments(Elsewhere())
