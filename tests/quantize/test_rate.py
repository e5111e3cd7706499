"""Entropy-constrained vector quantization against a loop and against what is known of Gaussian sources."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxgen.core.types import Variables
from jaxgen.quantize import residual, vq
from jaxgen.quantize.nearest import nearest
from tests.quantize.inputs import normal, run, start, trained


@pytest.mark.parametrize("block_size", [None, 4])
def test_a_cost_is_added_to_the_squared_distance(block_size):
    z, codebook, cost = normal(0, 50, 3), normal(1, 11, 3), np.abs(normal(2, 11))
    found = run(lambda z: nearest(z, codebook, cost=cost, block_size=block_size), z)
    np.testing.assert_array_equal(found, (cdist(z, codebook, "sqeuclidean") + cost).argmin(axis=1))


def test_choices_and_moving_averages_follow_the_formula():
    quantizer = vq(10, ema_decay=0.8, rate_weight=0.3)
    variables, batches = start(quantizer, 3), normal(1, 6, 40, 3) + np.float32([2, 0, -1])
    indices, states, _ = trained(quantizer, variables, batches)
    codebook = np.float64(variables.state["codebook"])
    frequency, variance = np.full(10, 0.1), 0.0
    for step, z in enumerate(np.float64(batches)):
        costs = cdist(z, codebook, "sqeuclidean") - 0.3 * variance * np.log2(frequency)
        np.testing.assert_array_equal(indices[step], costs.argmin(axis=1))
        shares = np.bincount(indices[step], minlength=10) / 40
        frequency = 0.8 * frequency + 0.2 * shares
        variance = 0.8 * variance + 0.2 * np.var(z, axis=0).sum()
        np.testing.assert_allclose(states["frequency"][step], frequency, rtol=1e-5)
        np.testing.assert_allclose(states["variance"][step], variance, rtol=1e-5)
        codebook = np.float64(states["codebook"][step])
    assert np.any(indices[-1] != cdist(batches[-1], states["codebook"][-2]).argmin(axis=1))


def test_a_gaussian_takes_a_quarter_of_a_bit_more_than_the_least_possible():
    """The best scalar quantizer takes log2(2 pi e / 12) / 2 = .254 bits above R(D) = log2(1 / D) / 2 once its codes are
    entropy-coded (Gish & Pierce 1968); nearest codes, .397 (8 codes: D = .03454 and 2.825 bits of entropy, Max 1960).
    Where it stops, a bit is worth the slope of R(D): w = 2 ln 2 D."""
    weight = 0.05
    quantizer = vq(16, ema_decay=0.9, kmeans_iterations=5, rate_weight=weight)
    batches = normal(3, 2000, 512, 1) * 7  # whatever the scale
    indices, states, _ = trained(quantizer, start(quantizer, 1), batches)
    late = slice(-100, None)
    codes = states["codebook"][late]
    distortion = np.mean(np.square(batches[late] - np.take_along_axis(codes, indices[late, :, None], axis=1))) / 49
    shares = np.bincount(indices[late].ravel(), minlength=16) / indices[late].size
    bits = -np.sum(shares[shares > 0] * np.log2(shares[shares > 0]))
    np.testing.assert_allclose(bits - 0.5 * np.log2(1 / distortion), 0.254, atol=0.02)
    np.testing.assert_allclose(distortion, weight / (2 * np.log(2)), rtol=0.1)


def test_more_weight_takes_fewer_bits_in_every_level():
    z = normal(4, 60, 256, 2)

    def bits(weight):
        quantizer = residual(vq(16, ema_decay=0.9, kmeans_iterations=3, rate_weight=weight), 2)
        indices, _, _ = trained(quantizer, start(quantizer, 2), z, levels=(2,))
        shares = np.stack([np.bincount(level.ravel(), minlength=16) / level.size
                           for level in np.moveaxis(indices[-20:], -1, 0)])
        return -np.sum(shares * np.log2(np.maximum(shares, 1e-9)), axis=1)

    assert np.all(bits(0.2) < bits(0.02)) and np.all(bits(0.02) < bits(0.0))


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_revived_code_costs_what_an_average_one_does(ema_decay):
    far = np.float32([[0, 0], [50, 50], [60, 60], [70, 70]])
    quantizer = vq(4, ema_decay=ema_decay, revive_below=0.5, rate_weight=0.01)
    _, state = start(quantizer, 2)
    variables = Variables({}, state | {"codebook": far, "sums": far}) if ema_decay else Variables(
        {"codebook": far}, state)
    _, states, _ = trained(quantizer, variables, normal(0, 80, 64, 2))
    frequency = states["frequency"]
    lowest = frequency.min(axis=1)
    assert lowest.min() < 0.13 < 0.2 < lowest[-1]
    revived = (frequency[1:] == 0.25) & (frequency[:-1] < 0.25)
    assert revived.sum() >= 3


def test_the_variance_of_vectors_far_from_0_is_exact():
    z = normal(5, 1, 500, 2) + np.float32(3000)
    quantizer = vq(4, ema_decay=0.0, kmeans_iterations=2, rate_weight=0.1)
    _, states, _ = trained(quantizer, start(quantizer, 2), z)
    np.testing.assert_allclose(states["variance"][-1], np.var(np.float64(z[0]), axis=0).sum(), rtol=1e-3)


def test_where_no_vector_counts_nothing_moves():
    quantizer = vq(6, ema_decay=0.9, rate_weight=0.1)
    variables = start(quantizer, 3)
    none = np.zeros(20, bool)
    _, state = run(lambda z: quantizer.apply(variables, z, train=True, valid=none), normal(0, 20, 3))
    jax.tree.map(np.testing.assert_array_equal, state, variables.state)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"cost": jnp.zeros(3)}, r"must have the shape \(4,\)"),
    ({"cost": jnp.zeros(4), "metric": "cosine"}, "be of the euclidean metric"),
])
def test_a_cost_that_fits_no_code_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        nearest(jnp.zeros((3, 5)), jnp.zeros((4, 5)), **arguments)


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="rate_weight"):
        vq(4, rate_weight=-0.1)
