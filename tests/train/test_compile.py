"""Compiled steps on many devices, and where their arrays lie."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxgen.train import (
    compile_step,
    fsdp_sharding,
    make_mesh,
    pmap_step,
    replicate,
    shard_batch,
    shard_state,
    unreplicate,
)
from tests.helpers import compilations, toy

STEPS = 20


def train(step, state, steps=STEPS):
    batches = toy.Batches()
    losses = []
    for _ in range(steps):
        state, metrics = step(state, next(batches))
        losses.append(np.asarray(metrics["loss"]))
    return state, np.array(losses)


@pytest.fixture(scope="module")
def one_device():
    step = jax.jit(toy.make_step(noise=0.1))
    return train(step, toy.make_state(optax.adam(1e-2)))


@pytest.mark.parametrize("fsdp", [1, 2, 4])
def test_jit_on_eight_devices_gives_what_one_device_gives(one_device, fsdp):
    mesh = make_mesh(fsdp=fsdp)
    assert mesh.size == 8
    state, losses = train(compile_step(toy.make_step(noise=0.1), mesh, min_size=0), toy.make_state(optax.adam(1e-2)))
    toy.assert_close((state, losses), one_device)
    kernel = state.params["encoder"]["kernel"]
    local = np.prod(kernel.addressable_shards[0].data.shape)
    assert local == kernel.size // fsdp
    assert len(kernel.sharding.device_set) == 8
    moment = state.opt_state[0].mu["encoder"]["kernel"]
    assert moment.sharding.is_equivalent_to(kernel.sharding, 2)


def test_pmap_on_eight_devices_gives_what_one_device_gives(one_device):
    step = pmap_step(toy.make_step(axis_name="data", noise=0.1))
    state, losses = train(step, replicate(toy.make_state(optax.adam(1e-2))))
    toy.assert_close((unreplicate(state), losses), one_device)
    for leaf in jax.tree.leaves(state):
        assert leaf.shape[0] == 8
        np.testing.assert_array_equal(leaf, np.broadcast_to(np.asarray(leaf)[:1], leaf.shape))


def test_shard_map_on_eight_devices_gives_what_one_device_gives(one_device):
    mesh = Mesh(np.array(jax.devices()), ("data",))
    step = jax.jit(jax.shard_map(
        toy.make_step(axis_name="data", noise=0.1), mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec(),
    ))

    def blocking(state, batch):
        return jax.block_until_ready(step(state, batch))

    toy.assert_close(train(blocking, toy.make_state(optax.adam(1e-2))), one_device)  # which lies on one device at first


def test_accumulation_agrees_between_one_device_and_eight():
    optimizer = optax.adam(1e-2)
    one = train(jax.jit(toy.make_step(accumulate=2)), toy.make_state(optimizer), 5)
    sharded = compile_step(toy.make_step(accumulate=2), make_mesh(fsdp=2), min_size=0)
    toy.assert_close(train(sharded, toy.make_state(optimizer), 5), one)


def test_the_compiled_step_donates_its_state():
    optimizer = optax.adam(1e-2)
    step = compile_step(toy.make_step())
    state, _ = step(toy.make_state(optimizer), next(toy.Batches()))
    old = state.params["encoder"]["kernel"]
    step(state, next(toy.Batches()))
    assert old.is_deleted()
    keeping = compile_step(toy.make_step(), donate=False)
    state, _ = keeping(toy.make_state(optimizer), next(toy.Batches()))
    keeping(state, next(toy.Batches()))
    assert not state.params["encoder"]["kernel"].is_deleted()


@pytest.mark.parametrize("mode", ["fresh", "placed", "pmap"])
def test_an_average_that_starts_as_the_parameters_themselves_can_be_donated(mode):
    optimizer, one = optax.adam(1e-2), jax.devices()[:1]
    state = toy.make_state(optimizer)
    expected, _ = jax.jit(toy.make_step())(state, next(toy.Batches()))
    if mode == "pmap":
        step, state = pmap_step(toy.make_step(axis_name="data"), devices=one), replicate(state, one)
    else:
        mesh = make_mesh(devices=one)
        step, state = compile_step(toy.make_step(), mesh), shard_state(state, mesh) if mode == "placed" else state
    state, _ = step(state._replace(ema_params=state.params), next(toy.Batches()))
    toy.assert_close(unreplicate(state) if mode == "pmap" else state, expected)


def test_a_large_array_is_shared_along_its_longest_dimension_that_divides():
    mesh = make_mesh(fsdp=4)
    tree = {"a": np.zeros((6, 8, 16)), "b": np.zeros((8, 6)), "odd": np.zeros((3, 5)), "small": np.zeros(4), "s": 1.0}
    specs = jax.tree.map(lambda s: s.spec, fsdp_sharding(tree, mesh, min_size=10))
    assert specs == {
        "a": PartitionSpec(None, None, "fsdp"), "b": PartitionSpec("fsdp"), "odd": PartitionSpec(),
        "small": PartitionSpec(), "s": PartitionSpec(),
    }
    placed = shard_state(toy.make_state(optax.adam(1e-2)), mesh, min_size=0)
    assert placed.model_state["mean"].sharding.is_fully_replicated
    assert not placed.ema_params["decoder"]["kernel"].sharding.is_fully_replicated


def test_a_mesh_has_the_devices_it_was_asked_for():
    assert dict(make_mesh(fsdp=2).shape) == {"data": 4, "fsdp": 2}
    assert dict(make_mesh(data=1, fsdp=2).shape) == {"data": 1, "fsdp": 2}
    with pytest.raises(ValueError, match="fsdp=3 does not divide the 8 devices"):
        make_mesh(fsdp=3)
    with pytest.raises(ValueError, match="data=8 x fsdp=2 needs 16 devices, but there are 8"):
        make_mesh(data=8, fsdp=2)
    with pytest.raises(ValueError, match="must be at least 1"):
        make_mesh(fsdp=0)


def test_a_batch_that_the_devices_do_not_divide_names_batch_devices_and_fix():
    message = "a batch of 12 examples does not divide over the 8 devices.*set the batch size to 8 or 16"
    optimizer = optax.adam(1e-2)
    batch = next(toy.Batches(size=12))
    with pytest.raises(ValueError, match=message):
        compile_step(toy.make_step())(toy.make_state(optimizer), batch)
    with pytest.raises(ValueError, match=message):
        pmap_step(toy.make_step(axis_name="data"))(replicate(toy.make_state(optimizer)), batch)
    with pytest.raises(ValueError, match="a batch of 3 examples.*set the batch size to 8"):
        shard_batch({"x": np.zeros((3, 2))}, make_mesh())


def test_words_cannot_go_to_a_device():
    with pytest.raises(TypeError, match=r"batch\['caption'\] holds <U"):
        shard_batch({"caption": np.array(["a", "b"])}, make_mesh(data=1))


def test_a_batch_in_place_stays_where_it_is():
    mesh = make_mesh()
    batch = shard_batch({"x": jnp.zeros((8, 2))}, mesh)
    assert shard_batch(batch, mesh)["x"] is batch["x"]


def test_steps_for_jit_and_pmap_are_not_mixed_up():
    with pytest.raises(ValueError, match="axis_name='data'.*use pmap_step"):
        compile_step(toy.make_step(axis_name="data"))
    with pytest.raises(ValueError, match="pmap_step needs a step that averages"):
        pmap_step(toy.make_step())


@pytest.mark.parametrize("mapped", [False, True])
def test_the_second_step_compiles_nothing(mapped):
    optimizer, batch = optax.adam(1e-2), next(toy.Batches())
    state = toy.make_state(optimizer)
    if mapped:  # whose axis has another name than that of `replicate`
        state, step = replicate(state), pmap_step(toy.make_step(optimizer, axis_name="data"))
    else:
        step = compile_step(toy.make_step(optimizer))
    state, _ = step(state, batch)
    assert compilations.count(lambda: step(state, batch)) == 0
