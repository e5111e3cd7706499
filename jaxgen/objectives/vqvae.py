"""The VQ-VAE objective (van den Oord, Vinyals & Kavukcuoglu, 2017), for one level of codes or several."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.types import AxisName, Variables
from jaxgen.losses.reconstruction import l2
from jaxgen.objectives.batch import get_example
from jaxgen.quantize import QuantizeOutput, usage

PyTree = Any


def vqvae_loss(
    params: PyTree,
    state: PyTree,
    batch: Mapping[str, Array],
    key: Array | None,
    *,
    forward: Callable,
    reconstruction: Callable[[Array, Array], Float[Array, "B"]] = l2,
    num_codes: int | Mapping[str, int] | None = None,
    train: bool = True,
    axis_name: AxisName = None,
    entry: str = "image",
) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree]]:
    """mean reconstruction(x, x_r) + the sum of the quantizers' own losses, each a mean over its vectors.

    Args:
        params: parameters, differentiated by the caller.
        state: the quantizers' state.
        batch: {"image": [B, ...] in [-1, 1]}; other entries are left alone.
        key: random key for what the quantizers draw; None where they draw nothing.
        forward: `(Variables, x, *, train, key) -> (x_r, outputs, state)`, where outputs is a `QuantizeOutput` or
            anything else with `losses`, a dict of arrays whose means are added; a dict of such; or {}.
        reconstruction: `(x, x_r) -> [B]`.
        num_codes: where given (a number, or one per level), the metrics include each level's perplexity in the batch;
            that of each level of a residual or grouped quantizer is "0_perplexity", "1_perplexity" and so on.
        train: False leaves the quantizers' state as it is.
        axis_name: the mapped axis of devices, so that perplexity counts the whole batch.
        entry: which entry of the batch is the example.

    Returns:
        (loss [], (metrics, state)): scalars by name, and the quantizers' new state.

    Raises:
        ValueError: the batch has no such entry, or it holds bytes or other whole numbers.
    """
    x = get_example(batch, entry)
    x_r, outputs, state = forward(Variables(params, state), x, train=train, key=key)
    distance = jnp.mean(reconstruction(x, x_r))
    penalty, metrics = quantizer_loss(outputs, num_codes, axis_name)
    loss = distance + penalty
    return loss, ({"loss": loss, "reconstruction": distance, **metrics}, state)


def quantizer_loss(
    outputs: QuantizeOutput | Mapping[str, QuantizeOutput], num_codes: int | Mapping[str, int] | None,
    axis_name: AxisName,
) -> tuple[Float[Array, ""] | float, dict[str, Array]]:
    """The sum of the quantizers' own losses, each a mean over its vectors, and metrics; arguments of `vqvae_loss`."""
    loss, metrics = 0.0, {}
    levels = outputs if isinstance(outputs, Mapping) else {None: outputs}
    for level, output in levels.items():
        prefix = f"{level}_" if level else ""
        for name, values in output.losses.items():
            metrics[prefix + name] = jnp.mean(values)
            loss += metrics[prefix + name]
        if num_codes is not None and hasattr(output, "indices"):
            codes = num_codes[level] if isinstance(num_codes, Mapping) else num_codes
            # Residual and grouped quantizers append axes, each of whose indices belong to codebooks of their own.
            appended = max(output.indices.ndim - output.quantized.ndim + 1, 0)
            # A vector that is not finite is NaN and has index 0, which it does not use.
            valid = ~jnp.isnan(output.quantized[..., 0])
            counted = usage(output.indices, codes, levels=appended, valid=valid, axis_name=axis_name)
            perplexity = counted.perplexity.reshape(-1)
            names = [f"{i}_" for i in range(perplexity.size)] if perplexity.size > 1 else [""]
            metrics |= {f"{prefix}{name}perplexity": value for name, value in zip(names, perplexity, strict=True)}
    return loss, metrics
