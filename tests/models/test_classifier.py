"""The classifier against its definition in NumPy and SciPy, and the distance that its features make."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from jaxgen import losses, models
from jaxgen.core.types import Variables
from tests.helpers.parameters import compiled

CHANNELS, CONVS, SHAPE = (3, 4, 5), 2, (13, 11, 2)


@pytest.fixture(scope="module")
def model():
    return compiled(models.build("classifier", num_classes=6, channels=CHANNELS, convs=CONVS))


@pytest.fixture(scope="module")
def variables(model):
    """Biases included, which start at 0."""
    found = jax.eval_shape(lambda: model.init(jax.random.key(0), SHAPE))
    assert found.state == {}
    leaves, tree = jax.tree.flatten(found.params)
    rng = np.random.default_rng(0)
    return Variables(tree.unflatten([rng.normal(0, 0.4, leaf.shape).astype(np.float32) for leaf in leaves]), {})


def draw(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, *SHAPE)).astype(np.float32)


def reference(params, image):
    """(maps, logits) of one image, in float64."""
    h, maps = image.astype(np.float64), []
    for level in range(len(CHANNELS)):
        if level:
            height, width = (size // 2 * 2 for size in h.shape[:2])
            h = h[:height, :width].reshape(height // 2, 2, width // 2, 2, -1).max((1, 3))
        for i in range(CONVS):
            conv = params[f"levels_{level}_{i}"]
            kernels = np.moveaxis(conv["kernel"].astype(np.float64), -1, 0)
            padded = np.pad(h, ((1, 1), (1, 1), (0, 0)))
            h = np.stack([signal.correlate(padded, kernel, "valid", "direct")[..., 0] for kernel in kernels], -1)
            h = np.maximum(h + conv["bias"], 0)
        maps.append(h)
    return maps, h.ravel() @ params["head"]["kernel"].astype(np.float64) + params["head"]["bias"]


def test_equals_the_definition(model, variables):
    images = draw(2)
    maps, logits = zip(*(reference(variables.params, image) for image in images))
    found = model.features(variables, images)
    assert [tap.shape for tap in found] == [(2, 13, 11, 3), (2, 6, 5, 4), (2, 3, 2, 5)]
    for ours, theirs in zip(found, zip(*maps), strict=True):
        np.testing.assert_allclose(ours, np.stack(theirs), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.logits(variables, images), np.stack(logits), rtol=1e-4, atol=1e-5)
    assert model.logits(variables, images).shape == (2, model.num_classes)


def test_the_distance_of_its_features(model, variables):
    x, y = draw(2), draw(2, seed=1)
    total = 0.0
    for a, b in zip(*(zip(*(reference(variables.params, image)[0] for image in images)) for images in (x, y))):
        u, v = (np.stack(f) / np.sqrt((np.stack(f) ** 2).sum(-1, keepdims=True) + 1e-10) for f in (a, b))
        total += ((u - v) ** 2).sum(-1).mean((1, 2))
    distance = jax.jit(partial(losses.feature_distance, partial(model.features, variables)))
    np.testing.assert_allclose(distance(x, y), total, rtol=1e-4)
    np.testing.assert_array_equal(distance(x, x), np.zeros(2))


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_gradients_are_finite_at_equal_and_constant_images(dtype):
    model = models.build("classifier", num_classes=6, channels=CHANNELS, dtype=dtype)
    variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), SHAPE)
    assert jax.eval_shape(model.features, variables, draw(1))[0].dtype == jnp.dtype(dtype or "float32")
    assert jax.eval_shape(model.logits, variables, draw(1)).dtype == jnp.float32
    distance = partial(losses.feature_distance, partial(model.features, variables))
    gradient = jax.jit(jax.grad(lambda x, y: distance(x, y).sum(), argnums=(0, 1)))
    examples = [draw(1), np.zeros((1, *SHAPE), np.float32), -np.ones((1, *SHAPE), np.float32)]
    for x in examples:
        for y in examples:
            assert all(np.isfinite(g).all() for g in gradient(x, y))


def test_each_image_is_by_itself_under_jit_and_vmap(model, variables):
    images = draw(3)
    wanted = model.logits(variables, images)
    for image, logits in zip(images, wanted, strict=True):
        np.testing.assert_allclose(model.logits(variables, image[None])[0], logits, rtol=1e-5, atol=1e-6)
    alone = jax.jit(jax.vmap(lambda image: model.logits(variables, image[None])[0]))(images)
    np.testing.assert_allclose(alone, wanted, rtol=1e-5, atol=1e-6)


def test_bad_arguments_are_named(model):
    with pytest.raises(ValueError, match=r"images of 3x9 are too small for 3 levels: use at least 4x4"):
        model.init(jax.random.key(0), (3, 9, 1))
    with pytest.raises(ValueError, match=r"unknown argument of model 'classifier' 'chanels'.*'channels'"):
        models.build("classifier", num_classes=2, chanels=(3,))
    with pytest.raises(ValueError, match="needs 'num_classes'"):
        models.build("classifier")
