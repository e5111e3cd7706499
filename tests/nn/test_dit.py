import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.dit import DiT
from jaxgen.nn.embeddings import grid_positions

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 6, 3)).astype(np.float32)
INPUTS = {
    "time": np.array([0.2, 0.9], np.float32),
    "classes": np.array([1, 3]),
    "context": RNG.normal(size=(2, 3, 5)).astype(np.float32),
    "context_mask": np.array([[True, True, False], [True, False, False]]),
}
tiny = functools.partial(DiT, features=16, depth=2, heads=2, num_classes=3, time_scale=1000.0)


def random(shapes):
    """Variables of these shapes; no modulation, bias or output is what an initialiser gives."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: (0.3 * rng.normal(size=leaf.shape)).astype(leaf.dtype), shapes)


@functools.cache
def network():
    """(random variables, compiled apply to NumPy arrays) of the tiny network with everything on."""
    apply = jax.jit(tiny().apply)
    variables = random(jax.eval_shape(functools.partial(tiny().init, KEY), X, **INPUTS))
    return variables, lambda *args, **kwargs: np.asarray(apply(*args, **kwargs))


def test_a_new_network_gives_zero():
    @jax.jit
    def run(key):  # the draws of kernels that nothing is seen of need no program
        y, variables = tiny(depth=1).init_with_output(key, X, INPUTS["time"])
        return y, variables["params"]["block0"]["modulation"]

    y, gates = jax.device_get(run(jax.random.key(0, impl="rbg")))  # whose draws compile faster than the default's
    chex.assert_trees_all_equal(y, np.zeros_like(X))
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(gates))


@pytest.mark.parametrize(("patch_size", "out_channels"), [(2, None), (1, 4)])
def test_with_a_block_that_is_the_identity_each_patch_is_a_linear_map_of_itself(patch_size, out_channels):
    module = tiny(patch_size=patch_size, out_channels=out_channels, depth=1)
    time = INPUTS["time"]
    p = jax.tree.map(np.asarray, random(jax.eval_shape(module.init, KEY, X, time))["params"])
    p["block0"]["modulation"] = jax.tree.map(np.zeros_like, p["block0"]["modulation"])
    p["out"]["modulation"]["kernel"] = np.zeros((16, 32), np.float32)
    shift, scale = np.split(p["out"]["modulation"]["bias"], 2)
    positions = np.asarray(jax.jit(lambda: grid_positions(4 // patch_size, 6 // patch_size, 16))())
    expected = np.zeros((2, 4, 6, out_channels or 3), np.float32)
    for b in range(2):
        for n in range(positions.shape[0]):
            row, column = (patch_size * i for i in divmod(n, 6 // patch_size))
            patch = X[b, row:row + patch_size, column:column + patch_size].reshape(-1)
            token = patch @ p["patches"]["kernel"] + p["patches"]["bias"] + positions[n]
            token = (token - token.mean()) / np.sqrt(token.var() + 1e-6) * (1 + scale) + shift
            pixels = token @ p["out"]["dense"]["kernel"] + p["out"]["dense"]["bias"]
            expected[b, row:row + patch_size, column:column + patch_size] = pixels.reshape(patch_size, patch_size, -1)
    chex.assert_trees_all_close(jax.jit(module.apply)({"params": p}, X, time), expected, atol=2e-5)


def test_conditions_reach_their_own_image_only_and_hidden_context_reaches_none():
    variables, apply = network()
    y = apply(variables, X, **INPUTS)
    other = {"time": [0.2, 0.85], "classes": [1, 0], "context": INPUTS["context"] + np.array([0, 1])[:, None, None],
             "context_mask": [[True, True, False], [True, True, False]]}
    for name, value in other.items():
        changed = apply(variables, X, **{**INPUTS, name: np.asarray(value, INPUTS[name].dtype)})
        chex.assert_trees_all_close(changed[0], y[0], atol=1e-5)
        assert np.abs(changed[1] - y[1]).max() > 1e-3, name
    hidden = np.where(INPUTS["context_mask"][..., None], INPUTS["context"], 9.0)
    chex.assert_trees_all_close(apply(variables, X, **{**INPUTS, "context": hidden}), y, atol=1e-5)

    def without_class(x, inputs):
        inputs = {name: value[None] for name, value in inputs.items() if name != "classes"}
        return tiny().apply(variables, x[None], **inputs)[0]

    no_class = apply(variables, X, **{**INPUTS, "classes": np.array([3, 3])})
    chex.assert_trees_all_close(jax.jit(jax.vmap(without_class))(X, INPUTS), no_class, atol=1e-4)


def test_rematerialised_blocks_give_the_same_image():
    variables, apply = network()
    remat = functools.partial(tiny(remat=True).apply, variables, X, **INPUTS)
    chex.assert_trees_all_close(jax.jit(remat)(), apply(variables, X, **INPUTS), atol=1e-4)
    assert "remat" in str(jax.make_jaxpr(remat)())


def test_bfloat16_keeps_float32_parameters_and_agrees_with_float32():
    variables, apply = network()
    half = tiny(dtype=jnp.bfloat16)
    shapes = jax.eval_shape(functools.partial(half.init, KEY), X, **INPUTS)
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, shapes)
    y, reference = np.asarray(jax.jit(half.apply)(variables, X, **INPUTS)), apply(variables, X, **INPUTS)
    assert y.dtype == jnp.float32
    assert np.abs(y - reference).max() < 0.05 * np.abs(reference).max()


def test_bad_arguments_are_named():
    variables, _ = network()
    time, classes = INPUTS["time"], INPUTS["classes"]
    with pytest.raises(ValueError, match="patch size 4 must divide .* 4x6"):
        jax.eval_shape(tiny(patch_size=4).init, KEY, X, time)
    with pytest.raises(ValueError, match="classes are given but num_classes=0"):
        jax.eval_shape(tiny(num_classes=0).init, KEY, X, time, classes=classes)
    with pytest.raises(ValueError, match="context is None, and was not so at init"):
        jax.eval_shape(tiny().apply, variables, X, time, classes=classes)
    without = jax.eval_shape(tiny().init, KEY, X, time)
    with pytest.raises(ValueError, match="context is given, and was not so at init"):
        jax.eval_shape(tiny().apply, without, X, time, context=INPUTS["context"])
    with pytest.raises(ValueError, match=r"time must be a vector \[B\], got shape \(\)"):
        jax.eval_shape(tiny().init, KEY, X, jnp.float32(0.5))
    with pytest.raises(ValueError, match="got dim=18"):
        jax.eval_shape(tiny(features=18).init, KEY, X, time)
