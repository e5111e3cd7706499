"""Combinators forward and backward in every mode: devices, float64, scan, export, donation, masks, vectors of NaN."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxgen.quantize import Variables, fsq, grouped, gumbel, lfq, projected, residual, simvq, vq

DEVICES = 4
KEY = jax.random.key(7)
Z = jax.random.normal(jax.random.key(2), (8, 3, 4))


def trained_vq(axis, codes=8):
    return vq(codes, ema_decay=0.5, kmeans_iterations=2, revive_below=0.4, axis_name=axis)


KINDS = {
    "equal": lambda axis: residual(trained_vq(axis), 3),
    "dropout": lambda axis: residual(vq(8, ema_decay=0.5, axis_name=axis), 3, dropout=0.8, axis_name=axis),
    "shared": lambda axis: residual(trained_vq(axis), 3, shared=True),
    "different": lambda axis: residual([
        trained_vq(axis), gumbel(6, axis_name=axis), lfq(4, axis_name=axis), vq(5, estimator="rotation"), simvq(7),
        fsq([3, 3, 3, 3]),
    ]),
    "grouped": lambda axis: grouped(vq(8, kmeans_iterations=2, revive_below=0.999, axis_name=axis), 2),
    "projected": lambda axis: projected(residual(vq(8, metric="cosine", ema_decay=0.5, axis_name=axis), 2), 3),
}
everywhere = pytest.mark.parametrize("kind", KINDS)
GROUPED_EQUAL = pytest.mark.parametrize("kind", ["equal", "grouped", "projected"])


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Most of these tests' time is compilation, and what they compare does not depend on its optimisations."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def step(quantizer, reduce=lambda x: x):
    """`(variables, z, key, valid=None) -> ((loss, (output, state)), gradients in the parameters and in z)`."""

    def loss(params, z, state, key, valid):
        output, state = quantizer.apply(Variables(params, state), z, train=True, key=key, valid=valid)
        total = jnp.mean(jnp.sin(output.quantized)) + sum(jnp.mean(x) for x in output.losses.values())
        return reduce(total), (output, state)

    def run(variables, z, key, valid=None):
        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(
            variables.params, z, variables.state, key, valid)

    return run


@functools.cache
def one_device(kind):
    quantizer = KINDS[kind](None)
    variables = quantizer.init(jax.random.key(1), 4)
    return variables, jax.device_get(jax.jit(step(quantizer))(variables, Z, KEY))


def assert_same(actual, expected, rtol=1e-5, atol=2e-6):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=rtol, atol=atol)


def mesh():
    return Mesh(np.array(jax.devices()[:DEVICES]), ("data",))


@everywhere
def test_shard_map_gives_one_device_s_values_states_and_gradients(kind):
    variables, expected = one_device(kind)
    mapped = jax.shard_map(
        step(KINDS[kind]("data"), lambda x: jax.lax.pmean(x, "data")), mesh=mesh(), in_specs=(P(), P("data"), P()),
        out_specs=((P(), (P("data"), P())), (P(), P("data"))),
    )
    assert_same(jax.jit(mapped)(variables, Z, KEY), expected)


@pytest.mark.parametrize("kind", ["dropout", "shared", "different", "grouped"])
def test_parameters_that_vary_over_the_devices_of_shard_map_give_the_same(kind):
    variables, expected = one_device(kind)

    def local(variables, z, key):
        variables = jax.tree.map(lambda x: jax.lax.pcast(x, "data", to="varying"), variables)
        values, (in_params, in_z) = step(KINDS[kind]("data"))(variables, z, key)
        (loss, (output, state)), in_params = jax.lax.pmean((values, in_params), "data")[0], in_params
        return loss, jax.tree.map(lambda x: jax.lax.pmean(x, "data"), in_params), in_z / DEVICES, output.losses

    mapped = jax.shard_map(local, mesh=mesh(), in_specs=(P(), P("data"), P()), out_specs=(P(), P(), P("data"), P()))
    loss, in_params, in_z, _ = jax.jit(mapped)(variables, Z, KEY)
    assert_same((loss, (in_params, in_z)), (expected[0][0], expected[1]))


def test_pmap_and_sharded_arrays_drop_the_levels_that_one_device_drops():
    variables, ((_, (output, state)), _) = one_device("dropout")
    quantizer = KINDS["dropout"]("data")
    mapped = jax.pmap(functools.partial(quantizer.apply, train=True), axis_name="data", in_axes=(None, 0))
    keys = jnp.broadcast_to(KEY, DEVICES)
    mapped = jax.pmap(lambda v, z, key: quantizer.apply(v, z, train=True, key=key), axis_name="data",
                      in_axes=(None, 0, 0))
    parts, states = mapped(variables, Z.reshape(DEVICES, -1, 3, 4), keys)
    assert_same(jax.tree.map(lambda x: x.reshape(8, *x.shape[2:]), parts), output)
    assert_same(jax.tree.map(lambda x: x[0], states), state)
    sharded = jax.device_put(Z, NamedSharding(mesh(), P("data")))
    whole = KINDS["dropout"](None)
    jitted = jax.jit(lambda v, z: whole.apply(v, z, train=True, key=KEY))
    assert_same(jitted(variables, sharded), (output, state))


@everywhere
def test_training_scans_in_float64_mode_with_the_types_of_float32_mode(kind):
    quantizer = KINDS[kind](None)
    with jax.enable_x64(True):
        variables = quantizer.init(jax.random.key(1), 4)

        @jax.jit
        def train(state, z):
            def body(state, key):
                (_, (output, state)), gradients = step(quantizer)(Variables(variables.params, state), z, key)
                return state, (output, gradients[0])

            return jax.lax.scan(body, state, jax.random.split(KEY, 3))

        state, (output, gradients) = train(variables.state, np.asarray(Z, np.float64))
        codes = quantizer.lookup(variables, output.indices[0])
    reference = quantizer.init(jax.random.key(1), 4)
    for actual, wanted in ((variables, reference), (state, reference.state), (gradients, reference.params)):
        assert [x.dtype for x in jax.tree.leaves(actual)] == [x.dtype for x in jax.tree.leaves(wanted)]
    assert (output.quantized.dtype, output.indices.dtype, codes.dtype) == (jnp.float32, jnp.int32, jnp.float32)
    assert all(loss.dtype == jnp.float32 for loss in output.losses.values())


@everywhere
def test_a_step_may_donate_what_init_gave(kind):
    quantizer = KINDS[kind](None)
    variables = quantizer.init(jax.random.key(1), 4)
    donated = jax.jit(lambda v: jax.tree.map(lambda x: x, v), donate_argnums=0)(variables)
    assert_same(donated, quantizer.init(jax.random.key(1), 4))
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(donated)]
    assert len(set(pointers)) == len(pointers)


@everywhere
def test_equal_settings_make_equal_quantizers_that_pickle(kind):
    quantizer = KINDS[kind]("data")
    assert quantizer == KINDS[kind]("data") == pickle.loads(pickle.dumps(quantizer))
    assert hash(quantizer) == hash(KINDS[kind]("data"))
    assert quantizer != KINDS[kind](None)


def test_numpy_integers_are_counts():
    assert residual(vq(8), np.int64(3), min_levels=np.int32(2)) == residual(vq(8), 3, min_levels=2)
    assert grouped(vq(8), np.int64(2)) == grouped(vq(8), 2)
    assert projected(vq(8), np.int64(3)) == projected(vq(8), 3)
    assert jax.tree.map(jnp.shape, grouped(vq(8), 2).init(KEY, np.int64(4))).params["codebook"] == (2, 8, 2)


@everywhere
def test_rank_promotion_may_be_forbidden(kind):
    quantizer = KINDS[kind](None)
    with jax.numpy_rank_promotion("raise"):
        variables = quantizer.init(KEY, 4)
        valid = jnp.ones(Z.shape[:-1], bool)
        output, _ = jax.eval_shape(lambda: quantizer.apply(variables, Z, train=True, key=KEY, valid=valid))
        jax.eval_shape(lambda: quantizer.lookup(variables, jnp.zeros(output.indices.shape, jnp.int32)))


@everywhere
def test_a_tokenizer_exports_with_a_symbolic_batch(kind):
    quantizer = KINDS[kind](None)
    variables = quantizer.init(KEY, 4)
    (batch,) = jax.export.symbolic_shape("b")
    encode = jax.export.export(jax.jit(lambda z: quantizer.apply(variables, z)[0].indices))(
        jax.ShapeDtypeStruct((batch, 3, 4), jnp.float32))
    output, _ = quantizer.apply(variables, Z)
    np.testing.assert_array_equal(encode.call(Z), output.indices)
    decode = jax.export.export(jax.jit(lambda indices: quantizer.lookup(variables, indices)))(
        jax.ShapeDtypeStruct((batch, *output.indices.shape[1:]), jnp.int32))
    np.testing.assert_allclose(decode.call(output.indices[:5]), output.quantized[:5], rtol=1e-6, atol=1e-6)


@everywhere
def test_masked_vectors_leave_losses_states_and_gradients_as_without_them(kind):
    quantizer = KINDS[kind](None)
    variables = quantizer.init(jax.random.key(1), 4)
    padded = jnp.concatenate([Z, jnp.full((8, 2, 4), jnp.nan), 9 + jnp.zeros((8, 1, 4))], axis=1)
    valid = jnp.arange(6)[None] < jnp.full((8, 1), 3)

    def summed(params, z, valid):
        output, state = quantizer.apply(Variables(params, variables.state), z, train=True, key=KEY, valid=valid)
        return sum(jnp.sum(x) for x in output.losses.values()), (output, state)

    run = jax.jit(jax.grad(summed, has_aux=True))
    gradient, (output, state) = run(variables.params, padded, valid)
    wanted_gradient, (wanted, wanted_state) = run(variables.params, Z, None)
    if kind != "different":  # Gumbel noise belongs to a place in the batch, and the places moved
        assert_same(jax.tree.map(lambda x: x[:, :3], output), wanted)
        assert_same((gradient, state), (wanted_gradient, wanted_state), rtol=1e-4, atol=1e-5)
    assert all((loss[:, 3:] == 0).all() for loss in output.losses.values())
    assert np.isnan(output.quantized[:, 3:5]).all() and np.isfinite(output.quantized[:, 5]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradient, state)))


@everywhere
def test_a_vector_of_nan_is_seen_and_spoils_no_other(kind):
    quantizer = KINDS[kind](None)
    variables = quantizer.init(jax.random.key(1), 4)
    train = jax.jit(lambda z: quantizer.apply(variables, z, train=True, key=KEY))
    output, state = train(Z.at[5, 1].set(jnp.nan))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    bad = np.zeros((8, 3), bool)
    bad[5, 1] = True
    np.testing.assert_array_equal(np.isnan(output.quantized).all(axis=-1), bad)
    np.testing.assert_array_equal(np.isnan(output.quantized).any(axis=-1), bad)
    for loss in output.losses.values():
        np.testing.assert_array_equal(np.isnan(loss), bad)
