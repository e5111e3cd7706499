"""Adversarial training of an encoder: a model's `forward` of images that were perturbed against it.

It is called robust, since in these objectives "adversarial" is the discriminator's term.
"""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from jaxgen.core.checks import check_count, check_not_negative
from jaxgen.core.keys import START_STEP, global_positions
from jaxgen.core.types import AxisName, PyTree, Variables
from jaxgen.losses.attack import pgd
from jaxgen.losses.reconstruction import l2


def robust_forward(
    forward: Callable, response: Callable[[Variables, Array], Float[Array, "B ..."]], *, epsilon: float, steps: int = 1,
    step_size: float | None = None, axis_name: AxisName = None,
) -> Callable:
    """`forward` of x' in place of x in training: the image near x to which the model responds most unlike x.

        x' = argmax mean |response(x') - response(x)|²,   |x' - x| <= epsilon in every entry, x' in [-1, 1]

    by `jaxgen.losses.pgd` from a random start. An objective that takes it still compares with the batch's x: the model
    learns to give the clean image of a perturbed one. It serves every objective that takes a `forward`, `vqvae_loss`
    and `vqgan_generator_loss`, and costs `steps` passes through the response and back, and one more pass.

    Args:
        forward: `(Variables, x, *, train, key) -> (x_r, outputs, state)`, of a `Reconstructing` model.
        response: `(Variables, x) -> [B, ...]`, each example from that example only: `model.to_latents`, for the latents
            before quantization, or `lambda variables, x: model.forward(variables, x)[0]`.
        epsilon: the largest change of an entry of x; 0 leaves x as it is.
        steps: of gradient ascent.
        step_size: None for 2.5 epsilon / steps.
        axis_name: the mapped axis of devices; draws follow the place in the global batch.

    Returns:
        A `forward`; with `train=False` it is the one that was given.

    Raises:
        ValueError: `epsilon` or `step_size` is below 0, `steps` below 1, or training without a key.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018, arXiv:1706.06083;
    of encoders, by their latents: Cemgil et al., "Adversarially robust representations with smooth encoders", 2020.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxgen.core.types import Variables
        >>> def forward(variables, x, *, train=False, key=None):
        ...     return variables.params * x, {}, variables.state
        >>> robust = robust_forward(forward, lambda variables, x: variables.params * x, epsilon=0.25)
        >>> x_r, *_ = robust(Variables(2.0, {}), jnp.zeros((1, 4)), train=True, key=jax.random.key(0))
        >>> jnp.abs(x_r).tolist()
        [[0.5, 0.5, 0.5, 0.5]]
    """
    check_not_negative("epsilon", epsilon)
    steps = check_count("steps", steps)

    def robust(
        variables: Variables, x: Float[Array, "B ..."], *, train: bool = False, key: Array | None = None
    ) -> tuple[Float[Array, "B ..."], Any, PyTree]:
        if not train:
            return forward(variables, x, train=train, key=key)
        if key is None:
            raise ValueError("key=None, but robust_forward draws where its perturbations start: pass "
                             "key=jax.random.key(...)")
        fixed = jax.lax.stop_gradient(variables)
        clean = response(fixed, x)
        positions, _ = global_positions(x.shape[0], axis_name)
        perturbed = pgd(
            jax.random.fold_in(key, START_STEP), lambda x: l2(clean, response(fixed, x)), x, epsilon=epsilon,
            steps=steps, step_size=step_size, sample_ids=positions)
        return forward(variables, perturbed, train=train, key=key)

    return robust
