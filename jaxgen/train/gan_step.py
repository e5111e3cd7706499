"""One pure training step of a generator and its discriminator, from one pass through the generator."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxgen.train.state import Adversary, TrainState
from jaxgen.train.step import check_decay, check_ema, learn, varying

PyTree = Any


def make_gan_step(
    generator_loss: Callable,
    discriminator_loss: Callable,
    optimizer: optax.GradientTransformation,
    discriminator_optimizer: optax.GradientTransformation,
    *,
    run_key: Array,
    start: int = 0,
    ema_decay: float | None = None,
    axis_name: str | None = None,
    learning_rate: Callable[[Array], Array] | None = None,
) -> Callable[[TrainState, Mapping], tuple[TrainState, dict[str, Array]]]:
    """A pure step(state, batch) -> (state, metrics), compiled like that of `make_train_step`.

    Both gradients are taken at the parameters before the step, and the discriminator's at the images that the
    generator's own pass made: one forward, two vjps. Before `start` the discriminator and its optimizer stay as they
    are, and their update is not computed.

    Args:
        generator_loss: `(params, model_state, batch, key, *, discriminator_params, step) ->
            (loss [], (metrics, model_state, fake))`, such as `jaxgen.objectives.vqgan_generator_loss` with the rest
            bound.
        discriminator_loss: `(params, state, batch, fake, key, *, step) -> (loss [], (metrics, state))`, such as
            `jaxgen.objectives.vqgan_discriminator_loss`.
        optimizer: the generator's.
        discriminator_optimizer: the one that `init_adversary` had.
        run_key: the run's random key.
        start: the first step that trains the discriminator; the generator's loss has a `start` of its own.
        ema_decay: of the moving average of the generator's parameters; None for none.
        axis_name: mapped axis of devices over which gradients and metrics are averaged; None under `jit`.
        learning_rate: schedule of the generator's optimizer, where it shall appear in the metrics.

    Returns:
        The step. Metrics are those of both losses and "loss" and "grad_norm" of the generator,
        "discriminator_grad_norm".

    Raises:
        ValueError: `ema_decay` is no fraction; or, when the step runs, the state has no adversary or does not fit
            `ema_decay`.
    """
    check_decay(ema_decay)
    generator_grad = jax.value_and_grad(generator_loss, has_aux=True)
    discriminator_grad = jax.value_and_grad(discriminator_loss, has_aux=True)

    def step(state, batch):
        check_ema(state, ema_decay)
        if state.adversary is None:
            raise ValueError("the state has no adversary: use init_state(...)._replace(adversary=init_adversary(...))")
        keys = jax.random.split(jax.random.fold_in(run_key, state.step))
        params, adversary_params = state.params, state.adversary.params
        if axis_name is not None:
            params, adversary_params = varying((params, adversary_params), axis_name)
        (loss, (metrics, model_state, fake)), grads = generator_grad(
            params, state.model_state, batch, keys[0], discriminator_params=adversary_params, step=state.step)
        if axis_name is not None:
            grads, metrics, loss = jax.lax.pmean((grads, metrics, loss), axis_name)

        def train_discriminator():
            (_, (metrics, new)), grads = discriminator_grad(
                adversary_params, state.adversary.state, batch, jax.lax.stop_gradient(fake), keys[1], step=state.step)
            if axis_name is not None:
                grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
            updates, opt_state = discriminator_optimizer.update(
                grads, state.adversary.opt_state, state.adversary.params)
            adversary = Adversary(optax.apply_updates(state.adversary.params, updates), opt_state, new)
            return adversary, {**metrics, "discriminator_grad_norm": optax.tree.norm(grads)}

        def leave():
            _, metrics = jax.eval_shape(train_discriminator)
            return state.adversary, jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), metrics)

        adversary, adversary_metrics = jax.lax.cond(state.step >= start, train_discriminator, leave)
        state, metrics = learn(
            state, grads, model_state, {**metrics, "loss": loss}, optimizer, ema_decay, learning_rate)
        return state._replace(adversary=adversary), {**metrics, **adversary_metrics}

    step.axis_name = axis_name
    return step
