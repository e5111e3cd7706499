"""Inpainting, image-to-image, interpolation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion as d
from tests.diffusion.oracle import gaussian, wave

KEY = jax.random.key(11)
GRID = np.asarray(d.karras_sigmas(6, 0.02, 10.0))
KNOWN = np.random.default_rng(0).uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32)
KEEP = (np.arange(4) < 2)[None, :, None, None] & np.ones((2, 4, 4, 1), bool)


@pytest.mark.parametrize("name", ["unipc", "ddim", "heun"])
def test_inpainting_returns_known_pixels_exactly_and_fills_the_rest(name):
    x = np.float32(10 * np.random.default_rng(1).normal(size=KNOWN.shape))
    solver = d.get_solver(name)
    out = np.asarray(jax.jit(lambda x: d.sample(wave, solver, GRID, x, KEY, post_step=d.inpaint(KNOWN, KEEP)))(x))
    keep = np.broadcast_to(KEEP, KNOWN.shape)
    np.testing.assert_array_equal(out[keep], KNOWN[keep])
    assert np.abs(out - KNOWN)[~keep].min() > 0 and np.isfinite(out).all()


def correlated(x, sigma):
    """Pairs of N(0, 1) numbers with correlation .8, in NumPy."""
    covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
    return np.linalg.solve(covariance + sigma**2 * np.eye(2), covariance @ x.T).T


def correlated_fast(x, sigma, cond=None):
    """The same by eigenvectors: the sum has variance 1.8, the difference .2 (per unit)."""
    plus, minus = (x[:, :1] + x[:, 1:]) / 2, (x[:, :1] - x[:, 1:]) / 2
    plus, minus = plus * 1.8 / (1.8 + sigma**2), minus * 0.2 / (0.2 + sigma**2)
    return jnp.concatenate([plus + minus, plus - minus], axis=1)


def test_repaint_comes_nearer_to_the_exact_conditional_than_replacement():
    """Given a = 1.5, b ~ N(1.2, .36)."""
    x = np.linspace(-2, 2, 8).reshape(4, 2)
    np.testing.assert_allclose(correlated(x, 0.7), correlated_fast(x, 0.7), rtol=1e-4, atol=1e-5)
    n = 2000
    known, keep = np.full((n, 2), 1.5, np.float32), np.array([[True, False]])
    sigmas = d.karras_sigmas(25, 0.02, 10.0)
    x = np.float32(10 * np.random.default_rng(1).normal(size=(n, 2)))

    def mean(solver, post_step=None):
        run = jax.jit(lambda x: d.sample(correlated_fast, solver, sigmas, x, KEY, post_step=post_step))
        out = np.asarray(run(x))
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
    x0 = np.full((3, 2), 0.9, np.float32)
    sigmas, denoiser = np.asarray(d.karras_sigmas(20, 0.01, 80.0)), gaussian(0.0, 0.5)

    def edit(strength, x0=x0):
        return d.sdedit(denoiser, d.dpmpp_2m(), sigmas, x0, KEY, strength=strength)

    @jax.jit
    def run(x0):
        noise = d.add_noise(KEY, x0, sigmas[0])
        return edit(0.1, x0), edit(1.0, x0), d.sample(denoiser, d.dpmpp_2m(), sigmas, noise, KEY)

    weak, whole, wanted = (np.asarray(a) for a in run(x0))
    assert np.abs(weak - x0).max() < 0.1
    np.testing.assert_allclose(whole, wanted, rtol=1e-5)
    assert np.abs(whole - x0).max() > 0.3
    with pytest.raises(ValueError, match="strength"):
        edit(1.5)


def test_slerp_keeps_the_norm_and_meets_its_ends():
    a, b = np.random.default_rng(0).normal(size=(2, 2, 6)).astype(np.float32)
    b = b / np.linalg.norm(b, axis=1, keepdims=True) * np.linalg.norm(a, axis=1, keepdims=True)

    @jax.jit
    def run(a, b, shares):
        of_itself = lambda a: jnp.sum(d.slerp(a, a, 0.3))  # noqa: E731
        return [d.slerp(a, b, s) for s in (0.0, 1.0, shares)], d.slerp(a, a, 0.3), jax.grad(of_itself)(a)

    (start, end, between), same, gradient = run(a, b, np.float32([0.5, 0.3]))
    np.testing.assert_allclose(start, a, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(end, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(between, axis=1), np.linalg.norm(a, axis=1), rtol=1e-4)
    np.testing.assert_allclose(same, a, rtol=1e-6)
    assert np.isfinite(gradient).all()


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
