"""Masked diffusion over tokens, with a distribution whose every conditional is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion as d
from jaxgen import tokens as tk
from jaxgen.tokens.categorical import draw_categorical

KEY = jax.random.key(17)
# Two tokens out of three values; 3 is the mask.
JOINT = np.array([[0.30, 0.02, 0.08], [0.05, 0.25, 0.05], [0.01, 0.04, 0.20]])
MASK_ID = 3


def exact_logits(tokens, t, cond):
    """log p(x_i | what is visible) for both positions, by cases."""
    joint = jnp.asarray(JOINT, jnp.float32)
    a, b = tokens[:, 0], tokens[:, 1]
    of_a = jnp.where((b == MASK_ID)[:, None], joint.sum(1), joint.T[jnp.minimum(b, 2)])
    of_b = jnp.where((a == MASK_ID)[:, None], joint.sum(0), joint[jnp.minimum(a, 2)])
    return jnp.log(jnp.stack([of_a, of_b], axis=1))


def counts(tokens):
    return np.histogram2d(*np.asarray(tokens).T, bins=[np.arange(4)] * 2)[0] / len(tokens)


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


def test_samples_have_the_joint_distribution_with_and_without_remasking_which_is_traced():
    n, traces = 10_000, []

    @jax.jit
    def run(times, remask):
        traces.append(0)
        return tk.masked_sample(KEY, exact_logits, times, (n, 2), mask_id=MASK_ID, remask=remask)

    for remask in (0.0, 0.5, 1.0):
        tokens = run(tk.mask_times(64), remask)
        assert int(tokens.max()) < MASK_ID
        np.testing.assert_allclose(counts(tokens), JOINT, atol=0.02)
    assert len(traces) == 1


def test_the_confidence_sampler_shows_everything_one_by_one():
    sample = jax.jit(lambda times, count: tk.confidence_sample(
        KEY, exact_logits, times, (count, 2), mask_id=MASK_ID), static_argnums=1)
    tokens = sample(tk.mask_times(2), 10_000)
    # Which position comes first depends on confidence, its token is drawn from the marginal.
    assert int(tokens.max()) < MASK_ID
    np.testing.assert_allclose(counts(tokens), JOINT, atol=0.12)
    first = sample(tk.mask_times(1), 4)
    assert int(first.max()) < MASK_ID


@pytest.mark.parametrize("sampler", [tk.masked_sample, tk.confidence_sample])
def test_known_tokens_come_back_and_the_rest_is_drawn_given_them(sampler):
    n = 6000
    known, mask = jnp.full((n, 2), 2), jnp.tile(jnp.array([[True, False]]), (n, 1))
    options = {"remask": 0.7} if sampler is tk.masked_sample else {}
    tokens = jax.jit(lambda known, mask: sampler(
        KEY, exact_logits, tk.mask_times(8), (n, 2), mask_id=MASK_ID, known=known, mask=mask, **options))(known, mask)
    np.testing.assert_array_equal(tokens[:, 0], 2)
    np.testing.assert_allclose(counts(tokens)[2], JOINT[2] / JOINT[2].sum(), atol=0.03)


@pytest.mark.parametrize("sampler", [tk.masked_sample, tk.confidence_sample])
def test_a_sequence_is_the_same_in_every_batch(sampler):
    run = jax.jit(lambda ids: sampler(
        KEY, exact_logits, tk.mask_times(5), (len(ids), 2), mask_id=MASK_ID, sample_ids=ids))
    np.testing.assert_array_equal(run(jnp.array([3])), run(jnp.arange(8))[3:4])


def test_masked_inputs_that_do_not_fit_are_refused():
    def run(**options):
        return tk.masked_sample(KEY, exact_logits, tk.mask_times(2), (3, 2), mask_id=MASK_ID, **options)

    tokens = jnp.zeros((3, 2), jnp.int32)
    for options, message in (
        ({"known": tokens}, "belong together"),
        ({"known": tokens, "mask": jnp.ones((3, 4), bool)}, "does not fit"),
        ({"known": tokens, "mask": tokens}, "boolean"),
        ({"known": tokens[:2], "mask": tokens[:2] == 0}, "shape"),
        ({"remask": 1.5}, "remask"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**options)
    with pytest.raises(ValueError, match="decrease"):
        tk.masked_sample(KEY, exact_logits, jnp.array([0.0, 1.0]), (3, 2), mask_id=MASK_ID)
    with pytest.raises(ValueError, match="t must hold"):
        tk.masked_diffusion_loss(KEY, exact_logits, tokens, jnp.ones(2), mask_id=MASK_ID)


def test_a_logit_for_the_mask_token_is_never_drawn():
    greedy_mask = lambda tokens, t, cond: jnp.zeros((*tokens.shape, 4)).at[..., MASK_ID].set(50.0)  # noqa: E731
    sample = jax.jit(lambda key: tk.masked_sample(key, greedy_mask, tk.mask_times(3), (50, 4), mask_id=MASK_ID))
    assert int(sample(KEY).max()) < MASK_ID


@pytest.mark.parametrize("count", [1, 2, 7, 12, 16])
def test_draws_in_two_stages_have_the_distribution_of_the_logits(count):
    number = 40_000
    logits = np.random.default_rng(count).normal(0, 2, count).astype(np.float32)
    logits[1:2] = -np.inf
    p = np.exp(logits) / np.exp(logits).sum()
    drawn = jax.jit(draw_categorical)(KEY, jnp.broadcast_to(logits, (2, number // 2, count)))
    assert drawn.shape == (2, number // 2) and drawn.dtype == jnp.int32
    found = np.bincount(np.asarray(drawn).ravel(), minlength=count) / number
    np.testing.assert_array_less(np.abs(found - p), 4.5 * np.sqrt(p * (1 - p) / number) + 1e-9)
    assert len(found) == count
