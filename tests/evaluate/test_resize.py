"""The rules of resizing against Pillow, a loop over TensorFlow's kernel, and what each of them keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen.evaluate.resize import RULES, resize

run = jax.jit(resize, static_argnums=(1, 2))


def noise(height, width, channels=3):
    return np.random.default_rng(height).integers(0, 256, (2, height, width, channels), np.uint8)


@pytest.mark.parametrize("size", [(8, 13), (32, 32), (30, 23), (100, 71)])
def test_clean_is_pillows_in_floating_point(size):
    images = noise(*size)
    found = np.asarray(run(images, (31, 29), "clean"))
    for image, result in zip(images, found):
        for channel in range(3):
            pillow = Image.fromarray(image[..., channel].astype(np.float32), mode="F")
            wanted = np.asarray(pillow.resize((29, 31), Image.Resampling.BICUBIC)).clip(0, 255)
            np.testing.assert_allclose(result[..., channel], wanted, atol=1e-3)
    if size[0] < 31:
        assert found.min() == 0 and found.max() == 255  # it overshoots on noise, and is clipped


@pytest.mark.parametrize("size", [(8, 13), (40, 23)])
def test_tensorflows_places_are_multiples_of_the_ratio(size):
    image, (height, width) = noise(*size, 1)[0, ..., 0].astype(np.float64), (31, 29)
    found = np.asarray(run(noise(*size, 1), (height, width), "tensorflow"))[0, ..., 0]
    for i, j in ((0, 0), (1, 3), (13, 17), (30, 28)):
        y, x = i * size[0] / height, j * size[1] / width
        top, left = int(y), int(x)
        bottom, right = min(top + 1, size[0] - 1), min(left + 1, size[1] - 1)
        upper = image[top, left] + (image[top, right] - image[top, left]) * (x - left)
        lower = image[bottom, left] + (image[bottom, right] - image[bottom, left]) * (x - left)
        assert found[i, j] == pytest.approx(upper + (lower - upper) * (y - top), abs=1e-3)


@pytest.mark.parametrize("rule", RULES)
def test_an_image_of_the_size_stays_and_a_plain_one_stays_plain(rule):
    images = noise(9, 7)
    np.testing.assert_array_equal(run(images, (9, 7), rule), images)
    np.testing.assert_allclose(run(np.full((1, 50, 6, 1), 200, np.uint8), (9, 7), rule), 200, rtol=1e-6)


def test_only_clean_averages_on_the_way_down():
    stripes = np.tile(np.array([0, 255], np.uint8), 32)[None, None, :, None]
    plain = {rule: float(jnp.ptp(run(stripes, (1, 16), rule))) for rule in RULES}
    assert plain["tensorflow"] == 0 and plain["pytorch"] == 0  # each fourth pixel, or the mean of the middle two
    middle = np.asarray(run(stripes, (1, 16), "clean"))[0, 0, 2:-2, 0]
    np.testing.assert_allclose(middle, 127.5, atol=1)
    assert float(run(stripes, (1, 16), "tensorflow").mean()) == 0  # the bright stripes are gone


def test_an_unknown_rule_names_the_nearest():
    with pytest.raises(ValueError, match="unknown rule 'tensorflow1': .*Did you mean 'tensorflow'"):
        resize(noise(4, 4), (8, 8), "tensorflow1")
    with pytest.raises(ValueError, match=r"size\[1\] must be an integer of at least 1, got 0"):
        resize(noise(4, 4), (8, 0), "clean")
