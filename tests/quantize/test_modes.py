"""Every quantizer and combinator in every mode of JAX: types, donation, export, pickling, comparison.

These faults show when a function is traced: only the tests that compare values compile anything.
"""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxgen.core.types import Variables
from tests.quantize.cases import CASES, KEY, assert_trees_close, prepared

every = pytest.mark.parametrize("name", CASES)
CALLED = ("vq", "fsq", "lfq")


def init(name):
    return functools.partial(CASES[name].make(None).init, dim=CASES[name].dim)


def shapes(name):
    """The quantizer, and the types of its variables and of vectors."""
    z = jax.ShapeDtypeStruct((4, 6, CASES[name].dim), jnp.float32)
    return CASES[name].make(None), jax.eval_shape(init(name), KEY), z


def cast(tree, dtype):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, dtype if x.dtype == jnp.float32 else x.dtype), tree)


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def scanned(quantizer, variables, z):
    """The types of outputs and codes of a scan over training steps with gradients, whose state keeps its types."""

    def step(variables, z, state, key):
        def loss(params, z):
            output, new_state = quantizer.apply(Variables(params, state), z, train=True, key=key)
            total = jnp.sum(jnp.sin(output.quantized)) + sum(jnp.mean(loss) for loss in output.losses.values())
            return total, (output, new_state)

        _, (output, state) = jax.grad(loss, argnums=(0, 1), has_aux=True)(variables.params, z)
        codes = quantizer.lookup(Variables(variables.params, state), output.indices.astype(int))
        return state, (output, codes)

    def train(variables, z):
        return jax.lax.scan(functools.partial(step, variables, z), variables.state, jax.random.split(KEY, 3))

    state, outputs = jax.eval_shape(train, variables, z)
    assert types(state) == types(variables.state)
    return outputs


@every
def test_no_array_of_fresh_variables_stands_twice_so_that_they_can_be_donated(name):
    arrays = jax.make_jaxpr(init(name))(KEY).jaxpr.outvars
    assert len(set(map(id, arrays))) == len(arrays)


@every
def test_training_keeps_the_shape_of_the_state_so_that_it_can_be_scanned_and_leans_on_no_rank_promotion(name):
    with jax.numpy_rank_promotion("raise"):
        scanned(*shapes(name))


@pytest.mark.parametrize("state", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
@every
def test_in_float64_mode_outputs_are_float32_and_the_state_keeps_its_types(name, state):
    quantizer, variables, z = shapes(name)
    with jax.enable_x64(True):
        assert types(jax.eval_shape(init(name), KEY)) == types(variables)
        variables = Variables(cast(variables.params, jnp.float64), cast(variables.state, state))
        output, codes = scanned(quantizer, variables, cast(z, jnp.float64))
    assert output.indices.dtype == jnp.int32
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((output.quantized, output.losses, codes)))


def exported(name):
    """The serving of a tokenizer, `(variables, z) -> (indices, losses, codes)`, for any number of examples."""
    quantizer, variables, z = shapes(name)
    count, = export.symbolic_shape("b")

    def serve(variables, z):
        output, _ = quantizer.apply(variables, z)
        return output.indices, output.losses, quantizer.lookup(variables, output.indices)

    return export.export(jax.jit(serve))(variables, jax.ShapeDtypeStruct((count, *z.shape[1:]), z.dtype))


@every
def test_a_tokenizer_is_exported_for_batches_of_any_size(name):
    assert {str(output.shape[0]) for output in exported(name).out_avals} == {"b"}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in CALLED else pytest.mark.slow) for name in CASES
])
def test_an_exported_tokenizer_gives_what_the_quantizer_gives(name):
    _, variables, z, evaluate, _ = prepared(name)
    expected, _ = evaluate(variables, z)
    indices, losses, codes = exported(name).call(variables, z)
    np.testing.assert_array_equal(indices, expected.indices)
    np.testing.assert_array_equal(codes, expected.quantized)
    assert_trees_close(losses, expected.losses)


@every
def test_equal_settings_are_equal_and_other_ones_are_not(name):
    make = CASES[name].make
    assert make(None) == make(None)
    assert hash(make(None)) == hash(make(None))
    assert all((CASES[other].make(None) != make(None)) == (other != name) for other in CASES)


@every
def test_a_pickled_quantizer_comes_back_equal_and_works(name):
    quantizer, variables, z = shapes(name)
    restored = pickle.loads(pickle.dumps(quantizer))
    assert restored == quantizer
    assert types(jax.eval_shape(restored.apply, variables, z)) == types(jax.eval_shape(quantizer.apply, variables, z))


@every
def test_a_quantizer_as_a_static_argument_compiles_once(name):
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def double(quantizer, x):
        traces.append(quantizer)
        return 2 * x

    for _ in range(3):
        double(CASES[name].make(None), 1.0)
    assert len(traces) == 1


@every
def test_an_axis_that_is_not_mapped_is_named(name):
    _, variables, z = shapes(name)
    train = functools.partial(CASES[name].make("cores").apply, train=True, key=KEY)
    if CASES[name].reduces:
        with pytest.raises(ValueError, match=r"axis_name='cores'.*pmap.*axis_name=None"):
            jax.eval_shape(train, variables, z)
    else:
        jax.eval_shape(train, variables, z)
