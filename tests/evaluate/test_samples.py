"""`judge` next to loops over pairs of images."""

import numpy as np
import pytest

from jaxgen import data, evaluate
from jaxgen.evaluate import samples
from jaxgen.evaluate.samples import distance_within_class


def squares(count, seed, name="squares"):
    """Images of 8x8 with a bright square at a place of the class, and noise."""
    rng, labels = np.random.default_rng(seed), np.arange(count, dtype=np.int32) % 3
    images = rng.integers(0, 40, (count, 8, 8, 1), np.uint8)
    for image, label in zip(images, labels):
        image[2 * label : 2 * label + 3, 1:4] += 180
    return images, labels, data.Dataset.from_arrays(images, labels, name=name, split="all")


@pytest.fixture(scope="module")
def sets():
    return squares(30, 0)[2], squares(12, 1)[2]


def test_agreement_is_the_share_of_samples_that_show_what_was_asked_for(sets):
    images, labels, _ = squares(9, 2)
    assert evaluate.judge(images, labels, *sets).values["agreement"] == 1
    asked = np.where(np.arange(9) < 3, (labels + 1) % 3, labels)
    result = evaluate.judge(images, asked, *sets)
    assert result.values["agreement"] == pytest.approx(6 / 9)
    assert result.by_class == {c: pytest.approx(np.mean(labels[asked == c] == c)) for c in range(3)}


def test_distances_are_those_of_a_loop_over_all_pairs(sets):
    images, labels, _ = squares(9, 2)
    result = evaluate.judge(images, labels, *sets)
    real, held_out = (one.examples().astype(np.float64) / 255 for one in sets)
    for prefix, drawn in (("", images / 255.0), ("held_out_", held_out)):
        distances = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in real] for a in drawn])
        least = result.values[f"{prefix}distance_to_training_least"]
        assert least == pytest.approx(distances.min(), rel=1e-4)
        median = result.values[f"{prefix}distance_to_training_median"]
        assert median == pytest.approx(np.median(distances.min(1)), rel=1e-4)
        if not prefix:
            np.testing.assert_array_equal(result.nearest, distances.argmin(axis=1))


def test_a_copy_of_a_training_image_is_at_distance_zero(sets):
    images, labels = sets[0].examples()[:3], sets[0].labels()[:3]
    result = evaluate.judge(images, labels, *sets)
    assert result.values["distance_to_training_least"] == 0 and result.nearest.tolist() == [0, 1, 2]


def test_centred_images_are_judged_alike_wherever_they_lie(sets):
    images, labels, _ = squares(9, 2)
    images[:, :2], images[:, -2:] = 0, 0
    images[:, :, :2], images[:, :, -2:] = 0, 0
    images[:, 3:5, 3:5] = 200
    near, far = (evaluate.judge(np.roll(images, shift, axis=(1, 2)), labels, *sets, centre=True)
                 for shift in ((0, 0), (2, -1)))
    assert near.values == pytest.approx(far.values)


def test_mnists_own_images_are_centred_already():
    images = data.load("mnist_5k", "test").examples()
    np.testing.assert_array_equal(evaluate.centre(images), images)
    np.testing.assert_array_equal(evaluate.centre(np.roll(images[:20], (3, -2), axis=(1, 2))), images[:20])


def test_measures_are_python_floats(sets):
    images, labels, _ = squares(9, 2)
    result = evaluate.judge(images, labels, *sets)
    assert all(type(value) is float for value in [*result.values.values(), *result.by_class.values()])
    assert result.counts == {"judge_learned": 30, "judge_held_out": 12}


def test_the_distance_within_a_class_is_a_mean_over_pairs_and_then_over_classes():
    images = np.array([[0.0], [0.0], [3.0], [4.0], [8.0], [9.0]])
    assert distance_within_class(images, np.array([0, 1, 0, 1, 1, 2])) == pytest.approx((3 + (4 + 4 + 8) / 3) / 2)
    assert np.isnan(distance_within_class(images, np.arange(6)))


def test_the_nearest_image_is_that_of_a_loop(sets):
    images, _, _ = squares(9, 2)
    real = sets[0].examples()
    expected = np.array([[np.sqrt(((a / 255.0 - b / 255.0) ** 2).sum()) for b in real] for a in images])
    distances, nearest = evaluate.nearest_images(images, real)
    np.testing.assert_allclose(distances, expected.min(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(nearest, expected.argmin(axis=1))
    blobs = np.zeros((2, 9, 9, 1), np.uint8)
    blobs[0, 3:6, 4], blobs[1, 3:6, 3:6] = 200, 150
    moved = np.roll(blobs, (2, -1), axis=(1, 2))
    distances, nearest = evaluate.nearest_images(moved, blobs, centre=True)
    np.testing.assert_allclose(distances, 0, atol=1e-6)
    assert nearest.tolist() == [0, 1] and evaluate.nearest_images(moved, blobs)[0].min() > 0.5


def test_of_large_sets_evenly_spaced_images_are_looked_at(sets, monkeypatch):
    """Every second of 30 training images, from which one learns, and every fourth of 12 held-out ones."""
    monkeypatch.setattr(samples, "LEARNED", 15)
    monkeypatch.setattr(samples, "HELD_OUT", 3)
    images, labels, _ = squares(9, 2)
    train_set, test_set = sets
    real, classes = train_set.examples().copy(), train_set.labels().copy()
    real[1::2], classes[1::2] = real[::2], (classes[::2] + 1) % 3  # contradict those that are learned from
    spoilt = data.Dataset.from_arrays(real, classes, name="spoilt", split="all")
    few = data.Dataset.from_arrays(test_set.examples()[::4], test_set.labels()[::4], name="few", split="all")
    result, of_few = (evaluate.judge(images, labels, spoilt, one).values for one in (test_set, few))
    assert result == pytest.approx(of_few, nan_ok=True) and result["agreement"] == 1
    assert evaluate.judge(images, labels, spoilt, test_set).counts == {"judge_learned": 15, "judge_held_out": 3}
    assert evaluate.judge(images, labels, spoilt, few).counts == {"judge_learned": 15, "judge_held_out": 3}
