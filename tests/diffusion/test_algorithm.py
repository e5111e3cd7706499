"""EDM's algorithm 2 as the documentation writes it out, next to `sample` with `heun`."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion as d
from jaxgen.diffusion import sampling
from tests.diffusion.oracle import mixture

KEY = jax.random.key(3)


def edm_sampler():
    """The function that the examples of `jaxgen.diffusion.sampling` define."""
    [test] = [test for test in doctest.DocTestFinder(recurse=False).find(sampling, sampling.__name__)]
    names = {}
    for example in test.examples[:4]:
        exec(example.source, names)
    return names["edm_sampler"]


@pytest.mark.parametrize("settings", [
    {}, {"S_churn": 2.0, "S_tmin": 0.05, "S_tmax": 5.0, "S_noise": 1.003}, {"S_churn": 100.0},
])
def test_the_sampler_of_the_documentation_equals_sample_with_heun(settings):
    n, ids = 8, jnp.arange(2)
    with jax.enable_x64(True):
        t = d.karras_sigmas(n, 0.02, 10.0)
        x = d.prior_sample(KEY, (2, 4), t[0]).astype(jnp.float64)

        def noise(step):
            return d.sample_noise(KEY, (4,), ids, step, dtype=jnp.float64)

        by_hand = edm_sampler()(mixture, t, x, noise, **settings)
        churn, low, high, scale = (settings.get(name, default) for name, default in (
            ("S_churn", 0.0), ("S_tmin", 0.0), ("S_tmax", float("inf")), ("S_noise", 1.0)))
        solver = d.heun(churn / n, churn_min=low, churn_max=high, noise_scale=scale)
        np.testing.assert_allclose(d.sample(mixture, solver, t, x, KEY), by_hand, rtol=1e-9, atol=1e-12)


def test_the_examples_of_the_documentation_have_their_results():
    assert doctest.testmod(sampling).failed == 0
