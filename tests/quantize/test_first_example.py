"""The quantizer of the README's first example in programs of every kind: float64, many devices, donated steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgen.core.types import Variables
from jaxgen.quantize import residual, vq

KEY = jax.random.key(0)
DEVICES = 4


def first_example(axis_name=None):
    return residual(
        vq(512, ema_decay=0.99, estimator="rotation", revive_below=0.05, axis_name=axis_name), depth=2
    )


def step_of(quantizer, axis_name=None):
    """A step of training an encoder, a matrix, with the quantizer behind it: `(params, state, x, key) -> ...`."""

    def step(params, state, x, key):
        def loss(params):
            output, new_state = quantizer.apply(Variables({}, state), jnp.tanh(x @ params), train=True, key=key)
            total = jnp.mean(jnp.square(output.quantized - 0.3)) + jnp.mean(output.losses["commitment"])
            return total if axis_name is None else jax.lax.pmean(total, axis_name), (output, new_state)

        gradient, (output, state) = jax.grad(loss, has_aux=True)(params)
        return params - gradient, state, output

    return step


@functools.cache
def start(dtype=jnp.float32):
    state = first_example().init(KEY, 8).state
    return (jax.random.normal(jax.random.key(1), (5, 8), jnp.float32).astype(dtype), state,
            jax.random.normal(jax.random.key(2), (3, 8, 6, 5), jnp.float32).astype(dtype))


@functools.cache
def trained():
    params, state, x = start()
    step = jax.jit(step_of(first_example()))
    for number in range(3):
        params, state, output = step(params, state, x[number], jax.random.fold_in(KEY, number))
    return params, state, output


def assert_close(actual, expected, rtol=1e-4, atol=1e-5):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=rtol, atol=atol)


def test_it_trains_in_a_scan_in_float64_mode_as_in_float32():
    with jax.enable_x64(True):
        params, state, x = start(jnp.float64)
        step = step_of(first_example())

        def body(carry, number):
            params, state, output = step(*carry, x[number], jax.random.fold_in(KEY, number))
            return (params, state), output

        (params, state), outputs = jax.jit(lambda carry: jax.lax.scan(body, carry, jnp.arange(3)))((params, state))
        assert params.dtype == jnp.float64 and outputs.indices.dtype == jnp.int32
        assert outputs.quantized.dtype == jnp.float32
        last = jax.tree.map(lambda leaf: leaf[-1], outputs)
        assert_close((params, state, last), trained())


def test_its_gradients_reach_an_encoder_under_shard_map_on_four_devices():
    mesh = Mesh(np.array(jax.devices()[:DEVICES]), ("data",))
    step = step_of(first_example("data"), "data")
    mapped = jax.jit(jax.shard_map(
        step, mesh=mesh, in_specs=(P(), P(), P("data"), P()), out_specs=(P(), P(), P("data"))))
    params, state, x = start()
    for number in range(3):
        params, state, output = mapped(params, state, x[number], jax.random.fold_in(KEY, number))
    assert_close((params, state, output), trained())


def test_it_trains_in_a_donated_step_from_its_first_variables_on():
    params, state, x = start()
    step = jax.jit(step_of(first_example()), donate_argnums=(0, 1))
    params, state = jnp.copy(params), first_example().init(KEY, 8).state
    for number in range(3):
        params, state, output = step(params, state, x[number], jax.random.fold_in(KEY, number))
    assert_close((params, state, output), trained())


@pytest.mark.parametrize("make", [
    lambda: vq(8, ema_decay=0.9, kmeans_iterations=1), lambda: vq(8, ema_decay=0.9, metric="cosine"), first_example,
])
def test_fresh_variables_can_be_donated_with_an_optimizers_state(make):
    variables = make().init(KEY, 4)
    everything = variables, optax.adam(1e-3).init(variables.params)
    copied = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), donate_argnums=0)(everything)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(variables))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(copied))
