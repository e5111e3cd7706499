import numpy as np
import pytest

from jaxgen.data import Dataset, evaluation_batches
from jaxgen.data.resize import centre_crop, resize


@pytest.fixture(scope="module")
def dataset():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 6, 3), dtype=np.uint8)
    return Dataset.from_arrays(images, np.arange(10) % 3, captions=list("abcdefghij"), class_names=("x", "y", "z"))


def test_an_example_has_its_image_label_id_and_caption(dataset):
    example = dataset[-3]
    np.testing.assert_array_equal(example["image"], dataset.images()[7])
    assert (example["label"], example["id"], example["caption"]) == (1, 7, "h")
    assert example["label"].dtype == example["id"].dtype == np.int32 and type(example["caption"]) is str
    assert dataset.image_shape == (4, 6, 3) and dataset.num_classes == 3 and len(dataset) == 10
    assert len(list(dataset)) == 10
    with pytest.raises(IndexError, match="index 10 is out of range for arrays/train with 10 examples"):
        dataset[10]


def test_arrays_of_the_wrong_kind_are_refused():
    with pytest.raises(ValueError, match=r"uint8 \[N, H, W, C\], got float32 \[2, 4, 4, 1\]"):
        Dataset.from_arrays(np.zeros((2, 4, 4, 1), np.float32))
    with pytest.raises(ValueError, match="label: expected 2 entries"):
        Dataset.from_arrays(np.zeros((2, 4, 4, 1), np.uint8), np.zeros(3))


def test_evaluation_is_in_order_once_and_filled_up_under_a_mask(dataset):
    found = list(evaluation_batches(dataset, 4))
    assert [batch["image"].shape for batch in found] == [(4, 4, 6, 3)] * 3
    assert np.concatenate([b["id"][b["mask"]] for b in found]).tolist() == list(range(10))
    assert found[-1]["mask"].tolist() == [True, True, False, False]
    assert found[-1]["id"].tolist() == [8, 9, -1, -1]
    (single,) = evaluation_batches(dataset, 16)
    assert single["mask"].sum() == 10
    parts = [list(evaluation_batches(dataset, 4, process_index=p, process_count=2)) for p in range(2)]
    for whole, left, right in zip(found, *parts):
        for name in whole:
            np.testing.assert_array_equal(whole[name], np.concatenate([left[name], right[name]]))


def test_evaluation_refuses_an_empty_set_and_an_indivisible_batch(dataset):
    with pytest.raises(ValueError, match="is empty"):
        evaluation_batches(Dataset.from_arrays(np.zeros((0, 4, 4, 1), np.uint8)), 4)
    with pytest.raises(ValueError, match="batch_size=5 .*process_count=2"):
        evaluation_batches(dataset, 5, process_count=2)


def test_resizing_by_a_whole_factor_takes_the_mean_of_each_area():
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    expected = image.reshape(4, 3, 4, 3, 3).astype(float).mean((1, 3))
    # Pillow rounds after the rows and again after the columns.
    np.testing.assert_allclose(resize(image, 4), expected, atol=1)
    assert resize(image[..., :1], 4).shape == (4, 4, 1)


def test_resizing_by_another_factor_is_antialiased():
    # Stripes one pixel wide are finer than the new grid can hold: they must become grey, not other stripes.
    stripes = np.tile(np.array([0, 255], np.uint8), (140, 70))[..., None]
    small = resize(stripes, 64).astype(float)
    assert abs(small.mean() - 127.5) < 1 and small[4:-4, 4:-4].std() < 20


def test_the_centre_crop_leaves_equal_margins():
    image = np.arange(218 * 178, dtype=np.int32).reshape(218, 178, 1)
    np.testing.assert_array_equal(centre_crop(image, 140, 140), image[39:179, 19:159])
    with pytest.raises(ValueError, match="cannot crop 200x200 out of an image of 218x178"):
        centre_crop(image, 200, 200)
