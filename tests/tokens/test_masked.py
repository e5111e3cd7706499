"""The bound of masked diffusion and its schedules, with a distribution whose every conditional is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion as d
from jaxgen import tokens as tk
from tests.tokens.joint import JOINT, MASK_ID, exact_logits

KEY = jax.random.key(17)


@pytest.mark.parametrize("schedule", [tk.polynomial_masking(2.0), tk.cosine_masking()])
def test_the_bound_of_exact_conditionals_is_the_exact_likelihood(schedule):
    """Averaged over orders, exact conditionals multiply to p(x): the bound is tight for every sequence."""
    n = 40_000
    loss = jax.jit(lambda key, tokens, t: tk.masked_diffusion_loss(
        key, exact_logits, tokens, t, mask_id=MASK_ID, schedule=schedule))
    for pair in ((0, 1), (2, 2)):
        t = d.stratified_times(jax.random.key(1), n)
        nats = loss(KEY, jnp.tile(jnp.array(pair), (n, 1)), jnp.maximum(t, 1e-4))
        error = 5 * float(nats.std()) / n**0.5
        assert float(nats.mean()) == pytest.approx(-np.log(JOINT[pair]), abs=error)


def test_rates_are_minus_the_slope_of_alpha_over_the_masked_share():
    t = jnp.array([0.2, 0.5, 0.9])
    for schedule in (tk.polynomial_masking(1.5), tk.cosine_masking()):
        slope = jax.vmap(jax.grad(lambda t, s=schedule: s.alpha(t)))(t)
        np.testing.assert_allclose(schedule.rate(t), -slope / (1 - schedule.alpha(t)), rtol=1e-4)
        np.testing.assert_allclose(schedule.alpha(jnp.array([0.0, 1.0])), [1, 0], atol=1e-6)
