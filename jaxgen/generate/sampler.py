"""What every sampler is: a pure function for a batch, made of a model and settings; and all samples in batches."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from tqdm import tqdm

from jaxgen.core.checks import check_finite
from jaxgen.core.cpu import compiler_options
from jaxgen.core.types import Variables

BATCH = 64


class Work(NamedTuple):
    """What a sampler computes for a batch, to measure it by.

    Attributes:
        lower: `(variables, key, ids [B], cond) -> jax.stages.Lowered`, the program of `Sampler.draw`.
        network: `(variables, encoded, ids [B]) -> Any`, one network evaluation of each sample, of an encoded cond.
        once: `(variables, cond, ids [B]) -> (encoded, x [B, ...])`, what is computed once: conditions are encoded, and
            what was drawn is decoded.
        evaluations: `() -> int`, network evaluations of one sample, counted, with those that guidance adds.
    """

    lower: Callable[..., jax.stages.Lowered]
    network: Callable[..., Any]
    once: Callable[..., tuple[Any, Array]]
    evaluations: Callable[[], int]


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A model with settings.

    Attributes:
        model: the model.
        settings: solver, steps, guidance, as `config.sampling` has them.
        draw: `(variables, key, ids [B], cond) -> x [B, ...]`, compiled: images about in [-1, 1]. One program serves
            all seeds, conditions, guidance scales and grids of one length. Sample i depends on the key and on ids[i].
            With a trajectory it returns (x, [steps, B, ...]).
        parts: what editing needs of it, such as the solver and the noise levels.
        work: what measuring needs of it.
    """

    model: Any
    settings: Mapping[str, Any]
    draw: Callable[[Variables, PRNGKeyArray, Int[Array, "B"], Mapping[str, Array]], Any]
    parts: Any = None
    work: Work | None = None


def compiled(function: Callable, model: Any, **static: Any) -> Callable:
    """`function(model, ..., **static)` under `jax.jit`: one program for all samplers of a model.

    Args:
        function: of the model, of arrays, and of what is fixed by keyword.
        model: told apart by identity, so that its fields may be arrays.
        **static: hashable values.
    """
    return _compiled(function, _Itself(model), tuple(sorted(static.items())))


class _Itself:
    """A key that is equal only where its model is the same object."""

    def __init__(self, model: Any):
        self.model = model

    def __hash__(self) -> int:
        return id(self.model)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and other.model is self.model


@lru_cache(maxsize=64)
def _compiled(function: Callable, itself: _Itself, static: tuple[tuple[str, Any], ...]) -> Callable:
    return jax.jit(partial(function, itself.model, **dict(static)), compiler_options=compiler_options())


def check_settings(settings: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the defaults of those that are missing.

    Raises:
        ValueError: one does not apply to the model, or is NaN or infinite (guidance_high may be infinite).
    """
    for name, value in settings.items():
        if name not in known:
            raise ValueError(f"{name}={value} does not apply to this model: its settings are "
                             f"{', '.join(sorted(known))}")
        if isinstance(value, float) and (name, value) != ("guidance_high", float("inf")):
            check_finite(name, value)
    return {**known, **settings}


def sample_batches(
    sampler: Sampler, variables: Variables, key: PRNGKeyArray, cond: Mapping[str, np.ndarray], count: int, *,
    batch: int = BATCH, bar: bool = False,
) -> Iterator[Any]:
    """What `sampler.draw` returns for samples 0 to count - 1, in batches of one size, as NumPy arrays.

    Args:
        cond: of `count` samples, `model.conditions.parse(count, ...)`.
        batch: samples at a time; what fills up the last batch is cut off.
        bar: shows progress on a terminal.
    """
    batch = min(batch, count)
    for start in tqdm(range(0, count, batch), unit="batch", disable=None if bar else True):
        ids = np.arange(start, start + batch)
        part = {name: jnp.asarray(value[np.minimum(ids, count - 1)]) for name, value in cond.items()}
        result = sampler.draw(variables, key, jnp.asarray(ids), part)
        size = min(batch, count - start)
        if isinstance(result, tuple):
            yield np.asarray(result[0][:size]), np.asarray(result[1][:, :size])
        else:
            yield np.asarray(result[:size])


def sample(
    sampler: Sampler, variables: Variables, key: PRNGKeyArray, cond: Mapping[str, np.ndarray], count: int, *,
    batch: int = BATCH, bar: bool = False,
) -> np.ndarray:
    """Samples [count, ...] of a sampler without a trajectory; see `sample_batches`.

    Example:
        >>> from jaxgen.generate import make_sampler
        >>> from jaxgen.models import build
        >>> model = build("diffusion", shape=(4, 4, 1), network={"name": "dit", "features": 8, "depth": 1, "heads": 1})
        >>> variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), (4, 4, 1))
        >>> sampler = make_sampler(model, {"solver": "euler", "steps": 2})
        >>> sample(sampler, variables, jax.random.key(1), {}, 3, batch=2).shape
        (3, 4, 4, 1)
    """
    return np.concatenate(list(sample_batches(sampler, variables, key, cond, count, batch=batch, bar=bar)))
