import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.embeddings import (
    ClassEmbedding,
    Condition,
    GaussianFourier,
    TimeEmbedding,
    grid_positions,
    sinusoidal_embedding,
)

KEY = jax.random.key(0)


@pytest.mark.parametrize(("dim", "flip", "shift", "max_period"), [
    (8, True, 0.0, 10000.0), (8, False, 1.0, 10000.0), (7, True, 0.5, 100.0), (3, False, 0.0, 10000.0),
])
def test_sinusoids_equal_a_loop_over_their_definition(dim, flip, shift, max_period):
    times = [0.0, 0.25, 17.0, 999.0]
    half = dim // 2
    expected = np.zeros((len(times), dim))
    for row, time in zip(expected, times):
        for i in range(half):
            angle = time * max_period ** (-i / (half - shift))
            row[i + (half if flip else 0)] = math.sin(angle)
            row[i + (0 if flip else half)] = math.cos(angle)
    kwargs = {"max_period": max_period, "flip_sin_to_cos": flip, "downscale_freq_shift": shift}
    result, mapped = jax.jit(lambda t: (
        sinusoidal_embedding(t, dim, **kwargs),
        jax.vmap(lambda t: sinusoidal_embedding(t[None], dim, **kwargs)[0])(t)))(np.float32(times))
    # One float32 rounding of an angle near 999 is 6e-5.
    chex.assert_trees_all_close(result, expected.astype(np.float32), atol=2e-4)
    chex.assert_trees_all_close(mapped, result, atol=1e-6)


def test_neighbouring_times_stay_apart_whatever_the_dtypes():
    half = np.array([0.25, 0.5], jnp.bfloat16)
    table, *halves = jax.device_get(jax.jit(lambda *times: [
        sinusoidal_embedding(t, dim) for t, dim in zip(times, (64, 8, 8), strict=True)])(
            np.arange(1000), half, np.float32(half)))
    assert table.dtype == jnp.float32
    products = (table := np.float64(table)) @ table.T
    squares = np.diag(products)[:, None] + np.diag(products) - 2 * products
    assert np.sqrt(squares[~np.eye(1000, dtype=bool)].min()) > 0.5
    chex.assert_trees_all_equal(*halves)


def test_a_time_embedding_is_two_layers_and_tells_neighbouring_steps_apart_in_bfloat16():
    module = TimeEmbedding(16, scale=1000.0)
    times = np.float32([0.998, 0.999])

    @jax.jit
    def run(key):
        reference, variables = module.init_with_output(key, times)
        narrow = module.clone(dtype=jnp.bfloat16).apply(variables, times)
        return reference, variables["params"], sinusoidal_embedding(1000 * times, 256), narrow

    reference, p, sinusoids, result = jax.device_get(run(KEY))
    h = sinusoids @ p["dense1"]["kernel"] + p["dense1"]["bias"]
    expected = h / (1 + np.exp(-h)) @ p["dense2"]["kernel"] + p["dense2"]["bias"]
    chex.assert_trees_all_close(reference, expected, atol=1e-5)
    assert result.dtype == jnp.bfloat16
    assert np.abs(np.float32(result) - reference).max() < 0.1 * np.abs(reference[0] - reference[1]).max()


def test_grid_positions_tell_column_then_row_in_row_major_order():
    height, width, dim = 3, 5, 8
    expected = np.zeros((height * width, dim))
    for row in range(height):
        for column in range(width):
            for offset, position in ((0, column), (4, row)):
                for i in range(2):
                    angle = position * 10000 ** (-i / 2)
                    expected[row * width + column, offset + i] = math.sin(angle)
                    expected[row * width + column, offset + 2 + i] = math.cos(angle)
    found = jax.jit(grid_positions, static_argnums=(0, 1, 2))(height, width, dim)
    chex.assert_trees_all_close(found, expected.astype(np.float32), atol=1e-6)


@pytest.mark.parametrize(("log", "flip"), [(True, False), (False, True)])
def test_fourier_features_equal_numpy_and_their_frequencies_never_learn(log, flip):
    module = GaussianFourier(6, log=log, flip_sin_to_cos=flip)
    time = np.float32([0.5, 2.0, 3.0])

    @jax.jit
    def run(key):
        variables = module.init(key, time)
        gradients = jax.grad(lambda v, t: jnp.sum(module.apply(v, t)[:, 0]), argnums=(0, 1))(variables, time)
        return variables["params"]["weight"], module.apply(variables, time), gradients

    weight, features, (of_weight, of_time) = jax.device_get(run(KEY))
    angles = 2 * np.pi * np.outer(np.log(time) if log else time, weight)
    parts = [np.cos(angles), np.sin(angles)] if flip else [np.sin(angles), np.cos(angles)]
    chex.assert_trees_all_close(features, np.concatenate(parts, -1), atol=1e-5)
    chex.assert_trees_all_equal(of_weight, {"params": {"weight": np.zeros_like(weight)}})
    assert np.all(of_time != 0)


def test_fourier_frequencies_have_the_standard_deviation_asked_for():
    init = jax.jit(lambda key: GaussianFourier(4000, scale=16.0).init(key, jnp.ones(1))["params"]["weight"])
    weight = np.asarray(init(KEY))
    np.testing.assert_allclose(np.std(weight), 16.0, rtol=0.05)


def test_the_last_row_is_no_class_and_no_row_is_invented():
    module = ClassEmbedding(3, 4)
    rows, variables = jax.device_get(jax.jit(module.init_with_output)(KEY, np.array([2, 0, 3, 4])))
    table = variables["params"]["table"]["embedding"]
    assert table.shape == (4, 4)
    chex.assert_trees_all_equal(rows[:3], table[[2, 0, 3]])
    assert np.isnan(rows[3]).all()


def test_a_condition_is_the_sum_of_time_and_class():
    module = Condition(8, num_classes=3, time_scale=10.0)
    time, classes = np.float32([0.1, 0.7]), np.array([0, 3])

    @jax.jit
    def run(key):
        both, variables = module.init_with_output(key, 2, time, classes)
        params = variables["params"]
        of_time = TimeEmbedding(8, scale=10.0).apply({"params": params["time"]}, time)
        return both, module.apply(variables, 2, time), of_time, params["class"]["table"]["embedding"]

    both, without_class, of_time, table = jax.device_get(run(KEY))
    expected = of_time + table[classes]
    chex.assert_trees_all_close(both, expected, atol=1e-6)
    chex.assert_trees_all_close(without_class[1], expected[1], atol=1e-6)  # left out: no class
    assert Condition(8).init_with_output(KEY, 2)[0] is None


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"time must be a vector \[B\], got shape \(\)"):
        sinusoidal_embedding(jnp.float32(1), 8)
    with pytest.raises(ValueError, match=r"time must be a vector \[B\], got shape \(2, 1\)"):
        GaussianFourier(4).init(KEY, jnp.ones((2, 1)))
    with pytest.raises(ValueError, match=r"dim=2 is too small for downscale_freq_shift=1"):
        sinusoidal_embedding(jnp.ones(1), 2, downscale_freq_shift=1.0)
    with pytest.raises(ValueError, match="got dim=6"):
        grid_positions(2, 2, 6)
    with pytest.raises(ValueError, match=r"classes must be a vector \[B\], got shape \(\)"):
        ClassEmbedding(3, 4).init(KEY, jnp.int32(1))
    with pytest.raises(ValueError, match="classes are given but num_classes=0"):
        Condition(8).init(KEY, 1, jnp.ones(1), jnp.zeros(1, jnp.int32))
    module = Condition(8, num_classes=2)
    timed, untimed = (jax.eval_shape(lambda time: module.init(KEY, 1, time), time) for time in (jnp.ones(1), None))
    with pytest.raises(ValueError, match="time is None, and was not so at init"):
        module.apply(timed, 1)
    with pytest.raises(ValueError, match="time is given, and was not so at init"):
        module.apply(untimed, 1, jnp.ones(1))
