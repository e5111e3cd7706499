"""Samplers of diffusion models with a denoiser in closed form."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion, generate, models
from jaxgen.core.types import Variables

NOTHING = Variables({}, {})


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """The exact denoiser of data N(mean of the class, 0.5²); class 2 is the null one."""

    sample_shape: tuple[int, ...] = (8, 8, 1)
    schedule: object = None
    means: tuple[float, ...] = (-0.3, 0.3, 0.0)
    conditions = models.Classes(2)

    def denoise(self, params, x, sigma, cond=None, *, key=None):
        sigma = jnp.reshape(sigma, (-1, 1, 1, 1))
        mean = jnp.array(self.means)[cond["classes"]].reshape(-1, 1, 1, 1)
        return (0.25 * x + sigma**2 * mean) / (0.25 + sigma**2)

    def encode(self, params, cond):
        return dict(cond or {})

    def null(self, count):
        return self.conditions.null(count)


def samples(model, count=16, **settings):
    cond = model.conditions.parse(count, classes=[1])
    return generate.sample(generate.make_sampler(model, settings), NOTHING, jax.random.key(0), cond, count)


@pytest.mark.parametrize("solver", ["heun", "rk4", "pndm", "kdpm2"])
def test_solvers_sample_a_flow_from_pure_noise(solver):
    model, settings = Gaussian(schedule=models.build_schedule("flow")), {"noise_grid": "uniform", "steps": 24}
    first = generate.make_sigmas(model.schedule, {**settings})[0]
    assert first == diffusion.MAX_RATIO
    result = samples(model, solver=solver, **settings)
    assert result.mean() == pytest.approx(0.3, abs=0.05) and result.std() == pytest.approx(0.5, rel=0.1)


def test_guidance_moves_samples_away_from_the_unconditional_mean():
    """Guided by 2 everywhere, the denoiser is that of the mean 2 * 0.3 - 0."""
    assert samples(Gaussian(), guidance=2.0).mean() == pytest.approx(0.6, abs=0.05)


def test_filling_in_without_guidance_draws_from_the_data_of_each_class():
    model, count = Gaussian(), 16
    x, classes = np.full((count, 8, 8, 1), 0.9, np.float32), np.arange(count, dtype=np.int32) % 2
    keep = np.broadcast_to(np.arange(8)[:, None] < 2, x.shape)
    result = np.asarray(generate.inpaint(generate.make_sampler(model, {"guidance": 1.0}), NOTHING, jax.random.key(0), x,
                                         keep, {"classes": classes}, resample=1))
    np.testing.assert_array_equal(result[keep], x[keep])
    for i, mean in enumerate(model.means[:2]):
        drawn = result[classes == i][:, :, 2:]
        assert drawn.mean() == pytest.approx(mean, abs=0.1) and drawn.std() == pytest.approx(0.5, rel=0.1)


def test_guidance_outside_of_its_interval_changes_nothing():
    plain, outside = samples(Gaussian()), samples(Gaussian(), guidance=5.0, guidance_low=90.0)
    np.testing.assert_allclose(plain, outside, atol=1e-5)


def test_a_denoiser_of_nothing_asked_for_is_the_models_own():
    model, x = Gaussian(), jnp.ones((2, 8, 8, 1))
    cond = model.null(2)
    plain = generate.guided(model, {}, cond, 2, None)(x, jnp.float32(1), cond)
    np.testing.assert_array_equal(plain, model.denoise({}, x, jnp.float32(1), cond))


@dataclass(frozen=True, kw_only=True)
class HalfGaussian(Gaussian):
    """One whose latents are half of its examples."""

    def to_latents(self, variables, x, *, key=None, sample_ids=None):
        return x / 2

    def from_latents(self, variables, z):
        return 2 * z


def test_a_model_with_latents_is_decoded_after_the_last_step():
    np.testing.assert_allclose(samples(HalfGaussian()), 2 * samples(Gaussian()), rtol=1e-5)


def test_a_trajectory_of_latents_is_shown_at_std_one():
    model = HalfGaussian()
    sampler = generate.diffusion_sampler(model, {"steps": 4, "solver": "euler"}, save_every=1)
    plain = generate.diffusion_sampler(Gaussian(), {"steps": 4, "solver": "euler"}, save_every=1)
    draws = [s.draw(NOTHING, jax.random.key(0), jnp.arange(2), {"classes": jnp.array([0, 1])})[1]
             for s in (sampler, plain)]
    sizes = np.sqrt(1 + np.asarray(plain.parts.sigmas[1:]) ** 2).reshape(-1, 1, 1, 1, 1)
    np.testing.assert_allclose(draws[0], 2 * draws[1] / sizes, rtol=1e-5)
