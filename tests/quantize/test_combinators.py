import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxgen.core.types import Variables
from jaxgen.quantize import fsq, grouped, gumbel, projected, residual, vq
from tests.quantize.inputs import normal, run, start

KEY = jax.random.key(0)
Z = normal(1, 10, 4)


def level(variables, i):
    return jax.tree.map(lambda x: x[i], variables)


def greedy_residuals(codebooks, z):
    """Indices, sums after each level: level by level in float64."""
    left, total, indices, sums = np.float64(z), 0, [], []
    for codebook in np.float64(codebooks):
        chosen = cdist(left, codebook).argmin(axis=1)
        total = total + codebook[chosen]
        left = np.float64(z) - total
        indices.append(chosen)
        sums.append(total)
    return np.stack(indices, axis=-1), np.stack(sums)


def test_residual_levels_quantize_what_is_left_and_each_commits_the_vector_itself():
    quantizer = residual(vq(8, commitment=0.3), 3)
    variables = start(quantizer, 4)
    indices, sums = greedy_residuals(variables.params["codebook"], Z)

    def commitment(z):
        output, _ = quantizer.apply(variables, z)
        return jnp.sum(output.losses["commitment"]), output

    gradient, output = run(jax.grad(commitment, has_aux=True), Z)
    np.testing.assert_array_equal(output.indices, indices)
    np.testing.assert_allclose(output.quantized, sums[-1], rtol=1e-5, atol=1e-6)
    expected = 0.3 * np.mean((np.float64(Z) - sums) ** 2, axis=(0, -1))
    np.testing.assert_allclose(output.losses["commitment"], expected, rtol=1e-5)
    expected = 0.3 * np.mean(2 / 4 * (np.float64(Z) - sums), axis=0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 3])
def test_straight_through_levels_hand_the_gradient_on_unchanged(depth):
    quantizer = residual(vq(8), depth)
    variables = start(quantizer, 4)
    jacobian = jax.jit(jax.jacobian(lambda z: quantizer.apply(variables, z)[0].quantized))(Z[0])
    np.testing.assert_array_equal(jacobian, np.eye(4))


def test_rotating_levels_compose_by_the_chain_rule():
    inner = vq(8, estimator="rotation")
    quantizer = residual(inner, 2)
    variables = start(quantizer, 4)
    jacobian = jax.jit(jax.jacobian(lambda z: quantizer.apply(variables, z)[0].quantized))(Z[0])

    def single(i, z):
        return inner.apply(level(variables, i), z)[0].quantized

    first = jax.jit(jax.jacobian(lambda z: single(0, z)))(Z[0])
    second = jax.jit(lambda z: jax.jacobian(lambda z: single(1, z))(z - single(0, z)))(Z[0])
    np.testing.assert_allclose(jacobian, first + second @ (np.eye(4) - first), rtol=1e-4, atol=1e-5)


def test_residual_gumbel_levels_train_their_own_parameters():
    quantizer = residual(gumbel(5), 2)
    variables = start(quantizer, 4)

    def loss(params):
        output, _ = quantizer.apply(Variables(params, variables.state), Z, train=True, key=KEY)
        return jnp.sum(jnp.sin(output.quantized))

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(variables.params)):
        assert all(np.abs(part).max() > 0 for part in leaf)


def test_a_residual_level_moves_by_its_own_residuals():
    inner = vq(8, ema_decay=0.5)
    quantizer = residual(inner, 2)
    variables = start(quantizer, 4)
    output, state = run(partial(quantizer.apply, train=True), variables, Z)
    train = jax.jit(partial(inner.apply, train=True))
    first, first_state = train(level(variables, 0), Z)
    _, second_state = train(level(variables, 1), Z - first.quantized)
    for actual, expected in zip(jax.tree.leaves(state), jax.tree.leaves((first_state, second_state)), strict=False):
        assert actual.shape[1:] == expected.shape
    np.testing.assert_allclose(state["codebook"][0], first_state["codebook"], rtol=1e-6)
    np.testing.assert_allclose(state["codebook"][1], second_state["codebook"], rtol=1e-5, atol=1e-6)
    assert output.indices.shape == (10, 2)


def test_groups_are_separate_quantizers_side_by_side():
    inner = vq(8, ema_decay=0.5)
    quantizer = grouped(inner, 2)
    variables = start(quantizer, 4)
    output, state = run(partial(quantizer.apply, train=True), variables, Z)
    train = jax.jit(partial(inner.apply, train=True))
    parts = jax.device_get([train(level(variables, i), Z[:, 2 * i : 2 * i + 2]) for i in range(2)])
    np.testing.assert_array_equal(output.quantized, np.concatenate([p.quantized for p, _ in parts], axis=-1))
    np.testing.assert_array_equal(output.indices, np.stack([p.indices for p, _ in parts], axis=-1))
    expected = np.mean([p.losses["commitment"] for p, _ in parts], axis=0)
    np.testing.assert_allclose(output.losses["commitment"], expected, rtol=1e-5)
    for i in range(2):
        np.testing.assert_allclose(state["codebook"][i], parts[i][1]["codebook"], rtol=1e-6)


def test_projection_is_a_linear_map_on_either_side():
    inner = fsq([5, 5])
    quantizer = projected(inner, 2)
    variables = start(quantizer, 4)
    params = variables.params
    params["project_in"]["bias"], params["project_out"]["bias"] = np.float32([0.1, -0.2]), np.float32([0, 1, 2, 3])
    low = np.asarray(Z) @ np.asarray(params["project_in"]["kernel"]) + np.float32([0.1, -0.2])
    codes, _ = run(inner.apply, Variables({}, {}), np.float32(low))
    output, _ = run(quantizer.apply, variables, Z)
    np.testing.assert_array_equal(output.indices, codes.indices)
    expected = np.asarray(codes.quantized) @ np.asarray(params["project_out"]["kernel"]) + np.arange(4)
    np.testing.assert_allclose(output.quantized, expected, rtol=1e-5, atol=1e-6)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="depth must be an integer of at least 1, got 0"):
        residual(vq(4), 0)
    with pytest.raises(ValueError, match="groups=3 does not divide the 4 components"):
        grouped(vq(4), 3).init(KEY, 4)
    for quantizer in (residual(vq(4), 2), grouped(vq(4), 2)):
        with pytest.raises(ValueError, match=r"indices has shape \(5, 3\)"):
            quantizer.lookup(start(quantizer, 4), np.zeros((5, 3), np.int32))


def test_importing_the_quantizers_loads_neither_flax_nor_training_nor_data_libraries():
    heavy = ("flax", "optax", "orbax", "grain", "tensorflow", "tensorflow_datasets", "torch")
    code = f"import sys, jaxgen.quantize; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "[]"
