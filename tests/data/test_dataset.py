"""Data sets in memory and in records: what they take, what they give, evaluation in order, resizing."""

import numpy as np
import pytest

from jaxgen.data import Dataset, evaluation_batches
from jaxgen.data.dataset import RecordSource
from jaxgen.data.resize import centre_crop, resize


@pytest.fixture(scope="module")
def dataset():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 6, 3), dtype=np.uint8)
    return Dataset.from_arrays(images, np.arange(10) % 3, captions=list("abcdefghij"), class_names=("x", "y", "z"))


def test_an_example_has_its_image_label_id_and_caption(dataset):
    example = dataset[-3]
    np.testing.assert_array_equal(example["image"], dataset.examples()[7])
    assert (example["label"], example["id"], example["caption"]) == (1, 7, "h")
    assert example["label"].dtype == example["id"].dtype == np.int32 and type(example["caption"]) is str
    assert dataset.example_shape == (4, 6, 3) and dataset.num_classes == 3 and len(dataset) == 10
    assert len(list(dataset)) == 10
    with pytest.raises(IndexError, match=r"index must lie within -10 \.\. 9 for the 10 examples of arrays/train, got"):
        dataset[10]


def test_arrays_of_the_wrong_kind_are_refused():
    with pytest.raises(ValueError, match=r"uint8 \[N, H, W, C\], got float32 \[2, 4, 4, 1\]"):
        Dataset.from_arrays(np.zeros((2, 4, 4, 1), np.float32))
    with pytest.raises(ValueError, match="label: expected 2 entries"):
        Dataset.from_arrays(np.zeros((2, 4, 4, 1), np.uint8), np.zeros(3))


IMAGES = np.zeros((4, 2, 2, 1), np.uint8)


@pytest.mark.parametrize(("labels", "message"), [
    ([[0], [1], [0], [1]], r"labels must be \[N\].*labels\[:, 0\].*got shape \[4, 1\]"),
    (np.eye(4), r"argmax.*got shape \[4, 4\]"),
    ([0, 1, -1, -2], r"labels\[2\] is -1,.* from 0 to"),
    ([0, 2**33, 1, 1], r"labels\[1\] is 8589934592,.* from 0 to 2147483647"),
    ([0.0, 1.0, 0.5, 0.7], r"labels\[2\] is 0.5"),
    ([0.0, np.nan, 1.0, 1.0], r"labels\[1\] is nan"),
    ([0, 1, np.inf, 1], r"labels\[2\] is inf"),
    (["cat", "dog", "cat", "dog"], "labels must be whole numbers, got dtype <U3.*class_names"),
])
def test_labels_that_are_no_classes_are_refused_with_the_first_one(labels, message):
    with pytest.raises(ValueError, match=message):
        Dataset.from_arrays(IMAGES, np.asarray(labels))


def test_labels_beyond_the_class_names_and_names_that_stand_twice_are_refused():
    with pytest.raises(ValueError, match=r"labels\[3\] is 2,.* from 0 to 1, the last of the class_names"):
        Dataset.from_arrays(IMAGES, [0, 1, 1, 2], class_names=("cat", "dog"))
    with pytest.raises(ValueError, match=r"class_names\[2\] is 'cat' again"):
        Dataset.from_arrays(IMAGES, [0, 1, 1, 2], class_names=("cat", "dog", "cat"))
    with pytest.raises(ValueError, match=r"captions\[1\] must be a string, got None"):
        Dataset.from_arrays(IMAGES, captions=["a", None, "b", "c"])
    with pytest.raises(ValueError, match="captions must be a sequence of strings, got the one string 'four'"):
        Dataset.from_arrays(IMAGES, captions="four")


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint64, np.float16, np.float32, bool])
def test_whole_numbers_of_every_type_are_labels(dtype):
    dataset = Dataset.from_arrays(IMAGES, np.array([0, 1, 1, 0]).astype(dtype))
    assert dataset.labels().dtype == np.int32 and dataset.labels().tolist() == [0, 1, 1, 0]
    assert dataset.num_classes == 2


def in_records(dataset):
    return Dataset("records", "train", dataset.spec,
                   RecordSource([dataset[i] for i in range(len(dataset))], dict))


@pytest.mark.parametrize("indices", [
    [-1], [2, 2, -8, 0], np.arange(10) % 4 == 1, np.zeros(10, bool), [], np.array([3, 250 - 256], np.int8),
    np.array([9, 1], np.uint64)], ids=str)
def test_the_ids_of_taken_examples_are_their_rows(dataset, indices):
    expected = np.arange(10)[np.asarray(indices, None if len(indices) else int)]
    for source in (dataset, in_records(dataset)):
        batch = source.take(indices)
        assert batch["id"].tolist() == expected.tolist() and batch["id"].dtype == np.int32
        np.testing.assert_array_equal(batch["image"], dataset.examples()[expected])
        assert batch["label"].tolist() == (expected % 3).tolist()


@pytest.mark.parametrize(("indices", "error", "message"), [
    ([0, 10, 11], IndexError, r"indices must lie within -10 \.\. 9 for the 10 examples of .*, got 10"),
    ([-11], IndexError, r"indices must lie within -10 \.\. 9.* got -11"),
    (np.array([2**64 - 1], np.uint64), IndexError, "indices must lie within .* got 18446744073709551615"),
    ([1.0, 2.5], ValueError, r"indices must be integers \[B\].*got float64 \[2\]"),
    (3, ValueError, r"got int64 \[\]"), ([[1, 2]], ValueError, r"got int64 \[1, 2\]"),
    (np.ones(9, bool), ValueError, r"booleans \[10\], one for each example; got bool \[9\]")])
def test_what_names_no_examples_is_refused(dataset, indices, error, message):
    for source in (dataset, in_records(dataset)):
        with pytest.raises(error, match=message):
            source.take(indices)


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
