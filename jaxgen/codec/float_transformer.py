"""The transformer of a token prior in NumPy, which tells how large each of its values becomes.

It is a second reading of `jaxgen.nn.Transformer`'s parameters, from which the whole-number network is made and with
which it is compared; nothing is coded with it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

EPSILON = 1e-6


def forward(
    params: Mapping[str, Any], tokens: Int[np.ndarray, "B N levels"], condition: Float[np.ndarray, "D"] | None, *,
    heads: int, causal: bool, ranges: dict[str, float] | None = None,
) -> Float[np.ndarray, "B N K"]:
    """Logits, those of all levels in one axis.

    Args:
        params: of the network, arrays by name.
        tokens: as the network takes them.
        condition: what modulates every token, the sum of the embeddings of time and class; None where there is none.
        heads: of attention.
        causal: logits are of the next token.
        ranges: takes the largest absolute value of each intermediate one, by name.
    """
    ranges = {} if ranges is None else ranges

    def seen(name, x):
        ranges[name] = max(ranges.get(name, 0.0), float(np.abs(x).max()))
        return x

    x = sum(params[f"tokens{i}"]["embedding"][tokens[..., i]] for i in range(tokens.shape[-1]))
    if causal:
        x = np.concatenate([np.broadcast_to(params["start"], (len(x), 1, x.shape[-1])), x[:, :-1]], axis=1)
    x = seen("stream", x + params["positions"]["embedding"][:x.shape[1]])
    depth = sum(name.startswith("block") for name in params)
    for i in range(depth):
        block, name = params[f"block{i}"], f"block{i}"
        parts = modulation(block, condition)
        h = seen(f"{name}/norm1", modulated(x, block.get("norm1"), parts[0], parts[1]))
        h = seen(f"{name}/mixed", _attend(block["attention"], h, heads, causal, name, seen))
        x = seen("stream", x + parts[2] * dense(block["attention"]["out"], h))
        h = seen(f"{name}/norm2", modulated(x, block.get("norm2"), parts[3], parts[4]))
        h = seen(f"{name}/active", gelu(seen(f"{name}/hidden", dense(block["mlp1"], h))))
        x = seen("stream", x + parts[5] * dense(block["mlp2"], h))
    shift, factor = output_modulation(params["out"], condition)
    return dense(params["out"]["dense"], seen("out", modulated(x, params["out"].get("norm"), shift, factor)))


def condition_of(params: Mapping[str, Any], time: float | None, time_scale: float) -> Float[np.ndarray, "D"] | None:
    """What modulates a network without a class: the sum of its embeddings of time and of "no class".

    Args:
        params: of the network.
        time: None for a network without one.
        time_scale: see `jaxgen.nn.Transformer`.
    """
    layers = params.get("condition", {})
    parts = []
    if "time" in layers:
        half = len(layers["time"]["dense1"]["kernel"]) // 2
        angles = time * time_scale * 10000.0 ** (-np.arange(half) / half)
        wave = np.concatenate([np.cos(angles), np.sin(angles)])
        parts.append(dense(layers["time"]["dense2"], swish(dense(layers["time"]["dense1"], wave))))
    if "class" in layers:
        parts.append(layers["class"]["table"]["embedding"][-1])
    return sum(parts) if parts else None


def modulation(block: Mapping[str, Any], condition: Float[np.ndarray, "D"] | None) -> list[Any]:
    """(shift, scale, gate) of attention and of the MLP."""
    if condition is None:
        return [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    return np.split(dense(block["modulation"], swish(condition)), 6)


def output_modulation(layer: Mapping[str, Any], condition: Float[np.ndarray, "D"] | None) -> list[Any]:
    """(shift, scale) of the last layer."""
    return [0.0, 0.0] if condition is None else np.split(dense(layer["modulation"], swish(condition)), 2)


def modulated(x, affine, shift, factor):
    """(1 + factor) norm(x) + shift, of a norm with its own scale and bias if it has them."""
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + EPSILON)
    return (1 + factor) * (x if affine is None else x * affine["scale"] + affine["bias"]) + shift


def dense(layer: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """x kernel + bias."""
    return x @ layer["kernel"] + layer["bias"]


def swish(x: np.ndarray) -> np.ndarray:
    """x sigmoid(x)."""
    return x / (1 + np.exp(-x))


def gelu(x: np.ndarray) -> np.ndarray:
    """In the form with tanh, as flax has it."""
    return x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2


def split_heads(x: np.ndarray, heads: int) -> np.ndarray:
    """[B, N, D] to [B, heads, N, D / heads]."""
    return np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)


def _attend(layer, h, heads, causal, name, seen):
    query, key, value = (split_heads(seen(f"{name}/{part}", dense(layer[part], h)), heads)
                         for part in ("query", "key", "value"))
    scores = query @ np.swapaxes(key, 2, 3) / np.sqrt(query.shape[-1])
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape[2:], bool)), scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = shares / shares.sum(-1, keepdims=True) @ value
    return np.swapaxes(mixed, 1, 2).reshape(h.shape)
