import numpy as np
import pytest

from jaxgen.data import Dataset, batches, crop, flip


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)


def test_flip_mirrors_columns_where_the_mask_is_true_and_nowhere_else(images):
    mask = np.array([True, False, True, True, False, False])
    flipped = flip(images, mask)
    for b in range(6):
        for w in range(7):
            expected = images[b, :, 6 - w] if mask[b] else images[b, :, w]
            np.testing.assert_array_equal(flipped[b, :, w], expected)


def test_crop_equals_a_loop_over_padded_images(images):
    offsets = np.random.default_rng(1).integers(0, 5, (6, 2))
    cropped = crop(images, offsets, 2)
    for b, (dy, dx) in enumerate(offsets):
        padded = np.stack([np.pad(images[b, :, :, c], 2, mode="reflect") for c in range(3)], axis=-1)
        np.testing.assert_array_equal(cropped[b], padded[dy : dy + 5, dx : dx + 7])


def test_a_crop_in_the_middle_changes_nothing(images):
    np.testing.assert_array_equal(crop(images, np.full((6, 2), 2), 2), images)


def test_batches_are_flipped_half_of_the_time_and_cropped_evenly():
    # Every pixel holds its own place, so what happened to an image can be read off it.
    rows, columns = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    image = np.stack([rows, columns], axis=-1).astype(np.uint8)
    dataset = Dataset.from_arrays(np.tile(image, (600, 1, 1, 1)))
    batch = next(batches(dataset, batch_size=600, flip=True, crop=2))["image"].astype(int)
    mirrored = batch[:, 0, 4, 1] < batch[:, 0, 3, 1]
    assert 0.42 < mirrored.mean() < 0.58  # 4 standard deviations
    # Row 4 of the result is row 4 + dy - 2 of the image, wherever reflection does not reach.
    shifts, counts = np.unique(batch[:, 4, 4, 0] - 4, return_counts=True)
    assert shifts.tolist() == [-2, -1, 0, 1, 2]
    assert counts.min() > 600 / 5 - 45


def test_flip_and_crop_are_independent_draws_for_each_image_and_each_epoch():
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    dataset = Dataset.from_arrays(np.tile(image, (64, 1, 1, 1)))
    stream = batches(dataset, batch_size=64, shuffle=False, flip=True, crop=1)
    first, second = next(stream)["image"], next(stream)["image"]
    assert len(np.unique(first, axis=0)) > 9
    assert not np.array_equal(first, second)
