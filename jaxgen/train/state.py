"""The state of a training run as one pytree: nothing that a resumed run needs lives anywhere else."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

PyTree = Any


class Adversary(NamedTuple):
    """What a GAN's training holds besides its generator."""

    params: PyTree  # the discriminator's
    opt_state: PyTree
    state: PyTree  # of its objective, such as LeCam's averages


class TrainState(NamedTuple):
    """Everything a step reads and writes. Random keys are not in it: they come from the run's key and `step`."""

    step: Int[Array, ""]  # int32, the number of updates done
    params: PyTree
    opt_state: PyTree
    model_state: PyTree  # what the model changes without gradients: EMA codebooks, usage; {} if none
    ema_params: PyTree  # moving average of params, or None
    adversary: Adversary | None = None


def init_state(
    params: PyTree, model_state: PyTree, optimizer: optax.GradientTransformation, *, ema: bool = False
) -> TrainState:
    """The state before the first update.

    Args:
        params: parameters; copied, because a compiled step overwrites the state that it is given.
        model_state: what the model changes without gradients; {} if none.
        optimizer: the one that the step will use.
        ema: whether a moving average of the parameters is kept; it starts as their copy.

    Returns:
        A `TrainState` at step 0.
    """
    params = _copy(params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=_copy(optimizer.init(params)),
        model_state=_copy(model_state),
        ema_params=_copy(params) if ema else None,
    )


def init_adversary(params: PyTree, state: PyTree, optimizer: optax.GradientTransformation) -> Adversary:
    """The discriminator's part of a state before the first update: `init_state(...)._replace(adversary=...)`.

    Args:
        params: the discriminator's parameters; copied.
        state: of its objective; {} if none.
        optimizer: the discriminator's.
    """
    params = _copy(params)
    return Adversary(params, _copy(optimizer.init(params)), _copy(state))


def _copy(tree: PyTree) -> PyTree:
    # With its dtype spelt out, so that no leaf is weakly typed: the first step would change that and compile twice.
    return jax.tree.map(lambda leaf: jnp.array(leaf, jnp.asarray(leaf).dtype, copy=True), tree)
