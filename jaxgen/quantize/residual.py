"""Residual quantization: each level quantizes what the levels before it left over.

    r_1 = z,   q_i = Q_i(r_i),   r_{i+1} = r_i - q_i,   q = sum_i q_i
    losses: the mean over the levels; level i's commitment is beta |z - sg(q_1 + ... + q_i)|^2

The derivative of q is that of the composition, each level with its own estimator: with straight-through levels it is
the identity, whatever the depth. The losses see z less a constant, so that each level's commitment reaches z in full.

The two derivatives differ, hence the custom rule below, which calls a quantizer once for both.

References: Lee et al. 2022, "Autoregressive Image Generation using Residual Quantization", arXiv:2203.01941;
dropout of levels: Zeghidour et al. 2021, "SoundStream", arXiv:2107.03312; Kumar et al. 2023, "High-Fidelity Audio
Compression with Improved RVQGAN", arXiv:2306.06546.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import zero_from_primal
from jaxtyping import Array, Bool, Float, Int

from jaxgen.core.checks import check_count
from jaxgen.core.mapped import first_position
from jaxgen.core.types import AxisName, Variables
from jaxgen.quantize.apply import apply_quantizer
from jaxgen.quantize.checks import check_indices, need_key
from jaxgen.quantize.levels import DifferentLevels, EqualLevels, SharedLevels, levels_of
from jaxgen.quantize.types import QuantizeOutput, Quantizer
from jaxgen.quantize.vectors import checked_mask

PyTree = Any


def residual(
    quantizer: Quantizer | Sequence[Quantizer],
    depth: int | None = None,
    *,
    shared: bool = False,
    dropout: float = 0.0,
    min_levels: int = 1,
    axis_name: AxisName = None,
) -> Quantizer:
    """Quantizers one after the other, each of what is left by those before it.

    q = sum_i q_i, q_i = Q_i(z - sum_{j<i} q_j).

    `lookup` also takes the indices of the first levels only, `indices[..., :k]`, and gives the sum of k codes.

    With `dropout`, training uses a random number n of levels for each example (element of z's first axis):
    n = depth with probability `1 - dropout`, otherwise uniform over `min_levels, ..., depth`. `quantized` is the sum of
    the first n codes. The levels beyond see none of the example's vectors: their losses are 0 there (the mean is over
    all levels still), their codebooks and usage do not move by them. Their indices are as without dropout, so that
    `quantized` is `lookup(indices[..., :n])`.

    Args:
        quantizer: of each level; or a sequence of quantizers, one for each level, which may differ.
        depth: levels; left out for a sequence.
        shared: one codebook for all levels instead of one for each. What training changes without a gradient (EMA,
            k-means, revival) passes through the levels in order: each level reads the codebook as the level before
            left it and moves it by its own vectors. So one training step makes `depth` moves, and its `quantized` is
            the sum of codes between which the codebook moved.
        dropout: probability, 0 to 1; for example .5 (Kumar et al. 2023), or 1 (Zeghidour et al. 2021).
        min_levels: the fewest levels that dropout leaves.
        axis_name: mapped axis or axes over which the batch is split; dropout counts examples over them.

    Returns:
        A `Quantizer` whose indices have a last axis of `depth` and whose losses are means over the levels. Its
        variables carry a leading axis of `depth`; shared ones are those of `quantizer`; those of a sequence are tuples.
        `num_codes` is that of one level; of the largest where they differ, so that not all of these indices are in
        range for the others.

    Raises:
        ValueError: no quantizer, `depth` below 1 or missing, a sequence with `depth` or `shared`, `dropout` outside
            [0, 1], `min_levels` outside [1, depth], training with dropout without a key, or indices of no level or of
            more than `depth`.

    References: Lee et al. 2022, arXiv:2203.01941; Zeghidour et al. 2021, arXiv:2107.03312; Kumar et al. 2023,
    arXiv:2306.06546.

    Example:
        >>> from jaxgen.quantize import vq
        >>> quantizer = residual(vq(16), depth=3)
        >>> variables = quantizer.init(jax.random.key(0), 4)
        >>> output, _ = quantizer.apply(variables, jnp.ones((2, 5, 4)))
        >>> output.indices.shape, quantizer.lookup(variables, output.indices[..., :2]).shape
        ((2, 5, 3), (2, 5, 4))
    """
    levels = levels_of(quantizer, depth, shared)
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout must be a probability from 0 to 1, got {dropout!r}")
    min_levels = check_count("min_levels", min_levels)
    if min_levels > levels.depth:
        raise ValueError(f"min_levels={min_levels} is more than the depth of {levels.depth}: choose at most that")
    settings = _Residual(levels, float(dropout), min_levels, axis_name)
    return Quantizer(levels.init, settings.apply, settings.lookup, levels.num_codes)


@dataclasses.dataclass(frozen=True)
class _Residual:
    """The functions of `residual`, whatever the levels' codebooks."""

    levels: EqualLevels | SharedLevels | DifferentLevels
    dropout: float
    min_levels: int
    axis_name: AxisName

    def apply(
        self, variables: Variables, z: Float[Array, "... D"], *, train: bool = False, key: Array | None = None,
        valid: Bool[Array, "..."] | None = None,
    ) -> tuple[QuantizeOutput, PyTree]:
        z = jnp.asarray(z)
        z = z.astype(jnp.float32) if jnp.issubdtype(z.dtype, jnp.floating) else z
        in_use = None
        if train and self.dropout:
            in_use = self._levels_in_use(key, z.shape[:-1])
            valid = jnp.ones_like(in_use, bool) if valid is None else checked_mask(valid, in_use.shape)

        def step(quantizer: Quantizer, variables: Variables, sums: tuple, level: tuple) -> tuple:
            total, kept = sums
            number, level_key = level
            used = None if in_use is None else number < in_use
            counts = valid if used is None else used & valid
            left = z - jax.lax.stop_gradient(total)
            output, state = _quantize(quantizer, train)(*variables, z - total, left, level_key, counts)
            total = total + output.quantized
            kept = None if used is None else jnp.where(used[..., None], total, kept)
            return (total, kept), (output.indices, output.losses), state

        zero = jnp.zeros_like(z)
        keys = None if key is None else jax.random.split(key, self.levels.depth)
        sums = (zero, None if in_use is None else zero)
        (total, kept), (indices, losses), state = self.levels.fold(
            step, variables, sums, (jnp.arange(self.levels.depth, dtype=jnp.int32), keys)
        )
        losses = jax.tree.map(lambda loss: jnp.mean(loss, axis=0), losses)
        quantized = total if in_use is None else kept
        return QuantizeOutput(quantized, jnp.moveaxis(indices, 0, -1), losses), state

    def lookup(self, variables: Variables, indices: Int[Array, "... k"]) -> Float[Array, "... D"]:
        indices, depth = jnp.asarray(indices), self.levels.depth
        if indices.ndim == 0 or not 1 <= indices.shape[-1] <= depth:
            raise ValueError(f"indices has shape {indices.shape}, but a residual quantizer of depth {depth} needs "
                             f"[..., k], the indices of its first k levels, 1 <= k <= {depth}.")
        check_indices(indices, self.levels.num_codes)

        def step(quantizer: Quantizer, variables: Variables, total: Array, level: Array) -> tuple:
            return total + quantizer.lookup(variables, level), None, None

        levels = jnp.moveaxis(indices, -1, 0)
        first, own = self.levels.first(variables)
        zero = jnp.zeros_like(jax.eval_shape(first.lookup, own, levels[0]))
        return self.levels.fold(step, variables, zero, levels)[0]

    def _levels_in_use(self, key: Array | None, shape: tuple[int, ...]) -> Int[Array, "..."]:
        """How many levels each vector uses; drawn by the example's position in the global batch."""
        # No level has this key: theirs are fold_in(key, 0), ..., fold_in(key, depth - 1), which is what split gives.
        key = jax.random.fold_in(need_key(key, "residual with dropout"), self.levels.depth)
        examples = shape[0] if shape else 1

        def draw(position):
            dropped, count = jax.random.split(jax.random.fold_in(key, position))
            fewer = jax.random.randint(count, (), self.min_levels, self.levels.depth + 1, jnp.int32)
            return jnp.where(jax.random.uniform(dropped, (), jnp.float32) < self.dropout, fewer, self.levels.depth)

        positions = first_position(examples, self.axis_name) + jnp.arange(examples, dtype=jnp.int32)
        drawn = jax.vmap(draw)(positions)
        return jnp.broadcast_to(drawn.reshape(shape[:1] + (1,) * len(shape[1:])), shape)


def _quantize(quantizer: Quantizer, train: bool) -> Callable:
    """`(params, state, z, left, key, valid) -> (output, state)`; `z` and `left` are equal in value.

    The derivative of `output.quantized` is taken along `z`, that of `output.losses` along `left`.
    """

    def call(params, state, z, key, valid):
        return apply_quantizer(quantizer, Variables(params, state), z, train=train, key=key, valid=valid)

    @jax.custom_jvp
    def quantize(params, state, z, left, key, valid):
        return call(params, state, z, key, valid)

    @quantize.defjvp
    def quantize_jvp(primals, tangents):
        params, state, z, _, key, valid = primals
        params_dot, _, z_dot, left_dot, _, _ = tangents

        def differentiable(params, z):
            output, new_state = call(params, state, z, key, valid)
            return (output.quantized, output.losses), (output.indices, new_state)

        (quantized, losses), linear, (indices, new_state) = jax.linearize(differentiable, params, z, has_aux=True)
        indices_dot, state_dot = zero_from_primal((indices, new_state))
        output_dot = QuantizeOutput(linear(params_dot, z_dot)[0], indices_dot, linear(params_dot, left_dot)[1])
        return (QuantizeOutput(quantized, indices, losses), new_state), (output_dot, state_dot)

    return quantize
