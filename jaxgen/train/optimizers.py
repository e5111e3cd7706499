"""Optimizers and learning-rate schedules by name, with explicit keyword arguments, on top of optax."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxgen.core.errors import unknown_name

PyTree = Any
Schedule = Callable[[Array], Float[Array, ""]]
SCHEDULES = ("constant", "cosine", "linear")
OPTIMIZERS = ("adam", "adamw", "sgd", "lion")
NOT_DECAYED = ("bias", "scale", "codebook", "embedding")


def make_schedule(
    name: str = "constant",
    *,
    learning_rate: float,
    warmup_steps: int = 0,
    num_steps: int | None = None,
    final: float = 0.0,
) -> Schedule:
    """The learning rate at each step.

    Warm-up, for t < w: lr (t + 1) / w, so that the first update is not lost and the w-th has the full rate.
    Then, with p = min((t - w) / (n - w), 1): constant: lr;  linear: lr + (final - lr) p;
    cosine: final + (lr - final) (1 + cos(pi p)) / 2.

    Args:
        name: "constant", "cosine" or "linear".
        learning_rate: lr, the highest rate.
        warmup_steps: w.
        num_steps: n, the step at which `final` is reached; "cosine" and "linear" need it.
        final: the last rate, not relative to `learning_rate`.

    Returns:
        step [] -> learning rate, float32 [].

    Raises:
        ValueError: an unknown name, or num_steps is missing or not above warmup_steps.
    """
    if name not in SCHEDULES:
        raise unknown_name("schedule", name, SCHEDULES)
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps must not be negative, got {warmup_steps}")
    if name != "constant" and (num_steps is None or num_steps <= warmup_steps):
        raise ValueError(f"schedule {name!r} needs num_steps above warmup_steps={warmup_steps}, got {num_steps}")

    def schedule(step):
        t = jnp.asarray(step, jnp.float32)
        rate = jnp.float32(learning_rate)
        if name != "constant":
            p = jnp.clip((t - warmup_steps) / (num_steps - warmup_steps), 0, 1)
            shape = 1 - p if name == "linear" else (1 + jnp.cos(jnp.pi * p)) / 2
            rate = final + (learning_rate - final) * shape
        return jnp.where(t < warmup_steps, learning_rate * (t + 1) / warmup_steps, rate) if warmup_steps else rate

    return schedule


def make_optimizer(
    name: str = "adam",
    *,
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """An optax optimizer: clipping by global norm, the named rule, decoupled weight decay, the learning rate.

    Args:
        name: "adam", "adamw" (with weight decay), "sgd" (with momentum) or "lion".
        learning_rate: a number or a schedule.
        b1: decay of the first moment (adam, adamw, lion).
        b2: decay of the second moment (adam, adamw, lion).
        eps: added to the root of the second moment (adam, adamw).
        momentum: of sgd; 0 for none.
        weight_decay: theta <- theta - lr weight_decay theta for arrays with two dimensions and more, except biases,
            scales, codebooks and embeddings (`decayed`).
        clip_norm: gradients of a larger global norm are scaled down to it; None for no clipping.

    Returns:
        An optax transformation.

    Raises:
        ValueError: an unknown name, weight decay with "adam", or a negative value.
    """
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    if weight_decay < 0 or (clip_norm is not None and clip_norm <= 0):
        raise ValueError(f"weight_decay={weight_decay} must not be negative and clip_norm={clip_norm} must be positive")
    if not callable(learning_rate) and learning_rate < 0:
        raise ValueError(f"learning_rate must not be negative, got {learning_rate}")
    if name == "adam" and weight_decay:
        raise ValueError(f"optimizer 'adam' takes no weight_decay, got {weight_decay}: use 'adamw'")
    rule = {
        "adam": lambda: optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        "adamw": lambda: optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        "lion": lambda: optax.scale_by_lion(b1=b1, b2=b2),
        "sgd": lambda: optax.trace(decay=momentum) if momentum else optax.identity(),
    }[name]()
    parts = [rule]
    if clip_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(clip_norm))
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay, mask=decayed))
    return optax.chain(*parts, optax.scale_by_learning_rate(learning_rate))


def decayed(params: PyTree) -> PyTree:
    """True for the arrays that weight decay shrinks: matrices and kernels, by dimension and name.

    Args:
        params: the parameters.

    Returns:
        The tree of bools. Codebooks and embeddings are matrices, but their length carries meaning.
    """

    def rule(path, leaf):
        names = jax.tree_util.keystr(path[-1:], simple=True).lower()
        return jnp.ndim(leaf) >= 2 and not any(word in names for word in NOT_DECAYED)

    return jax.tree_util.tree_map_with_path(rule, params)
