"""N devices give what one device gives: codes, losses, states and gradients."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxgen.core.types import Variables
from jaxgen.quantize import usage
from tests.quantize.cases import CASES
from tests.quantize.inputs import normal, run, start

DEVICES = 8
STEPS = 3
# The types of every one are compared, and a few values.
OFTEN = ("vq_ema_kmeans_revival", "lfq", "gumbel", "dropout_vq")
ACROSS = [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in CASES]


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Most of these tests' time is compilation, and what they compare does not depend on its optimisations."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def batches(dim):
    """Vectors of each step, and the weight of each one's losses: 0 where a vector is not valid, else 1 / its share."""
    z = normal(2, STEPS, DEVICES * 2, 3, dim)
    valid = np.random.default_rng(3).random(z.shape[:-1]) < 0.7
    valid[1, :2] = False  # a device without any
    return zip(z, np.float32(valid / np.mean(valid, axis=(1, 2), keepdims=True)), strict=True)


def step_of(quantizer, reduce, mark=lambda params: params):
    """One training step: the loss's gradients in parameters and vectors, and everything that `apply` gives."""

    def step(variables, z, weight, key):
        def loss(params, z):
            output, state = quantizer.apply(
                Variables(params, variables.state), z, train=True, key=key, valid=weight > 0)
            total = jnp.mean(jnp.sin(output.quantized)) + sum(jnp.mean(x * weight) for x in output.losses.values())
            return reduce(total), (output, state)

        gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
        (to_params, to_z), (output, state) = gradient(mark(variables.params), z)
        return to_params, (to_z, output), state

    return step


def summed(local):
    """The step of one device, whose loss is its part of the whole, with the gradient of the whole in parameters."""

    def step(*arguments):
        to_params, split, state = local(*arguments)
        return jax.lax.psum(to_params, "data"), split, state

    return step


@functools.cache
def trained_on_one_device(name):
    quantizer = CASES[name].make(None)
    variables = start(quantizer, CASES[name].dim)
    return variables, trained(name, variables, jax.jit(step_of(quantizer, lambda x: x)))


def trained(name, variables, step):
    results = []
    for number, (z, weight) in enumerate(batches(CASES[name].dim)):
        result = step(variables, z, weight, jax.random.fold_in(jax.random.key(5), number))
        variables = Variables(variables.params, result[2])
        results.append(jax.device_get(result))
    return results


def assert_same(name, run):
    variables, expected = trained_on_one_device(name)
    actual = run(variables)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=2e-6)


def mesh():
    return Mesh(np.array(jax.devices()[:DEVICES]), ("data",))


def replicated(variables):
    """Where the steps leave the state, so that the first one is compiled for the others too."""
    return jax.device_put(variables, NamedSharding(mesh(), P()))


def pmapped(name):
    local = step_of(CASES[name].make("data"), lambda loss: loss / DEVICES)
    return jax.pmap(summed(local), axis_name="data", in_axes=(None, 0, 0, None))


def shard_mapped(name, params):
    """The step under shard_map, which checks what varies over devices; parameters replicated, or marked as varying."""
    quantizer = CASES[name].make("data")
    if params == "replicated":
        step = step_of(quantizer, lambda loss: jax.lax.pmean(loss, "data"))
    else:
        varying = partial(jax.tree.map, lambda x: jax.lax.pcast(x, "data", to="varying"))
        step = summed(step_of(quantizer, lambda loss: loss / DEVICES, varying))
    specs = (P(), P("data"), P("data"), P()), (P(), P("data"), P())
    return jax.shard_map(step, mesh=mesh(), in_specs=specs[0], out_specs=specs[1])


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def split(x):
    return x.reshape(DEVICES, -1, *x.shape[1:])


@pytest.mark.parametrize("name", CASES)
def test_every_step_fits_the_types_of_pmap_and_shard_map(name):
    quantizer = CASES[name].make(None)
    variables = jax.eval_shape(lambda key: quantizer.init(key, CASES[name].dim), jax.random.key(1))
    z, weight = next(batches(CASES[name].dim))
    key = jax.random.key(5)
    output, state = jax.eval_shape(lambda v: quantizer.apply(v, z, train=True, key=key, valid=weight > 0), variables)
    expected = types((variables.params, (z, output), state))
    for params in ("replicated", "varying") if variables.params else ("replicated",):
        assert types(jax.eval_shape(shard_mapped(name, params), variables, z, weight, key)) == expected
    jax.eval_shape(pmapped(name), variables, split(z), split(weight), key)


@pytest.mark.parametrize("name", ACROSS)
def test_pmap_with_an_axis_name_equals_one_device(name):
    mapped = pmapped(name)

    def step(variables, z, weight, key):
        gradient, output, state = jax.device_get(mapped(variables, split(z), split(weight), key))  # each by device
        for leaf in jax.tree.leaves(state):
            for other in leaf[1:]:
                np.testing.assert_array_equal(leaf[0], other)
        first = partial(jax.tree.map, lambda x: x[0])
        return first(gradient), jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), output), first(state)

    assert_same(name, lambda variables: trained(name, variables, step))


@pytest.mark.parametrize("name", ACROSS)
def test_shard_map_with_an_axis_name_equals_one_device(name):
    mapped = jax.jit(shard_mapped(name, "replicated"))
    assert_same(name, lambda variables: trained(name, replicated(variables), mapped))


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name == "vq_cosine_kmeans_revival" else pytest.mark.slow) for name in CASES
])
def test_shard_map_with_parameters_that_vary_equals_one_device(name):
    mapped = jax.jit(shard_mapped(name, "varying"))
    assert_same(name, lambda variables: trained(name, replicated(variables), mapped))


@pytest.mark.parametrize("name", ACROSS)
def test_jit_with_sharded_vectors_equals_one_device_without_an_axis_name(name):
    jitted = jax.jit(step_of(CASES[name].make(None), lambda x: x))
    sharding = NamedSharding(mesh(), P("data"))

    def step(variables, z, weight, key):
        return jitted(variables, *jax.device_put((z, weight), sharding), key)

    assert_same(name, lambda variables: trained(name, replicated(variables), step))


def test_usage_sums_its_histogram_over_devices():
    indices = np.random.default_rng(0).integers(0, 16, (DEVICES, 10), np.int32)
    mapped = jax.device_get(jax.pmap(partial(usage, num_codes=16, axis_name="data"), axis_name="data")(indices))
    expected = run(partial(usage, num_codes=16), indices)
    np.testing.assert_allclose(mapped.perplexity, np.full(DEVICES, expected.perplexity), rtol=1e-6)
    np.testing.assert_array_equal(mapped.histogram[3], expected.histogram)
