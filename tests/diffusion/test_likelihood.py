"""Likelihoods of data whose density is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from jaxgen import diffusion as d
from tests.diffusion.oracle import MEANS, SHARES, STDS, gaussian, mixture

KEY = jax.random.key(5)


def test_the_exact_likelihood_of_a_gaussian_is_the_pinned_one():
    with jax.enable_x64(True):
        sigmas = d.exponential_sigmas(240, 1e-4, 80.0)
        x = jnp.full((1, 1), 0.3)
        nll = -jax.jit(lambda x: d.log_prob(gaussian(0.0, 0.5), sigmas, x, prior_variance=sigmas[0] ** 2 + 0.25))(x)
    assert float(nll[0]) == pytest.approx(0.40579135, abs=1e-6)
    assert float(nll[0]) == pytest.approx(-norm.logpdf(0.3, scale=0.5), abs=1e-6)


def test_the_likelihood_of_a_mixture_in_several_dimensions_exact_and_by_probes():
    sigmas = d.exponential_sigmas(100, 0.01, 80.0)
    x = jnp.array([[[0.3, -1.0], [0.9, -0.4]], [[-1.2, 0.1], [0.6, 0.0]]])
    density = sum(w * norm.pdf(np.asarray(x)[..., None], m, s) for w, m, s in zip(SHARES, MEANS, STDS, strict=True))
    wanted = np.log(density[..., 0]).sum((1, 2))
    exact, probed = jax.jit(lambda x: [d.log_prob(mixture, sigmas, x, key=key) for key in (None, KEY)])(x)
    np.testing.assert_allclose(exact, wanted, atol=5e-3)
    # The Jacobian is diagonal here, so that one probe of signs has no variance at all.
    np.testing.assert_allclose(probed, exact, atol=1e-4)


def test_a_traced_grid_with_its_zero_or_without_it_gives_the_same_likelihood():
    sigmas = np.asarray(d.exponential_sigmas(20, 0.01, 80.0))
    x = np.float32([[0.3, -1.0], [0.9, -0.4]])
    known = jax.jit(lambda x: d.log_prob(gaussian(), sigmas, x))(x)
    traced = jax.jit(lambda *grids: [d.log_prob(gaussian(), grid, x) for grid in grids])(sigmas, sigmas[:-1])
    np.testing.assert_allclose(traced, [known, known], rtol=1e-5)


def test_probes_are_unbiased_for_a_full_jacobian_and_belong_to_the_sample():
    rotation = jnp.array([[0.8, 0.6], [-0.6, 0.8]])
    scale = jnp.array([0.3, 1.0])

    def denoiser(x, sigma, cond=None):  # N(0, R diag(scale²) R')
        return (x @ rotation * (scale**2 / (scale**2 + sigma**2))) @ rotation.T

    sigmas = d.exponential_sigmas(40, 0.01, 80.0)
    x = jnp.tile(jnp.array([[0.3, -0.5]]), (400, 1))
    exact = jax.jit(lambda x: d.log_prob(denoiser, sigmas, x))(x[:1])[0]
    rotated = np.asarray(x[0] @ rotation, np.float64)
    assert float(exact) == pytest.approx(norm.logpdf(rotated, scale=np.asarray(scale)).sum(), abs=5e-3)
    run = jax.jit(lambda x, ids: d.log_prob(denoiser, sigmas, x, key=KEY, probes=4, sample_ids=ids))
    estimates = np.asarray(run(x, jnp.arange(400)))
    assert estimates.std() > 0.01
    assert estimates.mean() == pytest.approx(float(exact), abs=4 * float(estimates.std()) / 20)
    np.testing.assert_allclose(run(x[:1], jnp.array([7])), estimates[7:8], rtol=1e-5)


def test_bits_per_dim_offsets_are_the_logarithms_of_the_scales():
    assert d.BITS_OFFSET_256 == 7.0 and pytest.approx(6.9943534, abs=1e-7) == d.BITS_OFFSET_127_5
    # A uniform density over [-1, 1) is 8 bits for 256 levels: log p = -d log 2.
    assert float(d.bits_per_dim(jnp.array([-3 * np.log(2.0)]), 3, offset=d.BITS_OFFSET_256)[0]) == pytest.approx(8.0)


def test_the_variational_bound_of_an_exact_denoiser_is_the_code_length():
    """Data of two levels with probability .2 and .8: the bound meets -log p in the mean over draws."""
    levels, shares = jnp.array([-1.0, 1.0]), jnp.array([0.2, 0.8])

    def denoiser(x, sigma, cond=None):
        posterior = jax.nn.softmax(jnp.log(shares) - 0.5 * ((x[..., None] - levels) / sigma) ** 2)
        return posterior @ levels

    n = 4000
    x = jnp.where(jnp.arange(n) < 0.2 * n, -1.0, 1.0)[:, None]
    run = jax.jit(lambda sigmas: d.variational_bound(KEY, denoiser, sigmas, x, levels=2))
    bound, coarse = run(d.exponential_sigmas(200, 0.1, 30.0)), run(d.exponential_sigmas(5, 0.1, 30.0))
    entropy = -(0.2 * np.log(0.2) + 0.8 * np.log(0.8))
    assert float(bound.total.mean()) == pytest.approx(entropy, abs=0.03)
    assert float(coarse.total.mean()) > entropy + 0.1  # fewer steps, a looser bound
    assert (bound.prior >= 0).all() and (bound.reconstruction >= 0).all()
    assert float(bound.bits_per_dim(1).mean()) == pytest.approx(entropy / np.log(2), abs=0.05)
