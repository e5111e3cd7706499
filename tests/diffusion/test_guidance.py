"""Guidance transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion as d
from tests.diffusion.oracle import gaussian, mixture

KEY = jax.random.key(2)
X = np.random.default_rng(2).normal(size=(4, 3, 2)).astype(np.float32)
COND = np.float32([1.0, -1.0, 0.5, 2.0])


def conditional(x, sigma, cond):
    return gaussian(cond[:, None, None], 0.5)(x, sigma)


@pytest.mark.parametrize("joint", [True, False])
def test_cfg_combines_the_two_predictions(joint):
    sigmas, scales = (0.7, np.float32([0.1, 0.5, 1.0, 9.0])), (0.0, 1.0, 3.5, np.float32([1.0, 2.0, 3.0, 4.0]))

    @jax.jit
    def guided(x):
        return [[d.cfg(scale, np.zeros(()), joint=joint)(conditional)(x, sigma, COND) for scale in scales]
                for sigma in sigmas]

    for sigma, outs in zip(sigmas, guided(X)):
        with_cond, without = (np.asarray(conditional(X, sigma, cond)) for cond in (COND, 0 * COND))
        for scale, out in zip(scales, outs):
            wanted = without + np.reshape(scale, (-1, 1, 1)) * (with_cond - without)
            np.testing.assert_allclose(out, wanted, rtol=2e-5, atol=2e-6, err_msg=f"{sigma} {scale}")


def test_scales_may_differ_from_place_to_place():
    with_cond, without = conditional(X, 0.7, COND), conditional(X, 0.7, 0 * COND)
    for scale in (np.linspace(0, 2, 24).reshape(4, 3, 2), np.linspace(1, 3, 3).reshape(1, 3, 1)):
        out = d.cfg(scale, jnp.zeros(()))(conditional)(X, 0.7, COND)
        np.testing.assert_allclose(out, without + scale * (with_cond - without), rtol=2e-5, atol=2e-6)


def test_text_may_stand_next_to_what_is_computed_with():
    def denoiser(x, sigma, cond):
        assert cond["names"][0] == "one"
        return conditional(x, sigma, cond["mean"])

    sigmas = jnp.array([2.0, 0.5, 0.0])
    cond = {"mean": COND, "names": np.array(["one", "two", "three", "four"])}
    named = d.sample(denoiser, d.euler(), sigmas, 2 * X, KEY, cond=cond)
    np.testing.assert_array_equal(named, d.sample(conditional, d.euler(), sigmas, 2 * X, KEY, cond=COND))


def test_cfg_takes_conditions_that_are_pytrees():
    denoiser = lambda x, s, c: conditional(x, s, c["a"] + c["b"].sum(-1))  # noqa: E731
    cond = {"a": COND, "b": jnp.ones((4, 2))}
    null = {"a": jnp.zeros(()), "b": jnp.zeros(2)}
    out = d.cfg(2.0, null)(denoiser)(X, 0.5, cond)
    two, none = conditional(X, 0.5, COND + 2), conditional(X, 0.5, 0 * COND)
    np.testing.assert_allclose(out, 2 * two - none, rtol=1e-5, atol=1e-5)


def test_rescale_gives_back_the_conditional_standard_deviation():
    out = d.cfg(6.0, jnp.zeros(()), rescale=1.0)(conditional)(X, 0.5, COND)
    wanted = conditional(X, 0.5, COND)
    np.testing.assert_allclose(np.std(out, axis=(1, 2)), np.std(wanted, axis=(1, 2)), rtol=1e-4)


def test_an_interval_really_skips_the_second_call():
    calls = []

    def counting(x, sigma, cond):
        jax.debug.callback(lambda s: calls.append(float(s)), sigma)
        return conditional(x, sigma, cond)

    sigmas = jnp.array([8.0, 4.0, 2.0, 1.0, 0.5, 0.0])

    @jax.jit
    def run(lo, hi):
        guided = d.interval(d.cfg(3.0, jnp.zeros(()), joint=False), lo, hi)(counting)
        return d.sample(guided, d.euler(), sigmas, 8 * X, KEY, cond=COND)

    run(0.5, 4.0).block_until_ready()
    jax.effects_barrier()
    # lo < sigma <= hi: 4, 2 and 1 are called twice, 8 and .5 once.
    assert sorted(calls, reverse=True) == [8.0, 4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 0.5]
    calls.clear()
    run(0.0, 0.1).block_until_ready()
    jax.effects_barrier()
    assert len(calls) == 5


def test_an_interval_chooses_per_sample_for_a_vector_of_levels():
    sigma = jnp.array([0.1, 0.5, 1.0, 9.0])
    transform = d.cfg(3.0, jnp.zeros(()))
    out = d.interval(transform, 0.1, 1.0)(conditional)(X, sigma, COND)
    guided, plain = transform(conditional)(X, sigma, COND), conditional(X, sigma, COND)
    np.testing.assert_array_equal(out[1:3], guided[1:3])
    np.testing.assert_array_equal(out[::3], plain[::3])


def test_autoguidance_extrapolates_from_the_weak_model():
    good, weak = gaussian(1.0), gaussian(0.0)
    out = d.autoguide(weak, 2.0)(good)(X, 0.5)
    np.testing.assert_allclose(out, 2 * good(X, 0.5) - weak(X, 0.5), rtol=1e-5, atol=1e-5)


def test_the_dynamic_threshold_is_the_quantile_of_each_sample():
    denoiser = lambda x, s, c=None: 3 * x  # noqa: E731
    out = d.threshold(0.8)(denoiser)(X, 1.0)
    for i in range(4):
        level = max(1.0, np.quantile(np.abs(3 * np.asarray(X[i])), 0.8))
        np.testing.assert_allclose(out[i], np.clip(3 * X[i], -level, level) / level, rtol=1e-5)
        for maximum in (1.0, 1.7):
            low = min(level, maximum)
            limited = d.threshold(0.8, maximum=maximum)(denoiser)(X, 1.0)[i]
            np.testing.assert_allclose(limited, np.clip(3 * X[i], -low, low) / low, rtol=1e-5)
    assert np.abs(d.clip()(denoiser)(X, 1.0)).max() == 1.0


def test_bad_guidance_options_are_refused():
    for make, message in (
        (lambda: d.threshold(99.5), r"percentile=0\.995"),
        (lambda: d.cfg(2.0, 0.0, rescale=1.5), "rescale"),
        (lambda: d.threshold(maximum=0.5), "maximum must be at least 1, got 0.5"),
        (lambda: d.interval(d.clip(), 2.0, 1.0), "lo <= hi"),
        (lambda: d.clip(2.0, 1.0), "lo <= hi"),
        (lambda: d.dps(lambda x: x, X, 0.0), "variance"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_posterior_guidance_samples_the_exact_posterior_of_a_linear_measurement():
    """Prior N(0, .5²), y = x + N(0, .3²): the posterior is a Gaussian in closed form, and the guidance is exact."""
    std, noise, y = 0.5, 0.3, 0.8
    variance = lambda s: noise**2 + std**2 * s**2 / (std**2 + s**2)  # noqa: E731
    n = 4000
    guided = d.dps(lambda x: x, jnp.full((n, 1), y), variance)(gaussian(0.0, std))
    sigmas = d.karras_sigmas(30, 0.01, 20.0)
    x = jax.jit(lambda x: d.sample(guided, d.dpmpp_2m(), sigmas, x, KEY))(d.prior_sample(KEY, (n, 1), sigmas[0]))
    share = std**2 / (std**2 + noise**2)
    assert float(x.mean()) == pytest.approx(share * y, abs=0.02)
    assert float(x.std()) == pytest.approx(noise * share**0.5, rel=0.05)


def test_transforms_compose_and_run_under_jit_and_grad():
    guided = d.threshold(0.9)(d.interval(d.cfg(2.0, jnp.zeros(())), 0.1, 1.0)(conditional))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(guided(x, 0.5, COND) ** 2)))(X)
    assert np.isfinite(gradient).all()
    assert np.isfinite(jax.vmap(lambda x: d.clip()(mixture)(x, 0.5))(X[None])).all()
