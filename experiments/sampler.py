"""What every sampler of pictures is: a call for a batch, and all samples in batches of one size."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxgen.core.checks import check_finite
from jaxgen.core.types import Variables

BATCH = 64


class Sampler:
    """Pictures of a model; one program serves all seeds, conditions, guidance scales and grids of one length.

    Args:
        model: the model.
        image_shape: [H, W, C].
        sampling: solver, steps and guidance, as `config.sampling` has them.

    Raises:
        ValueError: a setting is NaN or infinite (guidance_high may be infinite).
    """

    def __init__(self, model: Any, image_shape: Sequence[int], sampling: Mapping[str, Any]):
        self.model, self.image_shape, self.sampling = model, tuple(image_shape), sampling
        for name, value in sampling.items():
            if isinstance(value, float) and (name, value) != ("guidance_high", float("inf")):
                check_finite(name, value)

    def __call__(self, variables: Variables, key: jax.Array, ids: jax.Array, cond: Mapping[str, jax.Array]) -> Any:
        """Pictures [B, H, W, C] in [-1, 1] of the samples `ids` [B], with conditions of the same length."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample as the model sees it: a picture, latents (h, w, D) or codes (h, w) or (h, w, levels)."""
        return self.image_shape

    @property
    def evaluations(self) -> int:
        """Network evaluations of one sample without guidance; with it, up to twice as many."""
        raise NotImplementedError

    def many(self, variables: Variables, key: jax.Array, cond: Mapping[str, np.ndarray], count: int, *,
             batch: int = BATCH, bar: bool = False) -> Iterator[Any]:
        """`__call__` for samples 0 to count - 1 in batches of one size; what fills up the last one is cut off."""
        batch = min(batch, count)
        for start in tqdm(range(0, count, batch), unit="batch", disable=None if bar else True):
            ids = np.arange(start, start + batch)
            part = {name: jnp.asarray(value[np.minimum(ids, count - 1)]) for name, value in cond.items()}
            result = self(variables, key, jnp.asarray(ids), part)
            kept = slice(min(batch, count - start))
            yield jax.tree.map(lambda a, kept=kept: np.asarray(a[..., kept, :, :, :]), result)

    def all(self, variables: Variables, key: jax.Array, cond: Mapping[str, np.ndarray], count: int, *,
            batch: int = BATCH, bar: bool = False) -> np.ndarray:
        """The pictures of `many` as one array [count, H, W, C]."""
        return np.concatenate(list(self.many(variables, key, cond, count, batch=batch, bar=bar)))
