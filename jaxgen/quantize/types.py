"""The types that every quantizer shares: a quantizer is a pair of pure functions over explicit variables."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int

from jaxgen.core.types import Variables


class QuantizeOutput(NamedTuple):
    """What quantizing vectors `z [..., D]` gives.

    Attributes:
        quantized: `[..., D]` float32. Its value is exactly `lookup(indices)`; its gradient is the estimator's. It is
            NaN, with index 0 and losses that are NaN, for a vector with a component that is NaN, infinite or beyond
            1e15, which changes no state.
        indices: `[...]` int32; residual and grouped quantizers append an axis, `[..., depth]` or `[..., groups]`.
        losses: per vector, `[...]` float32 each and already weighted: "codebook", "commitment", "entropy" where
            they apply; 0 where a vector is not `valid`. An objective adds the mean of each, which with a mask is
            `jnp.sum(loss) / jnp.maximum(jnp.sum(valid), 1)`, both sums over all devices.
    """

    quantized: Float[Array, "... D"]
    indices: Int[Array, "..."]
    losses: dict[str, Float[Array, "..."]]


class Quantizer(NamedTuple):
    """A quantizer: pure functions, like an optax transformation.

    Quantizers whose functions are methods of equal settings are equal and have one hash, so that as a static argument
    of `jax.jit` they compile once; every quantizer of this package is made so, and can be pickled.

    Attributes:
        init: `(key, dim) -> Variables` for vectors of `dim` components.
        apply: `(variables, z, *, train=False, key=None, valid=None) -> (QuantizeOutput, state)`. The state changes
            only with `train=True`, and keeps its dtypes. `key` is needed for training when something is drawn
            (k-means, revival, Gumbel noise); under `axis_name` every device passes the same key. `valid` `[...]` is
            a mask of the vectors that count: the others (padding of sequences) are quantized, but their losses are
            0, and neither the state nor a statistic over the batch sees them.
        lookup: `(variables, indices) -> [..., D]` float32. An index out of range raises `ValueError` when the
            indices are concrete; under `jit`, where nothing can be raised, its vector is NaN, never another code's.
        num_codes: how many values one index takes.
    """

    init: Callable[..., Variables]
    apply: Callable[..., tuple[QuantizeOutput, Any]]
    lookup: Callable[[Variables, Array], Array]
    num_codes: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantizer) and _settings(self) == _settings(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(_settings(self))


def _settings(quantizer: Quantizer) -> tuple:
    """The fields, each method as its function and its object: two methods are equal to Python only of one object."""
    return tuple((getattr(field, "__func__", field), getattr(field, "__self__", None)) for field in quantizer)
