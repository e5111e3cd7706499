"""Inception's shapes, its pooling and its normalization; all of its outputs are compared in tests/parity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn import InceptionV3
from jaxgen.nn.inception import BLOCKS, EPS, POOLINGS, ConvNorm, Mixed
from tests.helpers.parameters import filled

KEY = jax.random.key(0)


def drawn(module, *inputs):
    """Variables whose variances are positive, as those of real statistics are."""
    variables = filled(jax.eval_shape(module.init, KEY, *inputs))
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.abs(leaf) + 0.5 if path[-1].key == "var" else leaf, variables)


def noise(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def test_shapes_and_the_number_of_parameters():
    images = jax.ShapeDtypeStruct((2, 299, 299, 3), np.float32)
    result, variables = jax.eval_shape(InceptionV3().init_with_output, KEY, images)
    assert [leaf.shape for leaf in result] == [(2, n) for n in (64, 192, 768, 2048, 1008, 1008)]
    assert {leaf.dtype for leaf in [*result, *jax.tree.leaves(variables)]} == {np.dtype(np.float32)}
    # The paper's network has 21,785,568 in convolutions and normalization, here with a mean and a variance for each
    # of its 17,216 normalized channels, and 1008 classes.
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert count == 21_785_568 + 2 * 17_216 + 1008 * 2048 + 1008


def test_the_smallest_images_pass_and_each_alone_gives_the_same():
    model, x = InceptionV3(), noise(2, 75, 75, 3)
    variables = drawn(model, x)
    apply = jax.jit(model.apply)
    together, again = apply(variables, x), apply(variables, x)
    swapped = apply(variables, x[::-1])
    for found, same, other in zip(together, again, swapped, strict=True):
        np.testing.assert_array_equal(found, same)
        np.testing.assert_allclose(found, other[::-1], rtol=1e-4, atol=1e-4)
        assert np.isfinite(found).all() and np.abs(found[0] - found[1]).max() > 1e-3
    bias = variables["params"]["fc"]["bias"]
    np.testing.assert_allclose(together.logits - together.logits_unbiased, np.stack([bias, bias]), atol=1e-5)
    wanted = np.float64(together.pool2048) @ np.float64(variables["params"]["fc"]["kernel"])
    np.testing.assert_allclose(together.logits_unbiased, wanted, rtol=1e-4, atol=1e-4)


def test_average_pooling_leaves_the_padding_out():
    x = noise(1, 5, 4, 2)
    wanted = np.empty_like(x)
    for i in range(5):
        for j in range(4):
            window = x[0, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            wanted[0, i, j] = window.mean(axis=(0, 1))
    np.testing.assert_allclose(POOLINGS["average"](x), wanted, rtol=1e-5, atol=1e-6)


def test_the_last_block_pools_by_the_maximum_and_the_others_of_its_kind_by_the_mean():
    pooling = {name: block[1] for name, block in BLOCKS.items()}
    assert [name for name, kind in pooling.items() if kind == "maximum"] == ["Mixed_7c"]
    assert [name for name, kind in pooling.items() if kind == "reduce"] == ["Mixed_6a", "Mixed_7a"]
    x = -np.abs(noise(1, 4, 4, 3)) - 1
    found = np.asarray(POOLINGS["maximum"](x))
    wanted = [[x[0, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max(axis=(0, 1)) for j in range(4)] for i in range(4)]
    np.testing.assert_array_equal(found[0], wanted)  # all below 0, which the padding therefore is not


def test_branches_are_joined_in_order_and_that_of_the_pooling_is_last():
    x = noise(1, 6, 6, 5)
    model = Mixed(*BLOCKS["Mixed_7b"])
    variables = drawn(model, x)
    found = np.asarray(jax.jit(model.apply)(variables, x))
    assert found.shape == (1, 6, 6, 320 + 4 * 384 + 192)
    alone = jax.jit(ConvNorm(192, (1, 1)).apply)
    pooled = alone({"params": variables["params"]["branch_pool"]}, POOLINGS["average"](x))
    np.testing.assert_allclose(found[..., -192:], pooled, rtol=1e-4, atol=1e-5)
    one = jax.jit(ConvNorm(320, (1, 1)).apply)({"params": variables["params"]["branch1x1"]}, x)
    np.testing.assert_allclose(found[..., :320], one, rtol=1e-4, atol=1e-5)


def test_normalization_is_by_the_given_statistics():
    x = noise(1, 3, 3, 4)
    model = ConvNorm(6, (1, 1))
    variables = drawn(model, x)
    norm = {name: np.float64(leaf) for name, leaf in variables["params"]["bn"].items()}
    y = np.float64(x) @ np.float64(variables["params"]["conv"]["kernel"])[0, 0]
    y = (y - norm["mean"]) / np.sqrt(norm["var"] + EPS) * norm["scale"] + norm["bias"]
    np.testing.assert_allclose(jax.jit(model.apply)(variables, x), np.maximum(y, 0), rtol=1e-4, atol=1e-5)
    assert EPS == 1e-3


def test_half_precision_is_computed_in_float32():
    images = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.bfloat16)
    result, variables = jax.eval_shape(InceptionV3().init_with_output, KEY, images)
    assert {leaf.dtype for leaf in [*result, *jax.tree.leaves(variables)]} == {np.dtype(np.float32)}


@pytest.mark.parametrize(("images", "message"), [
    (noise(1, 74, 99, 3), r"no smaller than 75 along a side, got \(1, 74, 99, 3\)"),
    (noise(1, 99, 99, 1), r"\[B, 299, 299, 3\].*got \(1, 99, 99, 1\)"),
    (np.zeros((1, 99, 99, 3), np.uint8), "floating-point"),
])
def test_images_that_it_is_not_for_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(InceptionV3().init, KEY, images)
