"""Inpainting, image-to-image, interpolation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion as d
from tests.diffusion.oracle import gaussian, mixture

KEY = jax.random.key(11)
GRID = d.karras_sigmas(6, 0.02, 10.0)
KNOWN = jax.random.uniform(KEY, (2, 4, 4, 3), minval=-1.0)
KEEP = (jnp.arange(4) < 2)[None, :, None, None] & jnp.ones((2, 4, 4, 1), bool)


@pytest.mark.parametrize("name", ["unipc", "ddim", "heun"])
def test_inpainting_returns_known_pixels_exactly_and_fills_the_rest(name):
    x = d.prior_sample(KEY, KNOWN.shape, GRID[0])
    solver = d.get_solver(name)
    out = jax.jit(lambda x: d.sample(mixture, solver, GRID, x, KEY, post_step=d.inpaint(KNOWN, KEEP)))(x)
    keep = np.broadcast_to(KEEP, KNOWN.shape)
    np.testing.assert_array_equal(np.asarray(out)[keep], np.asarray(KNOWN)[keep])
    assert np.abs(np.asarray(out - KNOWN))[~keep].min() > 0 and np.isfinite(out).all()


def correlated(x, sigma, cond=None):
    """Pairs of N(0, 1) numbers with correlation .8."""
    covariance = jnp.array([[1.0, 0.8], [0.8, 1.0]])
    return jnp.linalg.solve(covariance + sigma**2 * jnp.eye(2), covariance @ x.T).T if x.ndim == 2 else x


def correlated_fast(x, sigma, cond=None):
    """The same by eigenvectors: the sum has variance 1.8, the difference .2 (per unit)."""
    plus, minus = (x[:, :1] + x[:, 1:]) / 2, (x[:, :1] - x[:, 1:]) / 2
    plus, minus = plus * 1.8 / (1.8 + sigma**2), minus * 0.2 / (0.2 + sigma**2)
    return jnp.concatenate([plus + minus, plus - minus], axis=1)


def test_repaint_comes_nearer_to_the_exact_conditional_than_replacement():
    """Given a = 1.5, b ~ N(1.2, .36)."""
    x = jnp.linspace(-2, 2, 8).reshape(4, 2)
    np.testing.assert_allclose(correlated(x, 0.7), correlated_fast(x, 0.7), rtol=1e-4, atol=1e-5)
    n = 4000
    known, keep = jnp.full((n, 2), 1.5), jnp.array([[True, False]])
    sigmas = d.karras_sigmas(25, 0.02, 10.0)
    x = d.prior_sample(KEY, (n, 2), sigmas[0])

    def mean(solver, post_step=None):
        out = jax.jit(lambda x: d.sample(correlated_fast, solver, sigmas, x, KEY, post_step=post_step))(x)
        np.testing.assert_array_equal(out[:, 0], known[:, 0])
        return float(out[:, 1].mean())

    replaced = mean(d.ddim(1.0), d.inpaint(known, keep))
    repainted = mean(d.repaint(d.ddim(1.0), known, keep, resample=8))
    assert abs(repainted - 1.2) < abs(replaced - 1.2) and repainted == pytest.approx(1.2, abs=0.12)


def test_masks_of_a_wrong_shape_or_type_are_refused():
    for keep, message in (
        (jnp.ones((4, 4), bool), "does not fit"),
        (jnp.ones((2, 5, 4, 1), bool), "does not fit"),
        (jnp.ones((2, 4, 4, 1)), "boolean"),
    ):
        with pytest.raises(ValueError, match=message):
            d.inpaint(KNOWN, keep)
        with pytest.raises(ValueError, match=message):
            d.repaint(d.euler(), KNOWN, keep)


def test_sdedit_keeps_the_input_at_low_strength_and_forgets_it_at_full_strength():
    x0 = jnp.full((3, 2), 0.9)
    sigmas = d.karras_sigmas(20, 0.01, 80.0)

    def edit(strength):
        return d.sdedit(gaussian(0.0, 0.5), d.dpmpp_2m(), sigmas, x0, KEY, strength=strength)

    assert np.abs(edit(0.1) - x0).max() < 0.1
    whole, noise = edit(1.0), d.add_noise(KEY, x0, sigmas[0])
    np.testing.assert_allclose(whole, d.sample(gaussian(0.0, 0.5), d.dpmpp_2m(), sigmas, noise, KEY), rtol=1e-5)
    assert np.abs(whole - x0).max() > 0.3
    with pytest.raises(ValueError, match="strength"):
        edit(1.5)


def test_slerp_keeps_the_norm_and_meets_its_ends():
    a, b = d.sample_noise(KEY, (6,), jnp.arange(2), 0), d.sample_noise(KEY, (6,), jnp.arange(2), 1)
    b = b / jnp.linalg.norm(b, axis=1, keepdims=True) * jnp.linalg.norm(a, axis=1, keepdims=True)
    np.testing.assert_allclose(d.slerp(a, b, 0.0), a, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(d.slerp(a, b, 1.0), b, rtol=1e-5, atol=1e-6)
    half = d.slerp(a, b, jnp.array([0.5, 0.3]))
    np.testing.assert_allclose(jnp.linalg.norm(half, axis=1), jnp.linalg.norm(a, axis=1), rtol=1e-4)
    np.testing.assert_allclose(d.slerp(a, a, 0.3), a, rtol=1e-6)
    assert np.isfinite(jax.grad(lambda a: jnp.sum(d.slerp(a, a, 0.3)))(a)).all()


def test_repaint_refuses_a_solver_that_draws_more_noises_than_a_round_has_streams_for():
    repeated = d.repaint(d.ddim(1.0), KNOWN, KEEP, resample=2)
    assert repeated.draws > 6
    with pytest.raises(ValueError, match="at most 6 noises per step, and this one draws 17"):
        d.repaint(repeated, KNOWN, KEEP)


def test_the_noise_of_the_start_is_that_of_the_reserved_step():
    ids = jnp.arange(2)
    expected = 3.0 * d.sample_noise(KEY, (4,), ids, 2**31 - 1)
    np.testing.assert_array_equal(d.prior_sample(KEY, (2, 4), 3.0), expected)
    np.testing.assert_array_equal(d.add_noise(KEY, jnp.zeros((2, 4)), 3.0), expected)
