"""What every quantizer and every combinator promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.types import Variables
from tests.quantize.cases import CASES, KEY, assert_trees_close, prepared
from tests.quantize.inputs import run

# Without jit each operation is a program of its own: what these do differently, others do without jit as well.
OFTEN_JITTED = ("bsq", "grouped_vq", "projected_fsq")
each = pytest.mark.parametrize("name", CASES)


@functools.cache
def jitted_lookup(name):
    return jax.jit(prepared(name)[0].lookup)


@functools.cache
def evaluated(name):
    _, variables, z, evaluate, _ = prepared(name)
    return jax.device_get(evaluate(variables, z))


@functools.cache
def trained(name):
    _, variables, z, _, train = prepared(name)
    return jax.device_get(train(variables, z, key=KEY))


@functools.cache
def other_views(name):
    """What evaluation gives each example by itself under vmap, the later half of the batch, and bfloat16 vectors."""
    quantizer, variables, z, _, _ = prepared(name)

    def views(variables, z, low):
        each = jax.vmap(lambda image: quantizer.apply(variables, image)[0])(z)
        return each, quantizer.apply(variables, z[2:])[0], quantizer.apply(variables, low)[0]

    return run(views, variables, z, z.astype(jnp.bfloat16))


@each
def test_the_forward_value_is_the_lookup_of_the_indices_bit_for_bit(name):
    _, variables, z, evaluate, _ = prepared(name)
    output, _ = evaluate(variables, 3 * z)
    np.testing.assert_array_equal(output.quantized, jitted_lookup(name)(variables, output.indices))


@each
def test_training_looks_up_the_codes_that_it_was_given(name):
    if CASES[name].passes:
        pytest.skip("quantizer dropout: some vectors are their own")
    (quantizer, variables, *_), (output, _) = prepared(name), trained(name)
    for lookup in (jitted_lookup(name), quantizer.lookup):
        np.testing.assert_array_equal(output.quantized, lookup(variables, output.indices))


@each
def test_indices_are_int32_in_range_with_the_shape_of_the_vectors(name):
    quantizer, _, z, _, _ = prepared(name)
    output, _ = evaluated(name)
    assert output.indices.dtype == jnp.int32
    assert output.indices.shape[:2] == z.shape[:2]
    assert output.quantized.shape == z.shape
    assert output.indices.min() >= 0 and output.indices.max() < quantizer.num_codes


@each
def test_a_code_is_quantized_to_itself(name):
    if not CASES[name].idempotent:
        pytest.skip("a greedy sum, a squashed or a learned map: its codes are no fixed points")
    _, variables, _, evaluate, _ = prepared(name)
    first, _ = evaluated(name)
    second, _ = evaluate(variables, first.quantized)
    np.testing.assert_array_equal(second.indices, first.indices)
    np.testing.assert_allclose(second.quantized, first.quantized, rtol=1e-6)


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow if name in OFTEN_JITTED else ()) for name in CASES
])
def test_jit_changes_nothing_and_variables_may_be_numpy_arrays(name):
    quantizer, variables, z, _, _ = prepared(name)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(variables))
    eager, state = quantizer.apply(variables, z)
    assert_trees_close(evaluated(name), (eager, state))
    np.testing.assert_array_equal(eager.quantized, quantizer.lookup(variables, eager.indices))
    assert_trees_close(trained(name), quantizer.apply(variables, z, train=True, key=KEY))


@each
def test_vmap_over_the_batch_equals_the_batch(name):
    mapped, direct = other_views(name)[0], evaluated(name)[0]
    assert_trees_close(mapped[:2], direct[:2])
    assert_trees_close(
        {k: v for k, v in mapped.losses.items() if k != "entropy"},
        {k: v for k, v in direct.losses.items() if k != "entropy"},
    )


@each
def test_vectors_may_be_lists(name):
    quantizer, variables, z, _, _ = prepared(name)
    shapes = [jax.eval_shape(lambda v, z=z: quantizer.apply(v, z), variables) for z in (z.tolist(), z)]
    assert jax.tree.leaves(shapes[0]) == jax.tree.leaves(shapes[1])


@each
def test_a_part_of_a_batch_has_the_same_codes(name):
    whole, half = evaluated(name)[0], other_views(name)[1]
    np.testing.assert_array_equal(half.indices, whole.indices[2:])
    np.testing.assert_allclose(half.quantized, whole.quantized[2:], rtol=1e-6, atol=1e-7)


@each
def test_gradients_reach_the_vectors_and_every_parameter(name):
    quantizer, variables, z, _, _ = prepared(name)

    @jax.jit
    @jax.grad
    def gradient(params_and_z):
        params, z = params_and_z
        output, _ = quantizer.apply(Variables(params, variables.state), z, train=True, key=KEY)
        return jnp.sum(jnp.sin(output.quantized)) + sum(jnp.mean(loss) for loss in output.losses.values())

    gradients = jax.tree.leaves(jax.device_get(gradient((variables.params, z))))
    assert gradients
    for g in gradients:
        assert np.isfinite(g).all()
        assert np.abs(g).max() > 0


@each
def test_evaluation_leaves_the_state_as_it_is(name):
    _, variables, _, _, _ = prepared(name)
    _, state = evaluated(name)
    assert jax.tree.structure(state) == jax.tree.structure(variables.state)
    for after, before in zip(jax.tree.leaves(state), jax.tree.leaves(variables.state), strict=True):
        np.testing.assert_array_equal(after, before)


@each
def test_bfloat16_vectors_are_computed_in_float32(name):
    _, variables, z, evaluate, _ = prepared(name)
    expected, _ = evaluate(variables, z.astype(jnp.bfloat16).astype(np.float32))
    assert_trees_close(other_views(name)[2], jax.device_get(expected), rtol=0, atol=0)


@each
def test_losses_are_float32_per_vector(name):
    z, (output, _) = prepared(name)[2], evaluated(name)
    assert set(output.losses) <= {"codebook", "commitment", "entropy"}
    for kind, loss in output.losses.items():
        assert loss.shape == z.shape[:2] and loss.dtype == jnp.float32
        assert np.isfinite(loss).all()
        assert kind == "entropy" or loss.min() >= 0


@each
def test_bad_vectors_are_refused(name):
    quantizer, variables, z, _, _ = prepared(name)
    with pytest.raises(ValueError, match="component"):
        quantizer.apply(variables, np.zeros((3, CASES[name].dim + 1), np.float32))
    with pytest.raises(ValueError, match="holds no vectors"):
        quantizer.apply(variables, z[:0])
    with pytest.raises(ValueError, match=r"shape \(\)"):
        quantizer.apply(variables, z[0, 0, 0])
    with pytest.raises(ValueError, match="floating"):
        quantizer.apply(variables, z.astype(np.int32))


@each
def test_indices_out_of_range_raise_or_give_nan_under_jit(name):
    quantizer, variables, _, _, _ = prepared(name)
    good = evaluated(name)[0].indices
    for wrong in (-1, quantizer.num_codes):
        bad = good.copy()
        bad[0, 0] = wrong
        message = rf"indices must lie within 0 \.\. {quantizer.num_codes - 1}, the quantizer's codes, got {wrong}"
        with pytest.raises(ValueError, match=message):
            quantizer.lookup(variables, bad)
        codes = np.asarray(jitted_lookup(name)(variables, bad))
        assert np.isnan(codes[0, 0]).all()
        assert np.isfinite(codes[0, 1:]).all() and np.isfinite(codes[1:]).all()
    with pytest.raises(ValueError, match="integers"):
        quantizer.lookup(variables, good.astype(np.float32))


@each
def test_training_without_a_needed_key_is_refused(name):
    quantizer, variables, z, _, _ = prepared(name)
    if CASES[name].draws:
        with pytest.raises(ValueError, match=r"key=None.*pass key="):
            quantizer.apply(variables, z, train=True)
    else:
        jax.eval_shape(lambda: quantizer.apply(variables, z, train=True))
