"""Group normalisation against NumPy in float64, against flax's layer, and under every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgen.nn.norm import GroupNorm, group_norm

SHAPE, GROUPS = (3, 6, 5, 12), 4


def draw(shape=SHAPE, mean=0.0, deviation=1.0, seed=0):
    return mean + deviation * np.random.default_rng(seed).standard_normal(shape)


def in_float64(x, scale, bias, groups=GROUPS, epsilon=1e-6):
    x = np.asarray(x, np.float64)
    y = np.empty_like(x)
    size = x.shape[-1] // groups
    for b in range(x.shape[0]):
        for g in range(groups):
            part = x[b, ..., g * size : (g + 1) * size]
            y[b, ..., g * size : (g + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + epsilon)
    return y * scale + bias


def parameters(channels=SHAPE[-1]):
    return draw((channels,), 2, seed=1), draw((channels,), seed=2)


def ours(x, scale, bias):
    return group_norm(x, scale, bias, groups=GROUPS)


def straightforward(x, scale, bias):
    """The definition, differentiated by JAX."""
    parts = x.reshape(x.shape[0], -1, GROUPS, x.shape[-1] // GROUPS)
    y = (parts - parts.mean((1, 3), keepdims=True)) / jnp.sqrt(parts.var((1, 3), keepdims=True) + 1e-6)
    return y.reshape(x.shape) * scale + bias


def as_float32(*arrays):
    return [np.float32(a) for a in arrays]


def assert_close(actual, expected, tolerance=1e-5):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        assert a.shape == e.shape
        assert np.abs(a - e).max() <= tolerance * np.abs(e).max()


@jax.jit
def both(x, scale, bias):
    """Ours and flax's."""
    return ours(x, scale, bias), nn.GroupNorm(GROUPS).apply({"params": {"scale": scale, "bias": bias}}, x)


@pytest.mark.parametrize(("mean", "tolerance"), [(0, 1e-6), (100, 2e-5), (1e4, 2e-3), (-1e5, 2e-2)])
def test_a_large_mean_costs_only_the_digits_that_the_input_lost(mean, tolerance):
    x = np.float32(draw((2, 16, 16, 12), mean))
    scale, bias = as_float32(*parameters())
    found, fast = both(x, scale, bias)
    assert_close(found, in_float64(x, scale, bias), tolerance)
    if abs(mean) >= 1e4:
        assert np.abs(fast - in_float64(x, scale, bias)).max() > 0.1  # what the squares' mean less the mean's square is


def test_gradients_of_an_input_with_a_large_mean_equal_those_in_float64():
    x, cotangent = as_float32(draw(mean=100), draw(seed=3))
    scale, bias = as_float32(*parameters())

    def gradients(function, *arrays):
        return jax.grad(lambda *a: jnp.sum(function(*a) * cotangent), (0, 1, 2))(*arrays)

    with jax.enable_x64(True):
        expected = jax.jit(lambda *a: gradients(straightforward, *a))(*map(np.float64, (x, scale, bias)))
    assert_close(jax.jit(lambda *a: gradients(ours, *a))(x, scale, bias), expected, 5e-5)


@pytest.mark.parametrize("order", ["jvp", "linearize", "reverse", "reverse over reverse", "forward over reverse"])
def test_derivatives_equal_those_of_the_definition(order):
    x, tangent, cotangent = as_float32(draw(mean=1), draw(seed=3), draw(seed=4))
    scale, bias = as_float32(*parameters())
    arguments, tangents = (x, scale, bias), (tangent, scale[::-1], bias[::-1])

    def derivative(function):
        gradient = jax.grad(lambda *a: jnp.sum(jnp.sin(function(*a)) * cotangent), (0, 1, 2))
        return {
            "jvp": lambda: jax.jvp(function, arguments, tangents),
            "linearize": lambda: jax.linearize(function, *arguments)[1](*tangents),
            "reverse": lambda: gradient(*arguments),
            "reverse over reverse": lambda: jax.grad(
                lambda *a: sum(jnp.sum(g**2) for g in gradient(*a)), (0, 1, 2))(*arguments),
            "forward over reverse": lambda: jax.jvp(gradient, arguments, tangents)[1],
        }[order]

    assert_close(*jax.jit(lambda: (derivative(ours)(), derivative(straightforward)()))(), 3e-5)


def test_vmap_and_remat_change_nothing():
    x, scale, bias = as_float32(draw((2, *SHAPE)), draw((2, 12), 2, seed=1), draw((12,), seed=2))

    def passes(x, scale, bias):
        y, backward = jax.vjp(jax.checkpoint(lambda *a: jnp.sin(ours(*a))), x, scale, bias)
        return y, backward(jnp.ones_like(y))

    def expected(x, scale, bias):
        y, backward = jax.vjp(lambda *a: jnp.sin(straightforward(*a)), x, scale, bias)
        return y, backward(jnp.ones_like(y))

    @jax.jit
    def run(x, scale, bias):
        return jax.vmap(passes, (0, 0, None))(x, scale, bias), [expected(x[i], scale[i], bias) for i in range(2)]

    mapped, alone = jax.device_get(run(x, scale, bias))
    for i in range(2):
        assert_close(jax.tree.map(lambda a, i=i: a[i], mapped), alone[i])


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map_gives_what_one_device_gives(check_vma):
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    x, scale, bias = as_float32(draw((8, 4, 4, 12)), *parameters())

    def loss(function):
        return lambda scale, bias, x: jnp.sum(jnp.sin(function(x, scale, bias)))

    mapped = jax.shard_map(lambda *a: jax.lax.psum(loss(ours)(*a), "data"), mesh=mesh,
                           in_specs=(P(), P(), P("data")), out_specs=P(), check_vma=check_vma)
    assert_close(jax.jit(jax.grad(mapped, (0, 1, 2)))(scale, bias, x),
                 jax.jit(jax.grad(loss(straightforward), (0, 1, 2)))(scale, bias, x))


@pytest.mark.parametrize("shape", [(2, 5, 12), (2, 12), (2, 3, 4, 2, 12), (1, 1, 1, 12)])
def test_the_layer_has_the_parameters_and_the_results_of_the_linen_layer(shape):
    x, variables = np.float32(draw(shape)), {"params": dict(zip(("scale", "bias"), as_float32(*parameters())))}
    options = ({}, {"dtype": jnp.bfloat16}, {"epsilon": 1e-2})
    pairs = [(GroupNorm(GROUPS, **o), nn.GroupNorm(GROUPS, **o)) for o in options]

    @jax.jit
    def run(variables, x):
        return [[(m.init(jax.random.key(0), x), m.apply(variables, x)) for m in pair] for pair in pairs]

    for (params, y), (expected_params, expected) in jax.device_get(run(variables, x)):
        assert jax.tree.structure(params) == jax.tree.structure(expected_params)
        assert_close(params, expected_params)
        assert y.dtype == expected.dtype
        assert_close(y, expected, 2**-7 if y.dtype == jnp.bfloat16 else 1e-5)


def test_bfloat16_is_the_rounded_float32_result():
    arrays = [a.astype(jnp.bfloat16) for a in as_float32(draw(mean=3), *parameters())]

    @jax.jit
    def run(x, scale, bias):
        layer = GroupNorm(GROUPS, dtype=jnp.bfloat16)
        return layer.apply({"params": {"scale": scale, "bias": bias}}, x), ours(*map(jnp.float32, (x, scale, bias)))

    y, wide = jax.device_get(run(*arrays))
    np.testing.assert_array_equal(y, wide.astype(jnp.bfloat16))


def test_groups_that_do_not_divide_name_themselves():
    with pytest.raises(ValueError, match="groups=5 must divide the channel count 12"):
        group_norm(jnp.ones(SHAPE), jnp.ones(12), jnp.ones(12), groups=5)
