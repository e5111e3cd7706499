"""Batches: their order, their state, their shares over processes, and what is refused."""

import json

import numpy as np
import pytest

from jaxgen.data import Dataset, batches
from jaxgen.data.dataset import RecordSource


@pytest.fixture(scope="module")
def dataset():
    images = np.random.default_rng(0).integers(0, 256, (50, 6, 6, 1), dtype=np.uint8)
    return Dataset.from_arrays(images, np.arange(50) % 10, captions=[f"number {i}" for i in range(50)])


def ids(stream, count):
    return [next(stream)["id"].tolist() for _ in range(count)]


def same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])
        assert left[name].dtype == right[name].dtype


def test_a_batch_gathers_the_examples_that_its_ids_name(dataset):
    batch = next(batches(dataset, batch_size=8))
    assert batch["image"].shape == (8, 6, 6, 1) and batch["image"].dtype == np.uint8
    assert batch["label"].dtype == batch["id"].dtype == np.int32
    for i, index in enumerate(batch["id"]):
        np.testing.assert_array_equal(batch["image"][i], dataset.examples()[index])
        assert batch["label"][i] == index % 10
        assert batch["caption"][i] == f"number {index}"


def test_each_epoch_is_a_permutation_and_they_differ(dataset):
    stream = batches(dataset, batch_size=10)
    epochs = [np.concatenate(ids(stream, 5)).tolist() for _ in range(4)]
    for order in epochs:
        assert sorted(order) == list(range(50))
    assert len({tuple(order) for order in epochs}) == 4
    assert all(order != sorted(order) for order in epochs)


def test_the_order_is_a_uniform_permutation_in_its_first_place(dataset):
    small = Dataset.from_arrays(np.zeros((4, 2, 2, 1), np.uint8))
    first = [ids(batches(small, batch_size=4, seed=seed), 1)[0][0] for seed in range(400)]
    assert np.bincount(first, minlength=4).min() > 100 - 40


def test_the_seed_decides_everything(dataset):
    for options in ({}, {"flip": True, "crop": 1}):
        one, two = (batches(dataset, batch_size=10, seed=3, **options) for _ in range(2))
        for _ in range(7):
            same(next(one), next(two))
    # Seeds 3 and 4 share no epoch, not even shifted by one.
    three, four = (batches(dataset, batch_size=50, seed=seed) for seed in (3, 4))
    orders = [*ids(three, 3), *ids(four, 3)]
    assert len({tuple(order) for order in orders}) == 6


def test_without_shuffling_the_order_is_the_sets_order_in_every_epoch(dataset):
    order = np.concatenate(ids(batches(dataset, batch_size=25, shuffle=False), 4))
    assert order.tolist() == [*range(50), *range(50)]


def test_epochs_end_and_the_remainder_is_dropped_or_kept(dataset):
    dropped = [batch["id"] for batch in batches(dataset, batch_size=16, epochs=2)]
    assert [len(b) for b in dropped] == [16] * 6
    kept = [batch["id"] for batch in batches(dataset, batch_size=16, epochs=2, drop_remainder=False)]
    assert [len(b) for b in kept] == [16, 16, 16, 2] * 2
    assert sorted(np.concatenate(kept[:4])) == list(range(50))
    assert batches(dataset, batch_size=16).steps_per_epoch == 3
    assert batches(dataset, batch_size=16, drop_remainder=False).steps_per_epoch == 4


def test_processes_partition_each_global_batch_and_together_give_the_one_process_batch(dataset):
    options = dict(batch_size=12, seed=5, flip=True, crop=2)
    whole = batches(dataset, **options)
    shards = [batches(dataset, process_index=p, process_count=3, **options) for p in range(3)]
    for _ in range(9):
        parts = [next(shard) for shard in shards]
        assert [len(part["id"]) for part in parts] == [4, 4, 4]
        same(next(whole), {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def test_a_stream_resumed_from_json_in_mid_epoch_gives_the_same_batches(dataset):
    options = dict(batch_size=8, seed=1, flip=True, crop=2)
    stream = batches(dataset, **options)
    for _ in range(9):  # 6 batches to an epoch: the second one is half over
        next(stream)
    state = json.loads(json.dumps(stream.get_state()))
    expected = [next(stream) for _ in range(10)]
    resumed = batches(dataset, **options)
    resumed.set_state(state)
    for batch in expected:
        same(next(resumed), batch)
    stream.set_state(state)  # and back, in the stream that went on
    same(next(stream), expected[0])


def test_a_state_from_another_stream_is_refused_with_the_setting_named(dataset):
    state = batches(dataset, batch_size=8, seed=1).get_state()
    with pytest.raises(ValueError, match="batch_size=8.*batch_size=10"):
        batches(dataset, batch_size=10, seed=1).set_state(state)
    with pytest.raises(ValueError, match="pass seed=1"):
        batches(dataset, batch_size=8, seed=2).set_state(state)
    with pytest.raises(ValueError, match=r"get_state\(\)"):
        batches(dataset, batch_size=8).set_state({"next_index": 3})


@pytest.mark.parametrize("number", [np.int64, np.uint8, np.int32])
def test_numbers_of_numpys_are_counts_and_their_state_can_be_saved(dataset, number):
    options = dict(batch_size=number(10), seed=number(3), crop=number(1), epochs=number(2), flip=np.bool_(True),
                   shuffle=np.bool_(True), process_index=number(0), process_count=number(1))
    stream = batches(dataset, **options)
    same(next(stream), next(batches(dataset, batch_size=10, seed=3, crop=1, flip=True)))
    state = json.loads(json.dumps(stream.get_state()))
    plain = batches(dataset, batch_size=10, seed=3, crop=1, epochs=2, flip=True)
    plain.set_state(state)
    same(next(plain), next(stream))


@pytest.mark.parametrize("change", [{"seed": -1}, {"seed": 1.5}, {"batch_size": 2.0}, {"batch_size": "8"},
                                    {"epochs": 0.5}, {"crop": -1}, {"process_count": 0}, {"seed": None}])
def test_counts_that_are_none_are_refused_by_name(dataset, change):
    (name,) = change
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least"):
        batches(dataset, **{"batch_size": 10, **change})


def test_a_set_that_grew_since_a_state_was_saved_is_named(dataset):
    state = batches(dataset, batch_size=8, seed=1).get_state()
    larger = Dataset.from_arrays(np.zeros((58, 6, 6, 1), np.uint8), name="image_folder")
    with pytest.raises(ValueError, match="the data changed: image_folder/train had 50 .* has 58 now") as error:
        batches(larger, batch_size=8, seed=1).set_state(state)
    assert "size=" not in str(error.value)


def test_sets_read_from_records_give_the_batches_that_arrays_give(dataset):
    records = [dataset[i] for i in range(50)]
    read = Dataset("records", "train", dataset.spec, RecordSource(records, dict))
    options = dict(batch_size=10, seed=2, flip=True)
    left, right = batches(dataset, **options), batches(read, **options)
    for _ in range(8):
        same(next(right), next(left))


def test_what_cannot_be_batched_is_refused(dataset):
    empty = Dataset.from_arrays(np.zeros((0, 4, 4, 1), np.uint8))
    with pytest.raises(ValueError, match="arrays/train is empty"):
        batches(empty, batch_size=1)
    with pytest.raises(ValueError, match="batch_size=64 must lie between 1 and the 50 examples"):
        batches(dataset, batch_size=64)
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1, got 0"):
        batches(dataset, batch_size=0)
    with pytest.raises(ValueError, match=r"batch_size \(10 examples\) does not divide over process_count=4"):
        batches(dataset, batch_size=10, process_count=4)
    with pytest.raises(ValueError, match=r"last batch of an epoch \(2 examples\) does not divide"):
        batches(dataset, batch_size=16, process_count=4, drop_remainder=False)
    with pytest.raises(ValueError, match="process_index=2"):
        batches(dataset, batch_size=10, process_index=2, process_count=2)
    with pytest.raises(ValueError, match="crop=6"):
        batches(dataset, batch_size=10, crop=6)
    with pytest.raises(ValueError, match="epochs must be an integer of at least 1, got 0"):
        batches(dataset, batch_size=10, epochs=0)
    assert len(next(batches(dataset, batch_size=64, drop_remainder=False))["id"]) == 50
