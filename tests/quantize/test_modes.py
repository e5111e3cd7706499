"""Every quantizer and combinator in every mode of JAX: types, donation, export, pickling, comparison.

Most of these faults show when a function is traced, so that nothing has to be compiled to find them.
"""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxgen.quantize import Variables
from tests.quantize.cases import CASES, KEY, assert_trees_close, fresh, prepared

pytestmark = pytest.mark.parametrize("name", CASES)


def test_no_buffer_of_fresh_variables_stands_twice_so_that_they_can_be_donated(name):
    leaves = jax.tree.leaves(fresh(name))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


def scanned(quantizer, variables, z):
    """The types of a scan over training steps with gradients; a state that changes its type fails."""

    def step(state, key):
        def loss(params, z):
            output, new_state = quantizer.apply(Variables(params, state), z, train=True, key=key)
            total = jnp.sum(jnp.sin(output.quantized)) + sum(jnp.mean(loss) for loss in output.losses.values())
            return total, (output, new_state)

        _, (output, state) = jax.grad(loss, argnums=(0, 1), has_aux=True)(variables.params, z)
        codes = quantizer.lookup(Variables(variables.params, state), output.indices.astype(int))
        return state, (output, codes)

    keys = jax.random.split(KEY, 3)
    state, outputs = jax.eval_shape(lambda state: jax.lax.scan(step, state, keys), variables.state)
    assert types(state) == types(variables.state)
    return outputs


def types(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def test_training_keeps_the_shape_of_the_state_so_that_it_can_be_scanned_and_saved(name):
    quantizer, variables, z, _, _ = prepared(name)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(variables.state))
    scanned(quantizer, variables, z)


@pytest.mark.parametrize("state", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
def test_in_float64_mode_outputs_are_float32_and_the_state_keeps_its_types(name, state):
    quantizer, variables, z, _, _ = prepared(name)
    with jax.enable_x64(True):
        own = jax.eval_shape(functools.partial(quantizer.init, dim=CASES[name].dim), KEY)
        assert types(own) == types(variables)

        def cast(tree, dtype):
            return jax.tree.map(lambda x: x.astype(dtype) if x.dtype == jnp.float32 else x, tree)

        variables = Variables(cast(variables.params, jnp.float64), cast(variables.state, state))
        output, codes = scanned(quantizer, variables, cast(z, jnp.float64))
        assert output.indices.dtype == jnp.int32
        assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((output.quantized, output.losses, codes)))


def test_nothing_leans_on_rank_promotion(name):
    quantizer, variables, z, _, _ = prepared(name)
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(functools.partial(quantizer.init, dim=CASES[name].dim), KEY)
        scanned(quantizer, variables, z)


def test_a_tokenizer_is_exported_for_batches_of_any_size(name):
    quantizer, variables, z, evaluate, _ = prepared(name)
    count, = export.symbolic_shape("b")

    def serve(variables, z):
        output, _ = quantizer.apply(variables, z)
        return output.indices, output.losses, quantizer.lookup(variables, output.indices)

    exported = export.export(jax.jit(serve))(variables, jax.ShapeDtypeStruct((count, *z.shape[1:]), z.dtype))
    expected, _ = evaluate(variables, z)
    indices, losses, codes = exported.call(variables, z)
    np.testing.assert_array_equal(indices, expected.indices)
    np.testing.assert_array_equal(codes, expected.quantized)
    assert_trees_close(losses, expected.losses)


def test_equal_settings_are_equal_and_other_ones_are_not(name):
    make = CASES[name].make
    assert make(None) == make(None)
    assert hash(make(None)) == hash(make(None))
    assert all((CASES[other].make(None) != make(None)) == (other != name) for other in CASES)


def test_a_pickled_quantizer_comes_back_equal_and_works(name):
    quantizer, variables, z, _, _ = prepared(name)
    restored = pickle.loads(pickle.dumps(quantizer))
    assert restored == quantizer
    assert types(jax.eval_shape(restored.apply, variables, z)) == types(jax.eval_shape(quantizer.apply, variables, z))


def test_a_quantizer_as_a_static_argument_compiles_once(name):
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def size(quantizer):
        traces.append(quantizer)
        return jnp.int32(quantizer.num_codes)

    for _ in range(3):
        size(CASES[name].make(None))
    assert len(traces) == 1


def test_an_axis_that_is_not_mapped_is_named(name):
    quantizer = CASES[name].make("cores")
    _, variables, z, _, _ = prepared(name)
    if CASES[name].reduces:
        with pytest.raises(ValueError, match=r"axis_name='cores'.*pmap.*axis_name=None"):
            quantizer.apply(variables, z, train=True, key=KEY)
    else:
        quantizer.apply(variables, z, train=True, key=KEY)
