"""LPIPS against its definition in NumPy and SciPy, with narrow networks of random weights."""

from itertools import combinations_with_replacement

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from jaxgen import losses, metrics
from jaxgen.losses import ConvParams, LpipsParams

# Convolutions (channels out, side, stride, padding), pooling windows, and "tap" after a ReLU that counts.
VGG = [
    (3, 3, 1, 1), (4, 3, 1, 1), "tap", 2, (3, 3, 1, 1), (5, 3, 1, 1), "tap", 2,
    (4, 3, 1, 1), (4, 3, 1, 1), (6, 3, 1, 1), "tap", 2, (4, 3, 1, 1), (5, 3, 1, 1), (7, 3, 1, 1), "tap", 2,
    (4, 3, 1, 1), (4, 3, 1, 1), (8, 3, 1, 1), "tap",
]
ALEX = [
    (4, 11, 4, 2), "tap", 3, (5, 5, 1, 2), "tap", 3, (6, 3, 1, 1), "tap", (4, 3, 1, 1), "tap", (5, 3, 1, 1), "tap",
]
LAYERS = {"vgg": VGG, "alex": ALEX}
SIZES = {"vgg": (18, 21), "alex": (31, 36)}

COUNT = 10  # images whose gradients are taken at once

# Compiled whole and once for all tests of a network and a number of images.
lpips = jax.jit(losses.lpips)
with_features = jax.jit(lambda params, x, y: (losses.lpips(params, x, y), losses.lpips_features(params, x)))
gradients = jax.jit(jax.grad(lambda params, x, y: losses.lpips(params, x, y).sum(), argnums=(1, 2)))
distance = jax.jit(losses.feature_distance, static_argnums=0)


def draw_params(net, *, bias=None, seed=0):
    rng = np.random.default_rng(seed)
    convs, weights, channels = [], [], 3
    for layer in LAYERS[net]:
        if layer == "tap":
            weights.append(rng.uniform(0.1, 1, channels).astype(np.float32))
        elif isinstance(layer, tuple):
            out, side = layer[:2]
            kernel = rng.normal(0, (2 / (channels * side**2)) ** 0.5, (side, side, channels, out))
            offset = rng.normal(0, 0.1, out) if bias is None else np.full(out, bias)
            convs.append(ConvParams(kernel.astype(np.float32), offset.astype(np.float32)))
            channels = out
    return LpipsParams(tuple(convs), tuple(weights))


def draw_images(net, count=4, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (2, count, *SIZES[net], 3)).astype(np.float32)


def reference(params, x, y, net):
    """[B] float64."""
    total = 0.0
    for f_x, f_y, w in zip(reference_features(params, x, net), reference_features(params, y, net), params.weights):
        u_x, u_y = (f / np.sqrt((f**2).sum(-1, keepdims=True) + 1e-10) for f in (f_x, f_y))
        total += ((u_x - u_y) ** 2 @ w.astype(np.float64)).mean((1, 2))
    return total


def reference_features(params, images, net):
    return [np.stack(taps) for taps in zip(*(reference_taps(params, image, net) for image in images))]


def reference_taps(params, image, net):
    h = (image.astype(np.float64) - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
    convs, taps = iter(params.convs), []
    for layer in LAYERS[net]:
        if layer == "tap":
            taps.append(h)
        elif isinstance(layer, int):
            windows = np.lib.stride_tricks.sliding_window_view(h, (layer, layer), (0, 1))
            h = windows[::2, ::2].max((-2, -1))
        else:
            _, _, stride, padding = layer
            conv, h = next(convs), np.pad(h, ((padding, padding), (padding, padding), (0, 0)))
            kernels = np.moveaxis(conv.kernel.astype(np.float64), -1, 0)
            maps = [signal.correlate(h, kernel, "valid", "direct")[::stride, ::stride, 0] for kernel in kernels]
            h = np.maximum(np.stack(maps, -1) + conv.bias, 0)
    return taps


@pytest.mark.parametrize("net", LAYERS)
def test_equals_the_definition(net):
    params, (x, y) = draw_params(net), draw_images(net)
    wanted = reference(params, x, y, net)
    assert wanted.shape == (4,) and wanted.min() > 0.01
    found, features = with_features(params, x, y)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for ours, theirs in zip(features, reference_features(params, x, net), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_taps_of_vgg_have_the_sides_of_the_paper():
    shapes = jax.eval_shape(losses.lpips_features, draw_params("vgg"), jnp.zeros((1, 64, 48, 3)))
    assert [tap.shape[1:3] for tap in shapes] == [(64, 48), (32, 24), (16, 12), (8, 6), (4, 3)]


@pytest.mark.parametrize("net", LAYERS)
def test_zero_for_equal_images_symmetric_and_positive(net):
    params, (x, y) = draw_params(net), draw_images(net)
    same, one, other = (np.asarray(with_features(params, *pair)[0]) for pair in ((x, x), (x, y), (y, x)))
    np.testing.assert_array_equal(same, np.zeros(4))
    assert np.all(one > 0)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("net", LAYERS)
def test_the_gradient_is_that_of_the_definition(net):
    params, (x, y) = draw_params(net), draw_images(net, count=COUNT)
    gradient = np.asarray(gradients(params, x, y)[1])[:1]
    x, y = x[:1], y[:1]
    direction = np.random.default_rng(2).normal(size=y.shape)
    h = 1e-6  # in float64, so small that hardly a ReLU or a maximum switches between
    slope = (reference(params, x, y + h * direction, net) - reference(params, x, y - h * direction, net)) / (2 * h)
    np.testing.assert_allclose(np.sum(gradient * direction), slope[0], rtol=1e-3)


@pytest.mark.parametrize("bias", [None, -100.0, 0.0])  # drawn; no feature anywhere; none at the images' mean
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("net", LAYERS)
def test_gradients_are_finite_where_features_vanish(net, dtype, bias):
    params, (noise, _) = draw_params(net, bias=bias), draw_images(net, count=1)
    mean = np.broadcast_to(np.float32([-0.030, -0.088, -0.188]), noise.shape)
    images = np.concatenate([noise, mean, np.ones_like(noise), -np.ones_like(noise)]).astype(dtype)
    every_pair = [images[list(which)] for which in zip(*combinations_with_replacement(range(4), 2))]
    assert len(every_pair[0]) == COUNT
    for g in jax.device_get(gradients(params, *every_pair)):
        assert g.dtype == dtype
        assert np.isfinite(np.float32(g)).all(axis=(1, 2, 3)).tolist() == [True] * COUNT


def test_the_parameters_decide_the_networks_dtype():
    params, (x, y) = draw_params("vgg"), draw_images("vgg")
    half_x, half_y = (image.astype(jnp.bfloat16) for image in (x, y))
    found = lpips(params, half_x, half_y)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, reference(params, np.asarray(half_x), np.asarray(half_y), "vgg"), rtol=1e-5)

    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    taps = jax.eval_shape(losses.lpips_features, half, x)
    assert {tap.dtype for tap in taps} == {jnp.dtype(jnp.bfloat16)}
    found = lpips(half, x, y)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, reference(params, x, y, "vgg"), rtol=0.05)


def test_sums_over_features_of_bfloat16_are_those_of_float32():
    a, b = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 512)).astype(jnp.bfloat16)
    found = distance(lambda f: f, a, b)
    wide = np.asarray(a, np.float64), np.asarray(b, np.float64)
    u, v = (f / np.linalg.norm(f, axis=-1, keepdims=True) for f in wide)
    np.testing.assert_allclose(found, ((u - v) ** 2).sum(-1).mean((1, 2)), rtol=1e-5)


@pytest.mark.parametrize("net", LAYERS)
def test_each_example_is_by_itself_under_jit_and_vmap(net):
    params, (x, y) = draw_params(net), draw_images(net)
    wanted = reference(params, x, y, net)

    def total(x, y):
        values = losses.lpips(params, x, y)
        return values.sum(), values

    pairs = (x.reshape(2, 2, *x.shape[1:]), y.reshape(2, 2, *y.shape[1:]))
    (_, stacked), slopes = jax.jit(jax.vmap(jax.value_and_grad(total, has_aux=True)))(*pairs)
    np.testing.assert_allclose(stacked, wanted.reshape(2, 2), rtol=1e-5)
    # In a larger batch, once more and in reverse.
    many = [np.concatenate([image, np.flip(image, 0), image[:2]]) for image in (x, y)]
    among_others = np.asarray(gradients(params, *many)[0])
    np.testing.assert_allclose(among_others[:4], np.asarray(slopes).reshape(x.shape), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(among_others[7:3:-1], among_others[:4], rtol=1e-3, atol=1e-6)


def test_features_of_any_network():
    """A small classifier of grey images: a map of features and the hidden layer."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (2, 3, 6, 6, 1)).astype(np.float32)
    first, hidden = (rng.normal(size=shape).astype(np.float32) for shape in ((1, 4), (144, 5)))

    def classifier(images):
        maps = jnp.tanh(images @ first)
        return maps, maps.reshape(images.shape[0], -1) @ hidden

    def unit(f):
        return f / np.linalg.norm(f.astype(np.float64), axis=-1, keepdims=True)

    features = jax.device_get([jax.jit(classifier)(images) for images in (x, y)])
    squares = [(unit(a) - unit(b)) ** 2 for a, b in zip(*features, strict=True)]
    wanted = squares[0].sum(-1).mean((1, 2)) + squares[1].sum(-1)
    np.testing.assert_allclose(distance(classifier, x, y), wanted, rtol=1e-4)
    np.testing.assert_allclose(distance(lambda images: classifier(images)[1], x, y), squares[1].sum(-1), rtol=1e-4)
    weights = [np.float32([1, 0, 2, 0.5]), np.float32([0, 3, 1, 1, 0])]
    wanted = (squares[0] @ weights[0]).mean((1, 2)) + squares[1] @ weights[1]
    np.testing.assert_allclose(distance(classifier, x, y, weights=weights), wanted, rtol=1e-4)


def test_bad_arguments_are_named():
    vgg, alex = draw_params("vgg"), draw_params("alex")
    x, y = draw_images("vgg")
    with pytest.raises(ValueError, match=r"x and y must have one shape, got \(4, 18, 21, 3\) and \(4, 17, 21, 3\)"):
        lpips(vgg, x, y[:, 1:])
    with pytest.raises(ValueError, match=r"must be \[B, H, W, 3\], got \(4, 18, 21, 1\); grey images"):
        lpips(vgg, x[..., :1], y[..., :1])
    with pytest.raises(ValueError, match="x must hold floating-point .* got dtype uint8: .*to_float"):
        lpips(vgg, *np.zeros((2, *x.shape), np.uint8))
    for params, smallest in ((vgg, 16), (alex, 31)):
        jax.eval_shape(losses.lpips, params, *np.zeros((2, 1, smallest, smallest, 3), np.float32))
        with pytest.raises(ValueError, match=rf"images of {smallest - 1}x40 .* {smallest}x{smallest} at least"):
            lpips(params, *np.zeros((2, 1, smallest - 1, 40, 3), np.float32))
    with pytest.raises(ValueError, match="VGG16 .* or AlexNet .* got 4 convolutions and 5 weights"):
        lpips(alex._replace(convs=alex.convs[:4]), x, y)
    with pytest.raises(ValueError, match=r"weights must .* \[\(4,\), .*; got \[\(3,\), "):
        lpips(vgg._replace(weights=(np.ones(3), *vgg.weights[1:])), x, y)
    with pytest.raises(ValueError, match=r"features must give .* \[4, ..., C\] .* got \[\(4,\)\]"):
        losses.feature_distance(lambda images: images.mean((1, 2, 3)), x, y)


def test_the_metric_is_the_loss():
    assert metrics.lpips is losses.lpips
