"""Vectors that do not count: masked by the caller, or not finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.types import Variables
from tests.quantize.cases import ALL, CASES, KEY, assert_trees_close, fresh, prepared

each = pytest.mark.parametrize("name", CASES)
OFTEN = ("vq_ema_kmeans_revival", "vq_cosine_kmeans_revival", "lfq", "gumbel", "residual_vq")
BAD = [jnp.nan, jnp.inf, -jnp.inf, 1e38]  # the last one overflows when it is squared


@each
def test_vectors_that_are_not_finite_are_seen_in_the_output_and_change_nothing_else(name):
    _, trained, z, _, train = prepared(name)
    for variables in (fresh(name), trained):
        broken = z.at[0, :4, 1].set(jnp.array(BAD))
        output, state = train(variables, broken, key=KEY)
        assert np.isnan(output.quantized[0, :4]).all()
        assert all(np.isnan(loss[0, :4]).all() for loss in output.losses.values())
        assert not np.any(output.indices[0, :4])
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        expected, without = train(variables, z, key=KEY, valid=ALL.at[0, :4].set(False))
        assert_trees_close(state, without)
        good = functools.partial(jax.tree.map, lambda x: x.reshape(24, *x.shape[2:])[4:])
        assert_trees_close(good(output), good(expected))


@each
def test_vectors_that_are_not_valid_might_as_well_be_missing(name):
    _, trained, z, _, train = prepared(name)
    for variables in (fresh(name), trained):
        output, state = train(variables, z.at[:, 4:].mul(9), key=KEY, valid=ALL.at[:, 4:].set(False))
        expected, without = train(variables, z[:, :4], key=KEY)
        assert_trees_close(state, without)
        assert all(not np.any(loss[:, 4:]) for loss in output.losses.values())
        assert np.isfinite(output.quantized).all()
        if not CASES[name].noisy:  # noise goes by position
            assert_trees_close(jax.tree.map(lambda x: x[:, :4], output), expected)


@each
def test_a_batch_without_valid_vectors_leaves_the_state_as_it_is(name):
    _, trained, z, _, train = prepared(name)
    for variables in (fresh(name), trained):
        output, state = train(variables, z, key=KEY, valid=~ALL)
        jax.tree.map(np.testing.assert_array_equal, state, variables.state)
        assert np.isfinite(output.quantized).all()
        assert not any(np.any(loss) for loss in output.losses.values())


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in CASES
])
def test_vectors_that_do_not_count_get_no_gradient_and_spoil_none(name):
    quantizer, variables, z, _, _ = prepared(name)

    @jax.jit
    @jax.grad
    def gradient(params_and_z):
        params, z = params_and_z
        valid = ALL.at[1].set(False)
        output, _ = quantizer.apply(Variables(params, variables.state), z, train=True, key=KEY, valid=valid)
        return sum(jnp.sum(jnp.where(valid, loss, 0)) for loss in output.losses.values()) + 0 * jnp.sum(z)

    to_params, to_z = gradient((variables.params, z.at[1, 2].set(jnp.inf)))
    assert not np.any(to_z[1])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((to_params, to_z)))


@each
@pytest.mark.parametrize("valid", [ALL[0], ALL.astype(jnp.int32), ALL[..., None]])
def test_a_mask_that_does_not_fit_is_refused(name, valid):
    quantizer, variables, z, _, _ = prepared(name)
    with pytest.raises(ValueError, match=r"valid has shape .*boolean mask of the vectors, of shape \(4, 6\)"):
        jax.eval_shape(lambda: quantizer.apply(variables, z, valid=valid))
