"""Feature networks: what bytes become, what names a network, and batches that change nothing."""

import hashlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from PIL import Image

from jaxgen import losses
from jaxgen.conv import conv
from jaxgen.core.types import Variables
from jaxgen.data import Dataset
from jaxgen.evaluate import (
    FeatureNetwork,
    Features,
    Handling,
    classifier_features,
    distance_name,
    extract,
    extract_all,
    inception_features,
    vgg16_features,
)
from jaxgen.losses import ConvParams, LpipsParams
from jaxgen.models import Classifier
from jaxgen.nn import InceptionV3
from tests.helpers import compilations
from tests.helpers.parameters import filled

PLAIN = Handling("as they are", "none", "x", "as it is")
WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def noise(count, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def sums(weights, images):
    """Features that a line of NumPy says."""
    flat = images.astype(jnp.float32).reshape(len(images), -1)
    return Features(jnp.stack([flat.sum(axis=1), flat[:, 0]], axis=1) * weights, None)


def toy(apply=sums):
    return FeatureNetwork("toy", "0", PLAIN, Partial(apply, jnp.ones(2)))


def wanted(images):
    flat = images.reshape(len(images), -1).astype(np.float32)
    return np.stack([flat.sum(axis=1), flat[:, 0]], axis=1)


def inception_params():
    images = jax.ShapeDtypeStruct((1, 299, 299, 3), np.float32)
    return jax.eval_shape(InceptionV3().init, jax.random.key(0), images)["params"]


def vgg16():
    rng, convs, channels = np.random.default_rng(0), [], 3
    for width in WIDTHS:
        kernel = rng.normal(0, np.sqrt(2 / (9 * channels)), (3, 3, channels, width)).astype(np.float32)
        convs.append(ConvParams(kernel, np.full(width, 0.01, np.float32)))
        channels = width
    return LpipsParams(tuple(convs), tuple(np.ones(n, np.float32) for n in (64, 128, 256, 512, 512)))


@pytest.mark.parametrize("batch_size", [1, 3, 8, 16, 100])
def test_every_batch_size_gives_each_image_once_and_in_order(batch_size):
    images = noise(19, 4, 5, 3)
    found = extract(toy(), images, batch_size=batch_size)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted(images))


def test_images_come_from_arrays_sets_and_iterables():
    images = noise(11, 4, 4, 1)
    batches = (part for part in np.split(images, [1, 8]))
    for source in (images, jnp.asarray(images), Dataset.from_arrays(images), batches, [images]):
        np.testing.assert_array_equal(extract(toy(), source, batch_size=4), wanted(images))


def test_batches_that_the_devices_divide_are_divided():
    assert jax.local_device_count() == 8
    seen = []

    def watched(weights, images):
        shape = images.shape
        jax.debug.inspect_array_sharding(
            images, callback=lambda of: seen.append((len(of.device_set), of.shard_shape(shape)[0])))
        return sums(weights, images)

    for batch_size, wanted_shards in ((16, (8, 2)), (9, (1, 9))):
        extract(toy(watched), noise(20, 2, 2, 1), batch_size=batch_size)
        assert seen.pop() == wanted_shards


def test_one_program_serves_all_batches_weights_and_calls():
    images = noise(7, 3, 3, 1)
    extract(toy(), images, batch_size=4)  # the first call compiles
    other = toy()._replace(apply=Partial(sums, 3 * jnp.ones(2)))
    assert compilations.count(lambda: extract(other, images[:5], batch_size=4)) == 0
    np.testing.assert_array_equal(extract(other, images, batch_size=4), 3 * wanted(images))


def test_products_are_in_float32_on_accelerators_too():
    seen = []

    def watched(weights, images):
        seen.append(jax.config.jax_default_matmul_precision)
        return sums(weights, images)

    extract(toy(watched), noise(2, 2, 2, 1))
    before = jax.config.jax_default_matmul_precision
    assert seen == ["highest"] and before is None
    # What that name makes of this library's convolution where the processor is no CPU.
    with jax.default_matmul_precision(seen[0]):
        exported = jax.export.export(jax.jit(partial(conv, padding="SAME")), platforms=["cuda"])(
            jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2)))
    assert exported.mlir_module().count("precision HIGHEST") == 2  # of both operands


@pytest.mark.parametrize(("images", "message"), [
    (np.zeros((2, 4, 4, 3), np.float32), r"uint8 \[N, H, W, C\], got float32 \[2, 4, 4, 3\]: bytes of floats"),
    (np.zeros((4, 4, 3), np.uint8), r"got uint8 \[4, 4, 3\]"),
    (np.zeros((0, 4, 4, 3), np.uint8), "one image at least, got none"),
    ([], "one image at least, got none"),
])
def test_what_are_no_images_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        extract(toy(), images)


@pytest.mark.parametrize("resize", ["tensorflow", "clean", "pytorch"])
def test_inception_names_its_resizing_and_takes_any_size(resize):
    params = inception_params()
    network = inception_features(jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), params),
                                 resize=resize)
    result = jax.eval_shape(network.apply, jax.ShapeDtypeStruct((2, 33, 21, 1), np.uint8))
    assert result.features.shape == (2, 2048) and result.logits.shape == (2, 1008)
    assert distance_name(network) == "FID"
    values = "(2 x - 255) / 255" if resize == "pytorch" else "(x - 128) / 128"
    assert str(network.handling) == (f"bytes -> 299x299 ({resize}) -> {values}, grey repeated over three channels")
    with pytest.raises(ValueError, match="one channel or three"):
        jax.eval_shape(network.apply, jax.ShapeDtypeStruct((2, 33, 21, 4), np.uint8))


def test_an_unknown_rule_of_inception_is_refused():
    with pytest.raises(ValueError, match="unknown resize 'cleanfid'.*'clean'"):
        inception_features({}, resize="cleanfid")


@pytest.mark.parametrize("shape", [(40, 60, 1), (64, 70, 3)])
def test_vgg16s_are_means_of_its_last_stage_and_small_images_grow(shape):
    params, images = vgg16(), noise(2, *shape)
    network = vgg16_features(params)
    found = extract_all(network, images)
    grown = [np.stack([np.asarray(Image.fromarray(image[..., c].astype(np.float32), mode="F").resize(
        (96, 64), Image.Resampling.BICUBIC)).clip(0, 255) for c in range(shape[2])], axis=-1) for image in images]
    x = np.stack(grown) if shape[0] < 64 else images.astype(np.float32)
    x = np.broadcast_to(x / np.float32(127.5) - 1, (*x.shape[:3], 3))
    maps = np.asarray(jax.jit(losses.lpips_features)(params, x)[-1])
    np.testing.assert_allclose(found.features, maps.mean(axis=(1, 2)), rtol=1e-3, atol=1e-4)
    assert found.features.shape == (2, 512) and found.logits is None
    assert distance_name(network) == "FD-VGG16-LPIPS" and network.handling.size == "64 along a side at least"


def test_vgg16_is_told_from_alexnet():
    with pytest.raises(ValueError, match=r"VGG16, with 13 convolutions, got 5: load_lpips\(net='vgg'\) has them"):
        vgg16_features(LpipsParams(vgg16().convs[:5], ()))


def test_a_classifiers_are_means_of_its_last_maps_with_its_logits():
    model = Classifier.from_description(num_classes=3, channels=(4, 6))
    variables = Variables(filled(jax.eval_shape(partial(model.init, example_shape=(8, 8, 1)),
                                                jax.random.key(0)).params), {})
    network, images = classifier_features(model, variables), noise(19, 8, 8, 1)
    found = extract_all(network, images, batch_size=8)  # on all devices
    x = images / np.float32(127.5) - 1
    maps, logits = jax.jit(lambda v, x: (model.features(v, x)[-1], model.logits(v, x)))(variables, x)
    np.testing.assert_allclose(found.features, np.mean(maps, axis=(1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-4, atol=1e-5)
    assert distance_name(network) == "FD-classifier" and network.handling.filter == "none"
    with pytest.raises(ValueError, match="name='InceptionV3' would make its distance an FID"):
        classifier_features(model, variables, name="InceptionV3")


def test_the_digest_is_of_the_weights_alone():
    params = vgg16()
    first = vgg16_features(params).digest
    assert vgg16_features(jax.tree.map(jnp.asarray, params)).digest == first
    assert vgg16_features(params._replace(weights=())).digest == first  # which it does not use
    kernel = params.convs[3].kernel.copy()
    kernel[0, 0, 0, 0] += 1e-3
    convs = (*params.convs[:3], params.convs[3]._replace(kernel=kernel), *params.convs[4:])
    assert vgg16_features(params._replace(convs=convs)).digest != first
    by_hand = hashlib.sha256()
    for i, layer in enumerate(params.convs):
        for name, leaf in (("kernel", layer.kernel), ("bias", layer.bias)):
            by_hand.update(f"{i}/{name} float32 {leaf.shape}\n".encode() + leaf.tobytes())
    assert first == by_hand.hexdigest()
