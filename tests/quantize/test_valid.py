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
BAD = np.float32([np.nan, np.inf, -np.inf, 1e38])  # the last one overflows when it is squared


@functools.cache
def trained(name, start, broken=False, masked=False):
    """A training step on vectors, or on some that are not finite, or on a longer batch whose rest is masked."""
    _, variables, z, _, train = prepared(name)
    z = z.copy()
    if broken:
        z[0, :4, 1] = BAD
    valid = {}
    if masked:
        z = np.concatenate([z, 9 * z[:, :2]], axis=1)
        valid = {"valid": np.broadcast_to(np.arange(8) < 6, (4, 8)).copy()}
        if masked == "without bad":
            valid["valid"][0, :4] = False
        if masked == "all":
            valid["valid"][:] = False
    return jax.device_get(train(fresh(name) if start == "fresh" else variables, z, key=KEY, **valid))


@each
@pytest.mark.parametrize("start", ["fresh", "trained"])
def test_vectors_that_are_not_finite_are_seen_in_the_output_and_change_nothing_else(name, start):
    output, state = trained(name, start, broken=True)
    assert np.isnan(output.quantized[0, :4]).all()
    assert all(np.isnan(loss[0, :4]).all() for loss in output.losses.values())
    assert not np.any(output.indices[0, :4])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    expected, without = trained(name, start, masked="without bad")
    assert_trees_close(state, without)
    good = functools.partial(jax.tree.map, lambda x: x[:, :6].reshape(24, *x.shape[2:])[4:])
    if not CASES[name].noisy:  # noise goes by position
        assert_trees_close(good(output), good(expected))
    masked, state = trained(name, start, broken=True, masked="rest")
    assert_trees_close(state, without)
    assert_trees_close(good(masked), good(expected))


@each
@pytest.mark.parametrize("start", ["fresh", "trained"])
def test_vectors_that_are_not_valid_might_as_well_be_missing(name, start):
    output, state = trained(name, start, masked="rest")
    expected, without = trained(name, start)
    assert_trees_close(state, without)
    assert all(not np.any(loss[:, 6:]) for loss in output.losses.values())
    assert np.isfinite(output.quantized).all()
    if not CASES[name].noisy:  # noise goes by position
        assert_trees_close(jax.tree.map(lambda x: x[:, :6], output), expected)


@each
@pytest.mark.parametrize("start", ["fresh", "trained"])
def test_a_batch_without_valid_vectors_leaves_the_state_as_it_is(name, start):
    output, state = trained(name, start, masked="all")
    before = fresh(name).state if start == "fresh" else prepared(name)[1].state
    jax.tree.map(np.testing.assert_array_equal, state, before)
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
        valid = ALL.copy()
        valid[1] = False
        output, _ = quantizer.apply(Variables(params, variables.state), z, train=True, key=KEY, valid=valid)
        return sum(jnp.sum(jnp.where(valid, loss, 0)) for loss in output.losses.values()) + 0 * jnp.sum(z)

    z = z.copy()
    z[1, 2] = np.inf
    to_params, to_z = jax.device_get(gradient((variables.params, z)))
    assert not np.any(to_z[1])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((to_params, to_z)))


@each
@pytest.mark.parametrize("valid", [ALL[0], ALL.astype(np.int32), ALL[..., None]])
def test_a_mask_that_does_not_fit_is_refused(name, valid):
    quantizer, variables, z, _, _ = prepared(name)
    with pytest.raises(ValueError, match=r"valid has shape .*boolean mask of the vectors, of shape \(4, 6\)"):
        jax.eval_shape(lambda: quantizer.apply(variables, z, valid=valid))
