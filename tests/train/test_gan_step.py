"""One step of a generator and its discriminator."""

import functools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxgen import losses, objectives
from jaxgen.runs import Checkpointer
from jaxgen.train import (
    compile_step,
    init_adversary,
    init_state,
    make_gan_step,
    make_mesh,
    pmap_step,
    replicate,
    resume,
    unreplicate,
)
from tests.helpers import gan

START = 2
OPTIMIZER, ADVERSARY_OPTIMIZER = optax.adam(1e-2), optax.adam(3e-2)


def make_step(axis_name=None, start=START, ema_decay=0.9, r1_every=2):
    generator_loss = partial(objectives.vqgan_generator_loss, forward=gan.forward, discriminate=gan.discriminate,
                             start=start, axis_name=axis_name)
    discriminator_loss = partial(objectives.vqgan_discriminator_loss, discriminate=gan.discriminate, lecam_weight=0.1,
                                 r1_weight=0.1, r1_every=r1_every, axis_name=axis_name)
    return make_gan_step(generator_loss, discriminator_loss, OPTIMIZER, ADVERSARY_OPTIMIZER,
                         run_key=jax.random.key(3), start=start, ema_decay=ema_decay, axis_name=axis_name)


@functools.cache
def compiled_step():
    """The step of one device, compiled once for all tests."""
    return jax.jit(make_step())


def make_state():
    adversary = init_adversary(gan.discriminator_params(), losses.lecam_init(), ADVERSARY_OPTIMIZER)
    return init_state(gan.params(), jnp.int32(0), OPTIMIZER, ema=True)._replace(adversary=adversary)


def run(step, state, count):
    history = []
    for _ in range(count):
        state, metrics = step(state, gan.batch())
        history.append(jax.device_get((state, metrics)))
    return state, history


def test_discriminator_its_optimizer_and_its_averages_do_not_move_before_the_start():
    _, history = run(compiled_step(), make_state(), START + 1)
    for state, metrics in history[:START]:
        chex.assert_trees_all_equal(state.adversary, jax.device_get(make_state().adversary))
        assert metrics["discriminator"] == 0 and metrics["gan_weight"] == 0
    last, metrics = history[-1]
    assert not np.allclose(last.adversary.params["a"], gan.discriminator_params()["a"])
    assert metrics["discriminator"] > 0 and metrics["gan_weight"] > 0 and last.adversary.state.real != 0
    assert last.step == START + 1 and not np.allclose(last.params["encoder"]["kernel"],
                                                      history[0][0].params["encoder"]["kernel"])


def test_a_step_is_both_updates_at_the_parameters_before_it():
    state, batch = make_state(), gan.batch()
    new, _ = jax.jit(make_step(start=0, r1_every=1))(state, batch)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(3), 0))
    p, d = gan.params(), gan.discriminator_params()

    @partial(jax.jit, static_argnums=(0, 1))
    def updated(loss, optimizer, params):
        updates, _ = optimizer.update(jax.grad(loss)(params), optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    def generator_loss(p):
        return objectives.vqgan_generator_loss(p, 0, batch, keys[0], discriminator_params=d, step=0,
                                               forward=gan.forward, discriminate=gan.discriminate)[0]

    chex.assert_trees_all_close(new.params, updated(generator_loss, OPTIMIZER, p), rtol=1e-5)
    fake = gan.generate(p, batch["image"])

    def discriminator_loss(d):
        real_logits, fake_logits = gan.discriminate(d, batch["image"]), gan.discriminate(d, fake)
        hinge = (jnp.mean(jax.nn.relu(1 - real_logits)) + jnp.mean(jax.nn.relu(1 + fake_logits))) / 2
        slope = jax.grad(lambda x: jnp.sum(jnp.mean(gan.discriminate(d, x), (1, 2, 3))))(batch["image"])
        ema = [0.001 * jax.lax.stop_gradient(jnp.mean(logits)) for logits in (real_logits, fake_logits)]
        bound = jnp.mean(jax.nn.relu(real_logits - ema[1]) ** 2) + jnp.mean(jax.nn.relu(ema[0] - fake_logits) ** 2)
        return hinge + 0.05 * jnp.mean(jnp.sum(slope**2, (1, 2, 3))) + 0.1 * bound

    chex.assert_trees_all_close(new.adversary.params, updated(discriminator_loss, ADVERSARY_OPTIMIZER, d), rtol=1e-4)


def test_a_resumed_run_goes_on_bit_for_bit_with_discriminator_averages_and_ema(tmp_path):
    step = compiled_step()
    straight, _ = run(step, make_state(), 6)
    half, _ = run(step, make_state(), 4)
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        checkpointer.save(4, half)
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        state, start = resume(make_state(), None, checkpointer)
    assert start == 4
    chex.assert_trees_all_equal(run(step, state, 2)[0], straight)


@pytest.mark.parametrize("mode", ["jit", "pmap", "shard_map"])
def test_four_devices_train_as_one(mode):
    alone, _ = run(compiled_step(), make_state(), 4)
    devices = jax.devices()[:4]
    if mode == "jit":
        mesh = make_mesh(fsdp=2, devices=devices)
        state, _ = run(compile_step(make_step(), mesh, min_size=8), make_state(), 4)
    elif mode == "shard_map":
        mesh = Mesh(np.array(devices), ("devices",))
        step = jax.jit(jax.shard_map(make_step("devices"), mesh=mesh, in_specs=(P(), P("devices")), out_specs=P()))
        state, _ = run(step, make_state(), 4)  # which lies on one device at first
    else:
        state, _ = run(pmap_step(make_step("devices"), devices=devices), replicate(make_state(), devices), 4)
        state = unreplicate(state)
    chex.assert_trees_all_close(jax.device_get(state), jax.device_get(alone), rtol=1e-4, atol=1e-5)


def test_mistakes_are_named():
    state = make_state()
    with pytest.raises(ValueError, match="no adversary.*init_adversary"):
        make_step()(state._replace(adversary=None), gan.batch())
    with pytest.raises(ValueError, match="ema_decay=None"):
        make_step(ema_decay=None)(state, gan.batch())
    with pytest.raises(ValueError, match="ema_decay must lie in"):
        make_step(ema_decay=1.5)
