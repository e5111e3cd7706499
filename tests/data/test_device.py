import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.data import Dataset, Image, Spec, batches, evaluation_batches, to_device, to_float, to_pmap, to_uint8


@pytest.fixture(scope="module")
def dataset():
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    return Dataset.from_arrays(images, np.arange(50) % 10, captions=[str(i) for i in range(50)])


@pytest.fixture(scope="module")
def mesh():
    return Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "fsdp"))


def test_all_256_values_make_the_round_trip_and_keep_to_the_range():
    pixels = np.arange(256, dtype=np.uint8)
    for convert in (to_float, jax.jit(to_float), jax.vmap(to_float)):
        floats = np.asarray(convert(pixels))
        assert floats.dtype == np.float32 and floats.min() == -1 and floats.max() == 1
        np.testing.assert_allclose(floats, pixels / 127.5 - 1, atol=1.2e-7)
        for back in (to_uint8, jax.jit(to_uint8)):
            np.testing.assert_array_equal(back(floats), pixels)


def test_to_uint8_rounds_to_the_nearest_and_clips():
    floats = np.array([-3, -1, -0.999, -0.0001, 0.0001, 0.5, 1, 1.7], np.float32)
    expected = np.clip(np.rint((floats.astype(np.float64) + 1) * 127.5), 0, 255)
    np.testing.assert_array_equal(to_uint8(floats), expected)
    assert to_uint8(jnp.zeros((2, 3), jnp.bfloat16)).dtype == jnp.uint8


def test_batches_arrive_as_floats_with_numbers_only(dataset):
    placed, plain = to_device(batches(dataset, batch_size=8)), batches(dataset, batch_size=8)
    for _ in range(7):
        batch, expected = next(placed), next(plain)
        assert set(batch) == {"image", "label", "id"}
        assert all(isinstance(array, jax.Array) for array in batch.values())
        assert batch["image"].dtype == jnp.float32
        np.testing.assert_allclose(batch["image"], expected["image"] / 127.5 - 1, atol=1e-6)
        np.testing.assert_array_equal(batch["id"], expected["id"])


@pytest.mark.parametrize("axes", ["data", ("data", "fsdp")])
def test_a_batch_lies_over_the_mesh_axes_asked_for(dataset, mesh, axes):
    sharding = NamedSharding(mesh, PartitionSpec(axes, None, None, None))
    batch = next(to_device(batches(dataset, batch_size=16), sharding))
    parts = 4 if axes == "data" else 8
    assert {shard.data.shape for shard in batch["image"].addressable_shards} == {(16 // parts, 4, 4, 3)}
    assert {shard.data.shape for shard in batch["label"].addressable_shards} == {(16 // parts,)}
    expected = next(batches(dataset, batch_size=16))
    np.testing.assert_array_equal(to_uint8(batch["image"]), expected["image"])


def test_a_batch_can_be_replicated(dataset, mesh):
    batch = next(to_device(batches(dataset, batch_size=6), NamedSharding(mesh, PartitionSpec())))
    assert len(batch["image"].addressable_shards) == 8 and batch["image"].is_fully_replicated


def test_pmap_gets_one_block_for_each_device_in_order(dataset):
    batch = next(to_pmap(batches(dataset, batch_size=16)))
    assert batch["image"].shape == (8, 2, 4, 4, 3) and batch["id"].shape == (8, 2)
    expected = next(batches(dataset, batch_size=16))
    np.testing.assert_array_equal(batch["id"].reshape(-1), expected["id"])
    sums = jax.pmap(lambda image: jax.lax.psum(image.sum(), "devices"), axis_name="devices")(batch["image"])
    np.testing.assert_allclose(sums[0], (expected["image"] / 127.5 - 1).sum(), rtol=1e-4, atol=1e-3)


def test_pmap_gets_its_blocks_on_the_devices_that_are_asked_for(dataset):
    devices = jax.local_devices()[6:2:-1]  # neither the first nor in their order
    batch = next(to_pmap(batches(dataset, batch_size=8), devices))
    expected = next(batches(dataset, batch_size=8))
    wanted = {"image": expected["image"] / 127.5 - 1, "id": expected["id"]}
    for name, value in wanted.items():
        shards = {shard.device: np.asarray(shard.data)[0] for shard in batch[name].addressable_shards}
        assert set(shards) == set(devices)
        for place, device in enumerate(devices):
            np.testing.assert_allclose(shards[device], value[2 * place : 2 * place + 2], atol=1e-6)
    sums = jax.pmap(lambda ids: ids.sum(), devices=devices)(batch["id"])
    np.testing.assert_array_equal(sums, expected["id"].reshape(4, 2).sum(1))


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_a_saved_state_belongs_to_the_batch_handed_out_and_not_to_those_under_way(dataset, prefetch):
    def make():
        return to_device(batches(dataset, batch_size=8, seed=4, flip=True), prefetch=prefetch)

    stream = make()
    start = stream.get_state()
    first = np.asarray(next(stream)["image"])
    for _ in range(8):
        next(stream)
    state = json.loads(json.dumps(stream.get_state()))
    expected = [next(stream) for _ in range(6)]
    resumed = make()
    next(resumed)  # what is under way already must be dropped
    resumed.set_state(state)
    assert resumed.get_state() == state
    for batch in expected:
        again = next(resumed)
        for name in batch:
            np.testing.assert_array_equal(batch[name], again[name])
    resumed.set_state(start)
    np.testing.assert_array_equal(next(resumed)["image"], first)


def test_prefetch_reads_so_many_batches_ahead_and_all_are_handed_out(dataset):
    read = []

    def source():
        for i in range(7):
            read.append(i)
            yield {"image": np.full((2, 2, 2, 1), i, np.uint8)}

    stream = to_device(source(), spec=Spec({"image": Image((2, 2, 1))}), prefetch=2)
    next(stream)
    assert read == [0, 1, 2]
    next(stream)
    assert read == [0, 1, 2, 3]
    assert [int(to_uint8(batch["image"]).max()) for batch in stream] == [2, 3, 4, 5, 6]


def test_evaluation_batches_count_each_example_once(dataset, mesh):
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    total = count = 0
    for batch in to_device(evaluation_batches(dataset, 16), sharding):
        assert batch["image"].shape == (16, 4, 4, 3)
        total += float((batch["image"].mean((1, 2, 3)) * batch["mask"]).sum())
        count += int(batch["mask"].sum())
    assert count == 50
    np.testing.assert_allclose(total / count, (dataset.examples() / 127.5 - 1).mean(), atol=1e-5)


def test_indivisible_batches_and_sources_without_a_state_are_refused(dataset, mesh):
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    with pytest.raises(ValueError, match="batch_size=10 .*does not divide over the 4 devices.*multiple of 4"):
        next(to_device(batches(dataset, batch_size=10), sharding))
    with pytest.raises(ValueError, match="batch_size=10 .*does not divide over 8 devices"):
        next(to_pmap(batches(dataset, batch_size=10)))
    with pytest.raises(ValueError, match="prefetch must be an integer of at least 0, got -1"):
        to_device(batches(dataset, batch_size=10), prefetch=-1)
    with pytest.raises(TypeError, match=r"no get_state\(\)"):
        to_device(iter([])).get_state()
