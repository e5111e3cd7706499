"""Residual quantizers with dropout, shared or different codebooks in every mode: devices, float64, export, masks.

What every quantizer and combinator promises stands in the contract tests; types show when a function is traced, so that
most of these tests compile nothing.
"""

import functools
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxgen.core.types import Variables
from jaxgen.quantize import fsq, grouped, gumbel, lfq, projected, residual, simvq, vq
from tests.quantize.inputs import normal, run, start

DEVICES = 4
KEY = jax.random.key(7)
Z = normal(2, 8, 3, 4)

INNER = {
    "vq": lambda axis: vq(8, estimator="rotation"),
    "vq_ema": lambda axis: vq(8, ema_decay=0.5, kmeans_iterations=2, revive_below=0.4, axis_name=axis),
    "vq_revived": lambda axis: vq(8, kmeans_iterations=2, revive_below=0.4, axis_name=axis),
    "cosine": lambda axis: vq(8, metric="cosine", ema_decay=0.5, axis_name=axis),
    "gumbel": lambda axis: gumbel(6, axis_name=axis),
    "lfq": lambda axis: lfq(4, axis_name=axis),
    "simvq": lambda axis: simvq(7),
    "fsq": lambda axis: fsq([3, 3, 3, 3]),
    "grouped": lambda axis: grouped(vq(5, ema_decay=0.5, axis_name=axis), 2),
    "projected": lambda axis: projected(lfq(3, axis_name=axis), 3),
    "residual": lambda axis: residual(vq(5, ema_decay=0.5, axis_name=axis), 2),
}
KINDS = {
    "dropout": lambda axis: residual(vq(8, ema_decay=0.5, axis_name=axis), 3, dropout=0.8, axis_name=axis),
    "shared": lambda axis: residual(vq(8, ema_decay=0.5, revive_below=0.4, axis_name=axis), 3, shared=True),
    "different": lambda axis: residual([vq(8, ema_decay=0.5, axis_name=axis), lfq(4, axis_name=axis)]),
}
everywhere = pytest.mark.parametrize("kind", KINDS)
ALL = {**{name: lambda axis, make=make: residual(make(axis), 2) for name, make in INNER.items()}, **KINDS}


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Most of these tests' time is compilation, and what they compare does not depend on its optimisations."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def step(quantizer, reduce=lambda loss: loss):
    """`(variables, z) -> (state, (output, gradient in z), gradient in the parameters)` of a training step."""

    def run(variables, z):
        def loss(params, z):
            output, state = quantizer.apply(Variables(params, variables.state), z, train=True, key=KEY)
            total = jnp.mean(jnp.sin(output.quantized)) + sum(jnp.mean(x) for x in output.losses.values())
            return reduce(total), (output, state)

        (in_params, in_z), (output, state) = jax.grad(loss, argnums=(0, 1), has_aux=True)(variables.params, z)
        return state, (output, in_z), in_params

    return run


def mesh():
    return Mesh(np.array(jax.devices()[:DEVICES]), ("data",))


def shard_mapped(make, varying=False):
    """The step under shard_map, whose parameters are replicated, or differ (for all it knows) between devices."""
    if not varying:
        run = step(make("data"), lambda loss: jax.lax.pmean(loss, "data"))
    else:
        local = step(make("data"), lambda loss: loss / DEVICES)

        def run(variables, z):
            params = jax.tree.map(lambda x: jax.lax.pcast(x, "data", to="varying"), variables.params)
            state, split, in_params = local(Variables(params, variables.state), z)
            return state, split, jax.lax.psum(in_params, "data")

    return jax.shard_map(run, mesh=mesh(), in_specs=(P(), P("data")), out_specs=(P(), P("data"), P()))


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def assert_same(actual, expected, rtol=1e-5, atol=2e-6):
    assert types(actual) == types(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=rtol, atol=atol)


@functools.cache
def one_device(kind):
    quantizer = KINDS[kind](None)
    variables = start(quantizer, 4)
    return variables, jax.device_get(jax.jit(step(quantizer))(variables, Z))


@pytest.mark.parametrize("name", ALL)
def test_residual_levels_of_every_kind_have_gradients_under_shard_map(name):
    make = ALL[name]
    variables = jax.eval_shape(lambda key: make(None).init(key, 4), KEY)
    output, state = jax.eval_shape(lambda v, z: make(None).apply(v, z, train=True, key=KEY), variables, Z)
    expected = types((state, (output, Z), variables.params))
    for varying in (False, True) if variables.params else (False,):
        assert types(jax.eval_shape(shard_mapped(make, varying), variables, Z)) == expected


@pytest.mark.parametrize(("kind", "varying"), [
    ("dropout", False), ("shared", True), *(pytest.param(kind, varying, marks=pytest.mark.slow) for kind, varying in
                                            [("dropout", True), ("shared", False), ("different", True)]),
])
def test_shard_map_gives_the_values_states_and_gradients_of_one_device(kind, varying):
    variables, expected = one_device(kind)
    assert_same(jax.jit(shard_mapped(KINDS[kind], varying))(variables, Z), expected)


def test_pmap_and_sharded_arrays_drop_the_levels_that_one_device_drops():
    variables, (state, (output, _), _) = one_device("dropout")
    quantizer = KINDS["dropout"]("data")
    mapped = jax.pmap(lambda v, z: quantizer.apply(v, z, train=True, key=KEY), axis_name="data", in_axes=(None, 0))
    parts, states = mapped(variables, Z.reshape(DEVICES, -1, 3, 4))
    parts, states = jax.device_get((parts, states))
    assert_same(jax.tree.map(lambda x: x.reshape(8, *x.shape[2:]), parts), output)
    assert_same(jax.tree.map(lambda x: x[0], states), state)
    sharded = jax.device_put(Z, NamedSharding(mesh(), P("data")))
    whole = jax.jit(partial(KINDS["dropout"](None).apply, train=True))
    assert_same(whole(variables, sharded, key=KEY), (output, state))


@pytest.mark.parametrize("name", ["vq_ema", *KINDS])
def test_training_scans_in_float64_mode_with_the_types_of_float32_mode(name):
    quantizer = ALL[name](None)
    expected = jax.eval_shape(lambda: step(quantizer)(quantizer.init(KEY, 4), Z))

    def train(z):
        variables = quantizer.init(KEY, 4)

        def body(state, _):
            state, split, in_params = step(quantizer)(Variables(variables.params, state), z)
            return state, (split, in_params, quantizer.lookup(Variables(variables.params, state), split[0].indices))

        state, found = jax.lax.scan(body, variables.state, length=2)
        return state, *jax.tree.map(lambda x: x[0], found)

    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        state, (output, in_z), in_params, codes = jax.eval_shape(train, np.asarray(Z, np.float64))
    assert types((state, output, in_params)) == types((expected[0], expected[1][0], expected[2]))
    assert types(codes) == types(output.quantized) and in_z.dtype == jnp.float64


@everywhere
def test_fresh_variables_can_be_donated(kind):
    leaves = jax.tree.leaves(KINDS[kind](None).init(KEY, 4))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


def test_equal_settings_make_equal_quantizers_that_pickle():
    for kind, make in KINDS.items():
        quantizer = make("data")
        assert quantizer == make("data") == pickle.loads(pickle.dumps(quantizer))
        assert hash(quantizer) == hash(make("data")) and quantizer != make(None)
        assert all(quantizer != KINDS[other]("data") for other in KINDS if other != kind)


def test_numpy_integers_are_counts():
    assert residual(vq(8), np.int64(3)) == residual(vq(8), 3)
    assert residual(vq(8), 3, dropout=1, min_levels=np.int32(2)) == residual(vq(8), 3, dropout=1.0, min_levels=2)
    assert grouped(vq(8), np.int64(2)) == grouped(vq(8), 2)
    assert projected(vq(8), np.int64(3)) == projected(vq(8), 3)
    assert jax.eval_shape(lambda: grouped(vq(8), 2).init(KEY, np.int64(4))).params["codebook"].shape == (2, 8, 2)


@everywhere
def test_a_tokenizer_exports_for_batches_of_any_size(kind):
    quantizer = KINDS[kind](None)
    variables = jax.eval_shape(lambda: quantizer.init(KEY, 4))
    (batch,) = export.symbolic_shape("b")

    def serve(variables, z):
        indices = quantizer.apply(variables, z)[0].indices
        return indices, quantizer.lookup(variables, indices[..., :2])

    exported = export.export(jax.jit(serve))(variables, jax.ShapeDtypeStruct((batch, 3, 4), jnp.float32))
    indices, codes = exported.out_avals
    assert (indices.shape[:2], codes.shape) == ((batch, 3), (batch, 3, 4))


@pytest.mark.parametrize("kind", ["dropout", pytest.param("shared", marks=pytest.mark.slow)])
def test_vectors_that_are_not_valid_might_as_well_be_missing(kind):
    quantizer = KINDS[kind](None)
    variables, (expected_state, (expected, _), _) = one_device(kind)
    padded = np.concatenate([Z, np.full((8, 2, 4), np.nan, np.float32), np.full((8, 1, 4), 9, np.float32)], axis=1)
    valid = np.broadcast_to(np.arange(6) < 3, (8, 6))
    output, state = run(partial(quantizer.apply, train=True, key=KEY, valid=valid), variables, padded)
    assert_same((jax.tree.map(lambda x: x[:, :3], output), state), (expected, expected_state), rtol=1e-4, atol=1e-5)
    assert all((loss[:, 3:] == 0).all() for loss in output.losses.values())
    assert np.isnan(output.quantized[:, 3:5]).all() and np.isfinite(output.quantized[:, 5]).all()
