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
    result = jax.jit(lambda t: sinusoidal_embedding(t, dim, **kwargs))(jnp.array(times))
    # One float32 rounding of an angle near 999 is 6e-5.
    chex.assert_trees_all_close(result, expected.astype(np.float32), atol=2e-4)
    chex.assert_trees_all_close(jax.vmap(lambda t: sinusoidal_embedding(t[None], dim, **kwargs)[0])(jnp.array(times)),
                                result, atol=1e-6)


def test_neighbouring_times_stay_apart_whatever_the_dtypes():
    table = sinusoidal_embedding(jnp.arange(1000), 64)
    assert table.dtype == jnp.float32
    distances = np.linalg.norm(np.asarray(table)[:, None] - np.asarray(table)[None], axis=-1)
    assert distances[~np.eye(1000, dtype=bool)].min() > 0.5
    half = jnp.array([0.25, 0.5], jnp.bfloat16)
    chex.assert_trees_all_equal(sinusoidal_embedding(half, 8), sinusoidal_embedding(half.astype(jnp.float32), 8))


def test_a_time_embedding_is_two_layers_and_tells_neighbouring_steps_apart_in_bfloat16():
    module = TimeEmbedding(16, scale=1000.0)
    times = jnp.array([0.998, 0.999])
    reference, variables = jax.jit(module.init_with_output)(KEY, times)
    p = jax.tree.map(np.asarray, variables["params"])
    h = np.asarray(sinusoidal_embedding(1000 * times, 256)) @ p["dense1"]["kernel"] + p["dense1"]["bias"]
    expected = h / (1 + np.exp(-h)) @ p["dense2"]["kernel"] + p["dense2"]["bias"]
    chex.assert_trees_all_close(reference, expected, atol=1e-5)

    result = jax.jit(module.clone(dtype=jnp.bfloat16).apply)(variables, times)
    assert result.dtype == jnp.bfloat16
    assert np.abs(result.astype(jnp.float32) - reference).max() < 0.1 * np.abs(reference[0] - reference[1]).max()


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
    chex.assert_trees_all_close(grid_positions(height, width, dim), expected.astype(np.float32), atol=1e-6)


@pytest.mark.parametrize(("log", "flip"), [(True, False), (False, True)])
def test_fourier_features_equal_numpy_and_their_frequencies_never_learn(log, flip):
    module = GaussianFourier(6, log=log, flip_sin_to_cos=flip)
    time = jnp.array([0.5, 2.0, 3.0])
    variables = module.init(KEY, time)
    weight = np.asarray(variables["params"]["weight"])
    angles = 2 * np.pi * np.outer(np.log(time) if log else time, weight)
    parts = [np.cos(angles), np.sin(angles)] if flip else [np.sin(angles), np.cos(angles)]
    chex.assert_trees_all_close(module.apply(variables, time), np.concatenate(parts, -1), atol=1e-5)

    gradients = jax.grad(lambda v, t: jnp.sum(module.apply(v, t)[:, 0]), argnums=(0, 1))(variables, time)
    chex.assert_trees_all_equal(gradients[0], jax.tree.map(jnp.zeros_like, variables))
    assert np.all(gradients[1] != 0)


def test_fourier_frequencies_have_the_standard_deviation_asked_for():
    weight = GaussianFourier(4000, scale=16.0).init(KEY, jnp.ones(1))["params"]["weight"]
    np.testing.assert_allclose(np.std(weight), 16.0, rtol=0.05)


def test_the_last_row_is_no_class_and_no_row_is_invented():
    module = ClassEmbedding(3, 4)
    variables = module.init(KEY, jnp.zeros(1, jnp.int32))
    table = variables["params"]["table"]["embedding"]
    assert table.shape == (4, 4)
    chex.assert_trees_all_equal(module.apply(variables, jnp.array([2, 0, 3])), table[jnp.array([2, 0, 3])])
    assert np.isnan(module.apply(variables, jnp.array([4]))).all()


def test_a_condition_is_the_sum_of_time_and_class():
    module = Condition(8, num_classes=3, time_scale=10.0)
    time, classes = jnp.array([0.1, 0.7]), jnp.array([0, 3])
    variables = jax.jit(module.init, static_argnums=1)(KEY, 2, time, classes)
    apply = jax.jit(module.apply, static_argnums=1)
    params = variables["params"]
    expected = (jax.jit(TimeEmbedding(8, scale=10.0).apply)({"params": params["time"]}, time)
                + params["class"]["table"]["embedding"][classes])
    chex.assert_trees_all_close(apply(variables, 2, time, classes), expected, atol=1e-6)
    chex.assert_trees_all_close(apply(variables, 2, time)[1], expected[1], atol=1e-6)  # left out: no class
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
