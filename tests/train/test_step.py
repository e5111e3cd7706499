"""One pure training step, compared with NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.train import init_adversary, init_state, make_schedule, make_train_step
from tests.helpers import toy


def batch_of(size=toy.BATCH):
    return next(toy.Batches(size=size))


def test_three_sgd_steps_on_a_quadratic_agree_with_numpy():
    def loss_fn(params, model_state, batch, key):
        loss = jnp.mean(jnp.sum((params["w"] - batch["x"]) ** 2, -1))
        return loss, ({"distance": loss}, {"seen": model_state["seen"] + batch["x"].shape[0]})

    x = np.random.default_rng(1).normal(size=(3, 5, 4)).astype(np.float32)
    optimizer = optax.sgd(0.1)
    state = init_state({"w": jnp.ones(4)}, {"seen": jnp.zeros((), jnp.int32)}, optimizer)
    step = jax.jit(make_train_step(loss_fn, optimizer, run_key=jax.random.key(0)))
    w = np.ones(4)
    for i in range(3):
        gradient = 2 * (w - x[i].mean(0))
        loss = np.mean(np.sum((w - x[i]) ** 2, -1))
        state, metrics = step(state, {"x": x[i]})
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
        np.testing.assert_allclose(metrics["distance"], loss, rtol=1e-5)
        np.testing.assert_allclose(metrics["grad_norm"], np.linalg.norm(gradient), rtol=1e-5)
        w = w - 0.1 * gradient
        np.testing.assert_allclose(state.params["w"], w, rtol=1e-5)
    assert int(state.step) == 3
    assert int(state.model_state["seen"]) == 15
    assert state.ema_params is None


def test_each_step_gets_the_run_key_folded_with_its_number():
    def loss_fn(params, model_state, batch, key):
        return 0 * params.sum(), ({"draw": jax.random.uniform(key)}, model_state)

    optimizer = optax.sgd(0.0)
    key = jax.random.key(3)
    state = init_state(jnp.zeros(2), {}, optimizer)
    step = make_train_step(loss_fn, optimizer, run_key=key)
    for i in range(3):
        state, metrics = step(state, {"x": jnp.zeros((1, 1))})
        assert float(metrics["draw"]) == float(jax.random.uniform(jax.random.fold_in(key, i)))


def test_accumulated_gradients_are_those_of_the_full_batch():
    optimizer = optax.sgd(0.1)

    def loss_fn(params, model_state, batch, key):
        loss = jnp.mean((batch["image"] @ params["encoder"]["kernel"]) ** 2)
        return loss, ({"first": batch["id"][0]}, model_state)

    batch = batch_of()
    results = []
    for accumulate in (1, 4):
        step = make_train_step(loss_fn, optimizer, run_key=toy.RUN_KEY, ema_decay=0.9, accumulate=accumulate)
        state, metrics = jax.jit(step)(toy.make_state(optimizer), batch)
        results.append((state.params, state.ema_params, metrics["loss"], metrics["grad_norm"]))
    toy.assert_close(*results)
    assert float(metrics["first"]) == np.mean([0, 1, 2, 3])  # micro-batch i starts with example i


def test_model_state_passes_through_the_micro_batches_in_order():
    optimizer = optax.sgd(0.0)
    batch = batch_of()
    full = toy.make_step(optimizer, noise=0.0, accumulate=4)
    state, _ = jax.jit(full)(toy.make_state(optimizer), batch)
    kernel = np.asarray(toy.make_params()["encoder"]["kernel"])
    mean = np.zeros(toy.CODE)
    for i in range(4):
        mean = 0.9 * mean + 0.1 * np.tanh(batch["image"][i::4] @ kernel).mean(0)
    np.testing.assert_allclose(state.model_state["mean"], mean, rtol=1e-4, atol=1e-6)


def test_the_learning_rate_is_that_of_the_step():
    schedule = make_schedule("linear", learning_rate=1.0, num_steps=4)
    optimizer = optax.sgd(schedule)
    step = jax.jit(toy.make_step(optimizer, learning_rate=schedule))
    state = toy.make_state(optimizer)
    rates = []
    for _ in range(4):
        state, metrics = step(state, batch_of())
        rates.append(float(metrics["learning_rate"]))
    assert rates == [1.0, 0.75, 0.5, 0.25]


def test_a_step_is_differentiable_and_vmaps_over_states():
    optimizer = optax.sgd(0.1)
    step = toy.make_step(optimizer)
    state = toy.make_state(optimizer)
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    batch = batch_of()
    both, _ = jax.jit(jax.vmap(step, (0, None)))(states, batch)
    one, _ = jax.jit(step)(state, batch)
    toy.assert_close(jax.tree.map(lambda leaf: np.asarray(leaf)[1], both), one)

    def direct(params):
        return toy.make_loss()(params, state.model_state, batch, jax.random.fold_in(toy.RUN_KEY, 0))[0]

    through_step = jax.jit(jax.grad(lambda params: step(state._replace(params=params), batch)[1]["loss"]))
    toy.assert_close(through_step(state.params), jax.jit(jax.grad(direct))(state.params))


def test_the_initial_state_shares_no_memory_with_what_it_was_made_from():
    params = toy.make_params()
    state = init_state(params, {}, optax.adam(1e-3), ema=True)
    jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(state)
    np.testing.assert_array_equal(params["decoder"]["bias"], np.zeros(toy.WIDTH))


def test_one_array_in_all_parts_of_an_initial_state_becomes_as_many():
    x, optimizer = jnp.ones(3), optax.adam(1e-3)
    state = init_state({"a": x, "b": x}, {"a": x, "b": x}, optimizer, ema=True)
    state = state._replace(adversary=init_adversary({"a": x, "b": x}, (x, x), optimizer))
    pointers = [leaf.unsafe_buffer_pointer() for leaf in (x, *jax.tree.leaves(state))]
    assert len(set(pointers)) == len(pointers)


@pytest.mark.parametrize("kwargs, message", [
    ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
    ({"ema_decay": 1.5}, r"ema_decay must lie in \[0, 1\], got 1.5"),
])
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_train_step(toy.make_loss(), optax.sgd(0.1), run_key=toy.RUN_KEY, **kwargs)


def test_a_batch_that_micro_batches_do_not_divide_is_an_error():
    optimizer = optax.sgd(0.1)
    with pytest.raises(ValueError, match="accumulate=5 does not divide the batch of 32 examples"):
        toy.make_step(optimizer, accumulate=5)(toy.make_state(optimizer), batch_of())


def test_ema_decay_and_state_must_agree():
    optimizer = optax.sgd(0.1)
    with pytest.raises(ValueError, match=r"init_state\(..., ema=True\)"):
        toy.make_step(optimizer)(toy.make_state(optimizer, ema=False), batch_of())
