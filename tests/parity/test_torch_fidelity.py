"""Metrics of feature sets against torch-fidelity and prdc, on the same features."""

import importlib

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
from tests.parity import torchvision_networks  # noqa: E402

with torchvision_networks.provided():
    pytest.importorskip("torch_fidelity")
    fid, isc, kid, prc = (importlib.import_module(f"torch_fidelity.metric_{name}") for name in (
        "fid", "isc", "kid", "prc"))

from jaxgen import metrics  # noqa: E402


def features(real=400, generated=350, dim=48, dtype=np.float32):
    """Two sets like a network's: not negative, of unequal scales, generated ones less varied and shifted."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(12, dim))
    x, y = rng.normal(size=(real, 12)), 0.8 * rng.normal(size=(generated, 12)) + 0.3
    return tuple(np.maximum(z @ mixing * 0.1 + 0.4 + 0.02 * rng.normal(size=(len(z), dim)), 0).astype(dtype)
                 for z in (x, y))


# With 40 rows of 48 numbers neither covariance has full rank; their eigenvalues of the product may turn complex there.
@pytest.mark.parametrize("count, rtol", [(400, 1e-5), (40, 1e-5)])
def test_frechet_distance(count, rtol):
    x, y = features(count, count - 7)
    statistics = [fid.fid_features_to_statistics(torch.from_numpy(z.astype(np.float64))) for z in (x, y)]
    theirs = fid.fid_statistics_to_metric(*statistics, verbose=False)[fid.KEY_METRIC_FID]
    ours = metrics.frechet_distance(metrics.moments(x), metrics.moments(y))
    np.testing.assert_allclose(ours, theirs, rtol=rtol)


@pytest.mark.parametrize("options", [{}, {"degree": 2, "gamma": 0.5, "coef": 0.0}], ids=str)
def test_kernel_distance(options):
    # Subsets of all rows hold the same ones whatever the draws.
    x, y = features(300, 300)
    theirs = {"degree": "kid_kernel_poly_degree", "gamma": "kid_kernel_poly_gamma", "coef": "kid_kernel_poly_coef0"}
    wanted = kid.kid_features_to_metric(*map(torch.from_numpy, (x, y)), kid_subsets=2, kid_subset_size=300,
                                        verbose=False, **{theirs[name]: value for name, value in options.items()})
    mean, std = metrics.kernel_distance(x, y, subsets=2, subset_size=300, **options)
    np.testing.assert_allclose(mean, wanted[kid.KEY_METRIC_KID_MEAN], rtol=1e-3)
    assert std < 1e-6 * mean


def test_kernel_distance_by_random_subsets():
    x, y = features(400, 350)
    wanted = kid.kid_features_to_metric(*map(torch.from_numpy, (x, y)), kid_subsets=100, kid_subset_size=100,
                                        verbose=False)
    mean, std = metrics.kernel_distance(x, y, subset_size=100)
    spread = wanted[kid.KEY_METRIC_KID_STD]
    assert abs(mean - wanted[kid.KEY_METRIC_KID_MEAN]) < 4 * spread * np.sqrt(2 / 100)
    np.testing.assert_allclose(std, spread, rtol=0.4)


@pytest.mark.parametrize("splits", [1, 7, 10])
def test_inception_score(splits):
    logits = (3 * np.random.default_rng(1).normal(size=(203, 20))).astype(np.float32)
    wanted = isc.isc_features_to_metric(torch.from_numpy(logits), splits=splits, shuffle=False)
    np.testing.assert_allclose(metrics.inception_score(logits, splits=splits, seed=None),
                               (wanted[isc.KEY_METRIC_ISC_MEAN], wanted[isc.KEY_METRIC_ISC_STD]), rtol=1e-9, atol=1e-9)
    # Their order of rows comes from a generator of another kind.
    order = np.random.RandomState(2020).permutation(203)
    shuffled = isc.isc_features_to_metric(torch.from_numpy(logits), splits=splits)
    np.testing.assert_allclose(metrics.inception_score(logits[order], splits=splits, seed=None)[0],
                               shuffled[isc.KEY_METRIC_ISC_MEAN], rtol=1e-9)


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("in_parts", [False, True])
def test_precision_and_recall(k, in_parts):
    real, generated = features()
    wanted = prc.prc_features_to_metric(*map(torch.from_numpy, (generated, real)), prc_neighborhood=k,
                                        prc_batch_size=128, save_cpu_ram=in_parts, verbose=False)
    found = metrics.precision_recall_density_coverage(real, generated, k=k)
    assert 0.05 < found.precision < 1 and 0.05 < found.recall < 1
    np.testing.assert_allclose(found[:2], (wanted[prc.KEY_METRIC_PRECISION], wanted[prc.KEY_METRIC_RECALL]), rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_recall_density_and_coverage_are_those_of_prdc(k):
    prdc = pytest.importorskip("prdc")
    real, generated = features()
    wanted = prdc.compute_prdc(real, generated, nearest_k=k)
    found = metrics.precision_recall_density_coverage(real, generated, k=k)
    assert found.density < 3 and 0.05 < found.coverage < 1
    for name, value in found._asdict().items():
        np.testing.assert_allclose(value, wanted[name], rtol=1e-6, err_msg=name)
