"""One pure training step: loss, gradients, optimizer, moving average."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxgen.core.mapped import vary
from jaxgen.train.ema import update_ema
from jaxgen.train.state import TrainState

PyTree = Any
LossFn = Callable[[PyTree, PyTree, Mapping, Array], tuple[Array, tuple[dict, PyTree]]]


def make_train_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    run_key: Array,
    ema_decay: float | None = None,
    accumulate: int = 1,
    axis_name: str | None = None,
    learning_rate: Callable[[Array], Array] | None = None,
) -> Callable[[TrainState, Mapping], tuple[TrainState, dict[str, Array]]]:
    """A pure step(state, batch) -> (state, metrics); compile it with `compile_step` or `pmap_step`.

    g = grad loss_fn(params);  params <- params + optimizer(g);  ema <- d ema + (1 - d) params;  step <- step + 1.
    The key of a step is fold_in(run_key, step), the same on every device of `axis_name`: a loss that draws noise per
    example under `axis_name` folds in the example's id or the device's index.

    Args:
        loss_fn: `(params, model_state, batch, key) -> (loss [], (metrics, model_state))`, a mean over the batch.
        optimizer: an optax transformation.
        run_key: the run's random key; with the step's number it is all the randomness there is.
        ema_decay: decay of the moving average of parameters (`jaxgen.train.ema`); needs a state with `ema_params`.
        accumulate: number of micro-batches, one after the other, whose mean gradient is one update. Micro-batch i
            holds the examples i, i + accumulate, ... (each device keeps its own examples), gets the key
            fold_in(key, i), and `model_state` passes through them in order.
        axis_name: mapped axis of devices (`pmap`, `shard_map`) over which gradients and metrics are averaged. The
            loss makes `model_state` global itself. None under `jit`, where the batch is one array.
        learning_rate: schedule of the optimizer, where it shall appear in the metrics.

    Returns:
        The step. Metrics are those of the loss and "loss", "grad_norm" (before clipping), "learning_rate" if known.

    Raises:
        ValueError: `accumulate` is below 1, or (when the step runs) does not divide the batch, or `ema_decay` and the
            state's `ema_params` do not fit.
    """
    if accumulate < 1:
        raise ValueError(f"accumulate must be at least 1, got {accumulate}")
    check_decay(ema_decay)
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)

    def step(state, batch):
        check_ema(state, ema_decay)
        key = jax.random.fold_in(run_key, state.step)
        params = state.params if axis_name is None else varying(state.params, axis_name)
        if accumulate == 1:
            (loss, (metrics, model_state)), grads = value_and_grad(params, state.model_state, batch, key)
        else:
            micro = split_batch(batch, accumulate)
            loss, metrics, model_state, grads = _accumulated(value_and_grad, params, state.model_state, micro, key)
        metrics = {**metrics, "loss": loss}
        if axis_name is not None:
            grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
        return learn(state, grads, model_state, metrics, optimizer, ema_decay, learning_rate)

    step.axis_name = axis_name
    return step


def check_decay(ema_decay: float | None) -> None:
    """Raises ValueError unless the decay is None or lies in [0, 1]."""
    if ema_decay is not None and not 0 <= ema_decay <= 1:
        raise ValueError(f"ema_decay must lie in [0, 1], got {ema_decay}")


def check_ema(state: TrainState, ema_decay: float | None) -> None:
    """Raises ValueError unless the state has an average of the parameters exactly where there is a decay."""
    if (state.ema_params is None) != (ema_decay is None):
        has = "no" if state.ema_params is None else "some"
        fix = f"use init_state(..., ema={ema_decay is not None}), or change ema_decay"
        raise ValueError(f"ema_decay={ema_decay} but the state has {has} ema_params: {fix}")


def learn(
    state: TrainState, grads: PyTree, model_state: PyTree, metrics: dict[str, Array],
    optimizer: optax.GradientTransformation, ema_decay: float | None,
    learning_rate: Callable[[Array], Array] | None,
) -> tuple[TrainState, dict[str, Array]]:
    """The state after an update by the gradients, and the metrics with those of the update; see `make_train_step`."""
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {**metrics, "grad_norm": optax.tree.norm(grads)}
    if learning_rate is not None:
        metrics["learning_rate"] = jnp.asarray(learning_rate(state.step), jnp.float32)
    ema_params = state.ema_params
    if ema_decay is not None:
        ema_params = update_ema(ema_params, params, ema_decay, state.step)
    return state._replace(step=state.step + 1, params=params, opt_state=opt_state, model_state=model_state,
                          ema_params=ema_params), metrics


def split_batch(batch: Mapping, parts: int) -> PyTree:
    """[B, ...] -> [parts, B / parts, ...]; part i holds the examples i, i + parts, ...

    Args:
        batch: a tree of arrays [B, ...].
        parts: how many.

    Returns:
        The same tree. A batch sharded over devices in contiguous pieces stays where it is.

    Raises:
        ValueError: `parts` does not divide B.
    """

    def split(leaf):
        if leaf.shape[0] % parts:
            raise ValueError(
                f"accumulate={parts} does not divide the batch of {leaf.shape[0]} examples (per device under pmap): "
                f"use a multiple of {parts}"
            )
        return jnp.moveaxis(leaf.reshape(leaf.shape[0] // parts, parts, *leaf.shape[1:]), 1, 0)

    return jax.tree.map(split, batch)


def _accumulated(value_and_grad, params, model_state, micro, key):
    parts = jax.tree.leaves(micro)[0].shape[0]

    def body(carry, inputs):
        model_state, total = carry
        i, batch = inputs
        (loss, (metrics, model_state)), grads = value_and_grad(params, model_state, batch, jax.random.fold_in(key, i))
        total = jax.tree.map(lambda t, g: t + g.astype(t.dtype), total, grads)
        return (model_state, total), (loss, metrics)

    zeros = jax.tree.map(lambda p: jnp.zeros_like(p, jnp.promote_types(p.dtype, jnp.float32)), params)
    (model_state, total), history = jax.lax.scan(body, (model_state, zeros), (jnp.arange(parts), micro))
    loss, metrics = jax.tree.map(lambda values: jnp.mean(values, 0), history)
    grads = jax.tree.map(lambda t, p: (t / parts).astype(p.dtype), total, params)
    return loss, metrics, model_state, grads


def varying(tree: PyTree, axis_name: str) -> PyTree:
    """Marks parameters as varying over the devices of an axis, so that each gets its own gradient, as under pmap.

    `shard_map` sums the gradients of what is equal on all devices; the steps here take the mean, once.
    """

    return vary(tree, frozenset({axis_name}))
