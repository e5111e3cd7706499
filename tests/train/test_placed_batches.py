"""Batches of `to_pmap`, which lie on the devices already, in a step of `pmap`."""

import jax
import numpy as np
import optax
import pytest

from jaxgen import data
from jaxgen.train import pmap_step, replicate
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
