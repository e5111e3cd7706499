"""How variables go through the levels of a residual quantizer: a set for each level, one for all, or a tuple.

Each kind has `fold(step, variables, carry, xs) -> (carry, ys, state)`, which calls, level by level,

    step(quantizer, variables of the level, carry, x) -> (carry, y, new state of the level, or None)

xs have a leading axis of the levels to go through, which may be fewer than there are.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxgen.core.checks import check_count
from jaxgen.core.mapped import types_after, vary_like
from jaxgen.core.types import Variables
from jaxgen.quantize.types import Quantizer

PyTree = Any


def levels_of(
    quantizer: Quantizer | Sequence[Quantizer], depth: int | None, shared: bool
) -> "EqualLevels | SharedLevels | DifferentLevels":
    """The levels that these arguments of `residual` describe; raises ValueError where they contradict each other."""
    if hasattr(quantizer, "apply"):
        if depth is None:
            raise ValueError("depth=None: say how many levels, or give a sequence of quantizers, one for each level")
        return (SharedLevels if shared else EqualLevels)(quantizer, check_count("depth", depth))
    if not isinstance(quantizer, Sequence) or not quantizer or not all(hasattr(q, "apply") for q in quantizer):
        raise ValueError(f"quantizer must be a quantizer or a sequence of them, one for each level, got {quantizer!r}")
    if shared or depth not in (None, len(quantizer)):
        raise ValueError(f"a sequence of {len(quantizer)} quantizers has its own depth and codebooks, got "
                         f"depth={depth} and shared={shared}: leave both out, or give one quantizer")
    return DifferentLevels(tuple(quantizer))


@dataclasses.dataclass(frozen=True)
class EqualLevels:
    """One quantizer with variables for each level, which carry a leading axis."""

    quantizer: Quantizer
    depth: int

    @property
    def num_codes(self) -> int:
        return self.quantizer.num_codes

    def init(self, key: Array, dim: int) -> Variables:
        return jax.vmap(lambda level_key: self.quantizer.init(level_key, dim))(jax.random.split(key, self.depth))

    def first(self, variables: Variables) -> tuple[Quantizer, Variables]:
        return self.quantizer, jax.tree.map(lambda x: x[0], variables)

    def fold(self, step: Callable, variables: Variables, carry: PyTree, xs: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        count = len(jax.tree.leaves(xs)[0])

        def level(carry, variables_and_x):
            carry, y, state = step(self.quantizer, variables_and_x[0], carry, variables_and_x[1])
            return carry, (y, state)

        carry, (ys, state) = _scan(level, carry, (jax.tree.map(lambda x: x[:count], variables), xs))
        return carry, ys, state


@dataclasses.dataclass(frozen=True)
class SharedLevels:
    """One quantizer with one set of variables, whose state goes from level to level."""

    quantizer: Quantizer
    depth: int

    @property
    def num_codes(self) -> int:
        return self.quantizer.num_codes

    def init(self, key: Array, dim: int) -> Variables:
        return self.quantizer.init(key, dim)

    def first(self, variables: Variables) -> tuple[Quantizer, Variables]:
        return self.quantizer, variables

    def fold(self, step: Callable, variables: Variables, carry: PyTree, xs: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        def level(carry_and_state, x):
            carry, state = carry_and_state
            carry, y, new_state = step(self.quantizer, Variables(variables.params, state), carry, x)
            return (carry, state if new_state is None else new_state), y

        (carry, state), ys = _scan(level, (carry, variables.state), xs)
        return carry, ys, state


@dataclasses.dataclass(frozen=True)
class DifferentLevels:
    """Quantizers that may differ; params and state are tuples."""

    quantizers: tuple[Quantizer, ...]

    @property
    def depth(self) -> int:
        return len(self.quantizers)

    @property
    def num_codes(self) -> int:
        return max(quantizer.num_codes for quantizer in self.quantizers)

    def init(self, key: Array, dim: int) -> Variables:
        keys = jax.random.split(key, len(self.quantizers))
        own = [quantizer.init(level_key, dim) for quantizer, level_key in zip(self.quantizers, keys, strict=True)]
        return Variables(tuple(v.params for v in own), tuple(v.state for v in own))

    def first(self, variables: Variables) -> tuple[Quantizer, Variables]:
        return self.quantizers[0], Variables(variables.params[0], variables.state[0])

    def fold(self, step: Callable, variables: Variables, carry: PyTree, xs: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        ys, states = [], []
        for i in range(len(jax.tree.leaves(xs)[0])):
            own = Variables(variables.params[i], variables.state[i])
            carry, y, state = step(self.quantizers[i], own, carry, jax.tree.map(lambda x, i=i: x[i], xs))
            ys.append(y)
            states.append(state)
        return carry, _stacked(ys), tuple(states)


def _stacked(ys: list[Any]) -> Any:
    """The levels' `(indices, losses)` with a leading axis of levels; a level without a loss of some name adds 0."""
    if ys[0] is None:
        return None
    indices, losses = zip(*ys, strict=True)
    shapes = [level.shape for level in indices]
    if len(set(shapes)) > 1:
        raise ValueError(f"the levels' indices have the shapes {shapes}: levels must have equally many for each vector")
    names = {name: jnp.zeros_like(loss) for level in losses for name, loss in level.items()}
    return jnp.stack(indices), {name: jnp.stack([level.get(name, zero) for level in losses])
                                for name, zero in names.items()}


def _scan(step: Callable, carry: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
    """`lax.scan`, whose first carry is marked inside `shard_map` as varying over the mesh axes that later ones do."""
    after = types_after(lambda carry: step(carry, jax.tree.map(lambda x: x[0], xs))[0], carry)
    return jax.lax.scan(step, jax.tree.map(vary_like, carry, after), xs)
