"""What a training needs is told before it: parameters, memory and time."""

import jax
import numpy as np
import optax
import pytest

from jaxgen.train import (
    compile_step,
    dry_run,
    init_adversary,
    largest_parts,
    make_mesh,
    memory_estimate,
    parameter_table,
    pmap_step,
    replicate,
    shard_state,
    time_step,
)
from jaxgen.train.summary import show_bytes
from tests.helpers import compilations, toy

OPTIMIZER = optax.adam(1e-2)
PARAMS = {
    "encoder": {"conv": {"kernel": np.zeros((3, 3, 1, 8), np.float32), "bias": np.zeros(8, np.float32)}},
    "decoder": {"dense": {"kernel": np.zeros((8, 1000), np.float16)}},
    "scale": np.zeros((), np.float32),
}


def test_the_table_has_a_line_per_module_and_the_total():
    lines = parameter_table(PARAMS).splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert list(rows) == ["module", "decoder/dense", "encoder/conv", "-", "total"]
    assert rows["encoder/conv"].split()[1:] == ["bias", "8,", "kernel", "3x3x1x8", "80", "320", "B", "1.0%"]
    assert rows["decoder/dense"].split()[1:] == ["kernel", "8x1000", "8,000", "15.6", "KiB", "99.0%"]
    assert "scale scalar" in rows["-"]
    assert rows["total"].split()[1:] == ["4", "arrays", "8,081", "15.9", "KiB", "100.0%"]


def test_the_table_is_aligned():
    header, *rows = parameter_table(PARAMS).splitlines()
    assert {len(row) for row in rows} == {len(header)}
    assert {row.index(row.split()[1]) for row in rows} == {header.index("arrays")}


def test_the_table_takes_shapes_in_place_of_arrays_and_no_parameters():
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), PARAMS)
    assert parameter_table(shapes) == parameter_table(PARAMS)
    assert parameter_table({}).splitlines()[-1].split() == ["total", "0", "arrays", "0", "0", "B", "0.0%"]


def test_the_largest_parts_come_first_below_names_that_all_share():
    expected = "decoder 99%, encoder 1%"
    assert largest_parts(PARAMS, 2) == expected
    assert largest_parts({"params": {"model": PARAMS}}, 2) == expected


@pytest.mark.parametrize("size, text", [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"),
                                        (5 * 2**30, "5.0 GiB"), (2**60, "1048576.0 TiB")])
def test_bytes_are_shown_in_powers_of_1024(size, text):
    assert show_bytes(size) == text


def test_memory_is_the_bytes_of_the_state_and_what_xla_plans():
    state, batch = toy.make_state(OPTIMIZER), next(toy.Batches())
    memory = memory_estimate(compile_step(toy.make_step(OPTIMIZER), make_mesh(data=1)), state, batch)
    size = 4 * (12 * 8 + 8 * 12 + 12)
    assert memory[:6] == (size, 2 * size + 4, size, 4 * 8, 0, 4 * 32 * 12 + 4 * 32)
    # The state comes in and goes out in the same memory; the step's number and the metrics are a few bytes more.
    assert memory.temporary > 0
    assert 0 <= memory.device - memory.temporary - sum(memory[:6]) < 500


def test_memory_of_a_discriminator_is_counted():
    state = toy.make_state(OPTIMIZER)._replace(adversary=init_adversary({"a": np.zeros((3, 6))}, {}, OPTIMIZER))
    memory = memory_estimate(compile_step(toy.make_step(OPTIMIZER), make_mesh(data=1)), state, next(toy.Batches()))
    assert memory.adversary == sum(leaf.nbytes for leaf in jax.tree.leaves(state.adversary)) > 0


def test_what_the_memory_was_estimated_of_is_not_compiled_again():
    state, batch = toy.make_state(OPTIMIZER), next(toy.Batches())
    step = compile_step(toy.make_step(OPTIMIZER), make_mesh(data=1))
    memory_estimate(step, state, batch)
    state = shard_state(state, make_mesh(data=1))
    assert compilations.count(lambda: step(state, batch)) == 0


def test_steps_are_timed_after_the_first_and_from_the_step_that_is_asked_for():
    times, numbers = iter([10.0, 110.0, 112.0, 114.0, 116.0]), []

    def step(state, batch):
        numbers.append(int(state.step))
        return state._replace(step=state.step + 1), {}

    result = time_step(step, toy.make_state(OPTIMIZER), None, at=99, clock=lambda: next(times))
    assert result == (100.0, 2.0)
    assert numbers == [99, 100, 101, 102]


@pytest.mark.parametrize("mapped", [False, True])
def test_a_dry_run_tells_parameters_memory_and_time(mapped):
    state = toy.make_state(OPTIMIZER)
    if mapped:
        state, step = replicate(state), pmap_step(toy.make_step(OPTIMIZER, axis_name="data"))
    else:
        step = compile_step(toy.make_step(OPTIMIZER), make_mesh())
    text = dry_run(step, state, next(toy.Batches()), num_steps=1000, repeats=1)
    assert "encoder  kernel 12x8                   96  384 B   47.1%" in text
    assert "for temporary arrays" in text and "for 1000 steps" in text
    assert ("copies of all devices" in text) == mapped
