"""What every quantizer and every combinator promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.types import Variables
from tests.quantize.cases import CASES, KEY, assert_trees_close, prepared

pytestmark = pytest.mark.parametrize("name", CASES)


@functools.cache
def jitted_lookup(name):
    return jax.jit(prepared(name)[0].lookup)


def test_the_forward_value_is_the_lookup_of_the_indices_bit_for_bit(name):
    quantizer, variables, z, evaluate, _ = prepared(name)
    output, _ = evaluate(variables, 3 * z)
    np.testing.assert_array_equal(output.quantized, quantizer.lookup(variables, output.indices))
    np.testing.assert_array_equal(output.quantized, jitted_lookup(name)(variables, output.indices))


def test_training_looks_up_the_codes_that_it_was_given(name):
    quantizer, variables, z, _, train = prepared(name)
    output, _ = train(variables, z, key=KEY)
    np.testing.assert_array_equal(output.quantized, quantizer.lookup(variables, output.indices))


def test_indices_are_int32_in_range_with_the_shape_of_the_vectors(name):
    quantizer, variables, z, evaluate, _ = prepared(name)
    output, _ = evaluate(variables, z)
    assert output.indices.dtype == jnp.int32
    assert output.indices.shape[:2] == z.shape[:2]
    assert output.quantized.shape == z.shape
    assert output.indices.min() >= 0 and output.indices.max() < quantizer.num_codes


def test_a_code_is_quantized_to_itself(name):
    if not CASES[name].idempotent:
        pytest.skip("a greedy sum, a squashed or a learned map: its codes are no fixed points")
    _, variables, z, evaluate, _ = prepared(name)
    first, _ = evaluate(variables, z)
    second, _ = evaluate(variables, first.quantized)
    np.testing.assert_array_equal(second.indices, first.indices)
    np.testing.assert_allclose(second.quantized, first.quantized, rtol=1e-6)


def test_jit_changes_nothing(name):
    quantizer, variables, z, evaluate, train = prepared(name)
    eager, state = quantizer.apply(variables, z)
    assert_trees_close(evaluate(variables, z), (eager, state))
    np.testing.assert_array_equal(eager.quantized, quantizer.lookup(variables, eager.indices))
    assert_trees_close(train(variables, z, key=KEY), quantizer.apply(variables, z, train=True, key=KEY))


def test_vmap_over_the_batch_equals_the_batch(name):
    _, variables, z, evaluate, _ = prepared(name)
    mapped = jax.vmap(lambda image: evaluate(variables, image)[0])(z)
    direct = evaluate(variables, z)[0]
    assert_trees_close(mapped[:2], direct[:2])
    assert_trees_close(
        {k: v for k, v in mapped.losses.items() if k != "entropy"},
        {k: v for k, v in direct.losses.items() if k != "entropy"},
    )


def test_vectors_may_be_lists(name):
    quantizer, variables, z, _, _ = prepared(name)
    shapes = [jax.eval_shape(lambda v, z=z: quantizer.apply(v, z), variables) for z in (z.tolist(), z)]
    assert jax.tree.leaves(shapes[0]) == jax.tree.leaves(shapes[1])


def test_a_split_batch_gives_the_same_codes(name):
    _, variables, z, evaluate, _ = prepared(name)
    whole, _ = evaluate(variables, z)
    halves = [evaluate(variables, half)[0] for half in (z[:2], z[2:])]
    np.testing.assert_array_equal(np.concatenate([h.indices for h in halves]), whole.indices)
    np.testing.assert_allclose(np.concatenate([h.quantized for h in halves]), whole.quantized, rtol=1e-6, atol=1e-7)


def test_gradients_reach_the_vectors_and_every_parameter(name):
    quantizer, variables, z, _, _ = prepared(name)

    @jax.jit
    @jax.grad
    def gradient(params_and_z):
        params, z = params_and_z
        output, _ = quantizer.apply(Variables(params, variables.state), z, train=True, key=KEY)
        return jnp.sum(jnp.sin(output.quantized)) + sum(jnp.mean(loss) for loss in output.losses.values())

    gradients = jax.tree.leaves(gradient((variables.params, z)))
    assert gradients
    for g in gradients:
        assert np.isfinite(g).all()
        assert np.abs(g).max() > 0


def test_evaluation_leaves_the_state_as_it_is(name):
    _, variables, z, evaluate, _ = prepared(name)
    _, state = evaluate(variables, z)
    assert jax.tree.structure(state) == jax.tree.structure(variables.state)
    for after, before in zip(jax.tree.leaves(state), jax.tree.leaves(variables.state), strict=True):
        np.testing.assert_array_equal(after, before)


def test_bfloat16_vectors_are_computed_in_float32(name):
    _, variables, z, evaluate, _ = prepared(name)
    low = z.astype(jnp.bfloat16)
    assert_trees_close(evaluate(variables, low)[0], evaluate(variables, low.astype(jnp.float32))[0], rtol=0, atol=0)


def test_losses_are_float32_per_vector(name):
    _, variables, z, evaluate, _ = prepared(name)
    output, _ = evaluate(variables, z)
    assert set(output.losses) <= {"codebook", "commitment", "entropy"}
    for kind, loss in output.losses.items():
        assert loss.shape == z.shape[:2] and loss.dtype == jnp.float32
        assert np.isfinite(loss).all()
        assert kind == "entropy" or loss.min() >= 0


def test_bad_vectors_are_refused(name):
    quantizer, variables, z, _, _ = prepared(name)
    with pytest.raises(ValueError, match="component"):
        quantizer.apply(variables, jnp.zeros((3, CASES[name].dim + 1)))
    with pytest.raises(ValueError, match="holds no vectors"):
        quantizer.apply(variables, z[:0])
    with pytest.raises(ValueError, match=r"shape \(\)"):
        quantizer.apply(variables, z[0, 0, 0])
    with pytest.raises(ValueError, match="floating"):
        quantizer.apply(variables, z.astype(jnp.int32))


def test_indices_out_of_range_raise_or_give_nan_under_jit(name):
    quantizer, variables, z, evaluate, _ = prepared(name)
    good = evaluate(variables, z)[0].indices
    for wrong in (-1, quantizer.num_codes):
        bad = good.at[0, 0].set(wrong)
        with pytest.raises(ValueError, match=f"codes 0 to {quantizer.num_codes - 1}"):
            quantizer.lookup(variables, bad)
        codes = jitted_lookup(name)(variables, bad)
        assert np.isnan(codes[0, 0]).all()
        assert np.isfinite(codes[0, 1:]).all() and np.isfinite(codes[1:]).all()
    with pytest.raises(ValueError, match="integers"):
        quantizer.lookup(variables, good.astype(jnp.float32))


def test_training_without_a_needed_key_is_refused(name):
    quantizer, variables, z, _, _ = prepared(name)
    if CASES[name].draws:
        with pytest.raises(ValueError, match=r"key=None.*pass key="):
            quantizer.apply(variables, z, train=True)
    else:
        quantizer.apply(variables, z, train=True)
