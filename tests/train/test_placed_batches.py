"""Batches of `to_pmap` and `to_device`, which lie on the devices already: a step moves nothing there."""

import jax
import numpy as np
import optax
import pytest

from jaxgen import data
from jaxgen.train import batch_sharding, compile_step, fit, make_mesh, pmap_step, replicate, shard_state, unreplicate
from tests.helpers import toy


def trained(batches, devices=None):
    step = pmap_step(toy.make_step(axis_name="data", noise=0.1), devices=devices)
    state = replicate(toy.make_state(optax.adam(1e-2)), devices)
    for _ in range(3):
        state, metrics = step(state, next(batches))
    return state, metrics


@pytest.mark.parametrize("count", [2, 8])
def test_a_placed_batch_trains_to_the_same_bits_as_one_of_numpy(count):
    devices = jax.devices()[:count]
    expected = trained(toy.Batches(), devices)
    toy.assert_same_bits(trained(data.to_pmap(toy.Batches(), devices), devices), expected)


def test_a_placed_batch_has_its_examples_in_order_device_by_device():
    batch = next(data.to_pmap(toy.Batches()))
    assert batch["image"].shape == (8, toy.BATCH // 8, toy.WIDTH)
    flat = np.asarray(batch["image"]).reshape(toy.BATCH, toy.WIDTH)
    np.testing.assert_array_equal(flat, next(toy.Batches())["image"])


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_a_step_of_placed_batches_moves_nothing_between_host_and_devices(mode):
    state = toy.make_state(optax.adam(1e-2))
    if mode == "jit":
        mesh = make_mesh()
        step, state = compile_step(toy.make_step(noise=0.1), mesh), shard_state(state, mesh)
        batches = data.to_device(toy.Batches(), batch_sharding(mesh))
    else:
        step, state, batches = pmap_step(toy.make_step(axis_name="data", noise=0.1)), replicate(state), data.to_pmap(
            toy.Batches())

    def guarded(state, batch):
        with jax.transfer_guard("disallow_explicit"):
            return step(state, batch)

    view = unreplicate if mode == "pmap" else lambda state: state
    result = fit(state, guarded, batches, num_steps=3, bar=False, view=view)
    assert result.step == 3
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        guarded(jax.device_get(result.state), next(batches))
