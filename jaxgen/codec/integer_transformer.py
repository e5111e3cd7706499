"""The transformer of a token prior in whole numbers: the same logits on every machine, in every batch.

    network = quantize(params, calibration, heads=4, causal=True)     # from float32, with ranges as these tokens have
    logits, _ = forward(network.sizes, network.arrays, tokens)        # int32, of 1/64 nats, for `softmax_frequencies`

The residual stream has 19 bits, what goes into a product 14, weights 8 with a scale for each output, queries 11, keys
and values 8. Between two products stands one multiplication per number, by 15 bits. A network with conditions has the
modulation of each of its steps as multipliers and sums: a masked prior has as many steps as groups of tokens.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgen.codec import float_transformer
from jaxgen.codec.integer import ACTIVATION, LARGEST_ROWS, WEIGHT, normalize, product, scale, softmax, to_multiplier
from jaxgen.codec.tables import GRID, exponentials

STREAM = 1 << 17  # the largest calibrated value of the residual stream, which may reach twice that
QUERY, KEY = (1 << 10) - 1, WEIGHT
NORM = 14  # fraction bits of a norm's result
SHARE = 13  # of the weights of attention
HIDDEN = 1 << 11  # entries of the activation's table on either side of 0
MAX_HEAD = 128  # features of a head: the sums of queries times keys stay below 2^24
_FAR = 1 << 26


class Cache(NamedTuple):
    """Keys and values so far."""

    keys: Int[Array, "depth B heads N d"]
    values: Int[Array, "depth B heads N d"]


class Sizes(NamedTuple):
    """What is fixed of a network: blocks, heads, tokens per position, causality, and the shift of each multiplier."""

    depth: int
    heads: int
    levels: int
    causal: bool
    shifts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class IntegerTransformer:
    """A network of whole numbers.

    Attributes:
        sizes: static.
        unit: what 1 of the residual stream stands for.
        weights: `weights_of` the float network and the unit.
        tables: all other arrays by name, int32.
    """

    sizes: Sizes
    unit: float
    weights: dict[str, Int[np.ndarray, "..."]]
    tables: dict[str, Int[np.ndarray, "..."]]

    @property
    def arrays(self) -> dict[str, Int[np.ndarray, "..."]]:
        """What it computes with."""
        return self.weights | self.tables

    @functools.cached_property
    def on_device(self) -> dict[str, Int[Array, "..."]]:
        """The arrays where they are computed with."""
        return jax.tree.map(jnp.asarray, self.arrays)


def forward(
    sizes: Sizes, arrays: Mapping[str, Int[Array, "..."]], tokens: Int[Array, "B n levels"], *,
    step: Int[Array, ""] | int = 0, cache: Cache | None = None, index: Int[Array, ""] | int = 0,
) -> tuple[Int[Array, "B n levels K"], Cache | None]:
    """(logits, the cache with these tokens).

    Args:
        sizes, arrays: of an `IntegerTransformer`.
        tokens: as the network takes them. With a cache tokens[:, 0] is the one before `index`.
        step: which modulation.
        cache: of a causal network, `empty_cache` at index 0; None reads all tokens at once.
        index: of the first logits.
    """
    shifts = dict(sizes.shifts)

    def affine(name, x):
        multiplier, bias = (arrays[f"{name}/{part}"][step] for part in ("multiplier", "bias"))
        return scale(x, multiplier, shifts[name]) + bias

    def layer(name, x):
        return affine(name, product(jnp.clip(x, -ACTIVATION, ACTIVATION), arrays[f"{name}/weights"]))

    length = tokens.shape[1]
    x = sum(arrays[f"tokens{i}"][tokens[..., i]] for i in range(sizes.levels))
    places = jnp.arange(length) + index
    if sizes.causal:
        before = x if cache is not None else jnp.roll(x, 1, axis=1)
        x = jnp.where(places[:, None] == 0, arrays["start"], before)
    x = x + arrays["positions"][places]
    keys, values = [], []
    for i in range(sizes.depth):
        name, own = f"block{i}", None if cache is None else (cache.keys[i], cache.values[i])
        h = affine(f"{name}/norm1", normalize(x, NORM))
        h, key, value = _attend(name, [layer(f"{name}/{part}", h) for part in ("query", "key", "value")], sizes, arrays,
                                shifts, own, index)
        keys.append(key)
        values.append(value)
        x = x + layer(f"{name}/out", h)
        h = layer(f"{name}/mlp1", affine(f"{name}/norm2", normalize(x, NORM)))
        h = arrays[f"{name}/gelu"][jnp.clip(h + HIDDEN, 0, 2 * HIDDEN - 1)]
        x = x + layer(f"{name}/mlp2", h)
    logits = layer("dense", affine("norm", normalize(x, NORM)))
    return logits.reshape(*tokens.shape[:2], sizes.levels, -1), cache and Cache(jnp.stack(keys), jnp.stack(values))


def empty_cache(network: IntegerTransformer, batch: int, length: int) -> Cache:
    """The cache of `batch` sequences of `length` tokens."""
    sizes, features = network.sizes, network.weights["start"].shape[-1]
    shape = (sizes.depth, batch, sizes.heads, length, features // sizes.heads)
    return Cache(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32))


def _attend(name, projected, sizes, arrays, shifts, cache, index):
    """(the mixed values [B, n, D], keys, values)."""
    query, key, value = (jnp.swapaxes(part.reshape(*part.shape[:2], sizes.heads, -1), 1, 2) for part in projected)
    query, key, value = jnp.clip(query, -QUERY, QUERY), jnp.clip(key, -KEY, KEY), jnp.clip(value, -KEY, KEY)
    if cache is not None:
        key, value = (jax.lax.dynamic_update_slice_in_dim(old, new, index, 2) for old, new in zip(cache, (key, value)))
    scores = scale(_exact("bhnd,bhmd->bhnm", query, key), arrays[f"{name}/scores"], shifts[f"{name}/scores"])
    if sizes.causal:
        rows, columns = jnp.arange(query.shape[2]) + index, jnp.arange(key.shape[2])
        scores = jnp.where(columns[None] <= rows[:, None], scores, -_FAR)
    shares = softmax(scores, arrays["exponentials"], SHARE)
    mixed = _exact("bhnm,bhmd->bhnd", shares, value)
    mixed = scale(mixed, arrays[f"{name}/mixed"], shifts[f"{name}/mixed"])
    return jnp.swapaxes(mixed, 1, 2).reshape(projected[0].shape), key, value


def _exact(formula, a, b):
    """A product of whole numbers whose sums stay below 2^24."""
    result = jnp.einsum(formula, a.astype(jnp.float32), b.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    return result.astype(jnp.int32)


def quantize(
    params: Mapping[str, Any], calibration: Sequence[Int[np.ndarray, "B N levels"]],
    conditions: Sequence[Float[np.ndarray, "D"] | None] = (None,), *, heads: int, causal: bool,
) -> IntegerTransformer:
    """The whole-number network of a float one.

    Args:
        params: of `jaxgen.nn.Transformer` with learned positions, no context and no norm of queries and keys.
        calibration: tokens of each step, from which ranges are taken.
        conditions: what modulates each step.
        heads, causal: as of the network.

    Raises:
        ValueError: a network of another kind, or too wide for exact products.
    """
    levels = calibration[0].shape[-1]
    build = _Builder(params, heads, len(conditions))
    for tokens, condition in zip(calibration, conditions, strict=True):
        float_transformer.forward(params, tokens, condition, heads=heads, causal=causal, ranges=build.ranges)
    depth = sum(name.startswith("block") for name in params)
    unit = build.ranges["stream"] / STREAM
    for i in range(depth):
        build.block(f"block{i}", params[f"block{i}"], conditions, unit)
    parts = [float_transformer.output_modulation(params["out"], condition) for condition in conditions]
    build.norm("norm", params["out"].get("norm"), parts, build.step("out"))
    build.dense("dense", params["out"]["dense"], build.step("out"), 1 / GRID)
    build.tables["exponentials"] = ((exponentials() + 128) >> 8).astype(np.int32)
    return IntegerTransformer(sizes=Sizes(depth, heads, levels, causal, tuple(sorted(build.shifts.items()))),
                              unit=unit, weights=weights_of(params, unit), tables=build.tables)


def weights_of(params: Mapping[str, Any], unit: float) -> dict[str, Int[np.ndarray, "..."]]:
    """The weights of a network in whole numbers: kernels, each output of its own size, and embeddings.

    Each is a weight divided once, in float64, and rounded: the same on every machine, so that no file need hold them.

    Args:
        params: see `quantize`.
        unit: of the embeddings, what 1 stands for.
    """
    arrays = {"start": params.get("start", np.zeros(params["positions"]["embedding"].shape[1]))}
    arrays |= {name: own["embedding"] for name, own in params.items() if name.startswith(("tokens", "positions"))}
    layers = {"dense": params["out"]["dense"]}
    for name in (name for name in params if name.startswith("block")):
        parts = {**params[name]["attention"], "mlp1": params[name]["mlp1"], "mlp2": params[name]["mlp2"]}
        layers |= {f"{name}/{part}": layer for part, layer in parts.items()}
    kernels = {name: np.asarray(layer["kernel"], np.float64) for name, layer in layers.items()}
    return {**{name: np.rint(np.float64(values) / unit).astype(np.int32) for name, values in arrays.items()},
            **{f"{name}/weights": np.rint(own / _unit(own)).astype(np.int8) for name, own in kernels.items()}}


def _unit(kernel):
    """What 1 of the weights of each output stands for."""
    return np.maximum(np.abs(kernel).max(0), 1e-12) / WEIGHT


class _Builder:
    """Collects the tables and shifts of a network, each by the steps of what goes in and comes out."""

    def __init__(self, params, heads, steps):
        features = params["tokens0"]["embedding"].shape[1]
        if "positions" not in params or "cross_attention" in params["block0"] or \
                "query_norm" in params["block0"]["attention"]:
            raise ValueError("a network in whole numbers needs learned positions, no context and no norm of queries "
                             "and keys")
        widest = max(layer["kernel"].shape[0] for layer in (params["block0"]["mlp1"], params["block0"]["mlp2"]))
        if widest > LARGEST_ROWS or features // heads > MAX_HEAD:
            raise ValueError(f"layers of {widest} inputs and heads of {features // heads} features are too wide for "
                             f"exact products: at most {LARGEST_ROWS} and {MAX_HEAD}")
        self.heads, self.features, self.steps = heads, features, steps
        self.ranges, self.tables, self.shifts = {}, {}, {}

    def step(self, name, largest=ACTIVATION):
        """The real size of 1 of a value that reaches `largest`."""
        return max(self.ranges[name], 1e-6) / largest

    def add(self, name, values):
        self.tables[name] = np.rint(values).astype(np.int32)

    def multiplier(self, name, values):
        self.tables[name], self.shifts[name.removesuffix("/multiplier")] = to_multiplier(np.asarray(values, np.float64))

    def norm(self, name, affine, parts, step):
        """((1 + factor) (n scale + bias) + shift) / step of a normalized n of 2^-NORM; parts: (shift, factor)."""
        own = affine or {"scale": 1.0, "bias": 0.0}
        zero = np.zeros(self.features)
        factor = np.stack([(1 + factor) * own["scale"] + zero for _, factor in parts])
        bias = np.stack([(1 + factor) * own["bias"] + shift + zero for shift, factor in parts])
        self.multiplier(f"{name}/multiplier", factor / (step * (1 << NORM)))
        self.add(f"{name}/bias", bias / step)

    def dense(self, name, layer, step, out_step, gates=None):
        """gate (x kernel + bias) / out_step, x of `step`."""
        sizes = _unit(np.asarray(layer["kernel"], np.float64))
        gates = np.stack([gate + np.zeros(len(sizes)) for gate in gates or [1.0] * self.steps])
        self.multiplier(f"{name}/multiplier", gates * sizes * step / out_step)
        self.add(f"{name}/bias", gates * np.asarray(layer["bias"], np.float64) / out_step)

    def block(self, name, block, conditions, unit):
        parts = [float_transformer.modulation(block, condition) for condition in conditions]
        into = self.step(f"{name}/norm1")
        self.norm(f"{name}/norm1", block.get("norm1"), [part[:2] for part in parts], into)
        outs = {"query": self.step(f"{name}/query", QUERY), "key": self.step(f"{name}/key", KEY),
                "value": self.step(f"{name}/value", KEY)}
        for part, out in outs.items():
            self.dense(f"{name}/{part}", block["attention"][part], into, out)
        scores = outs["query"] * outs["key"] * GRID / np.sqrt(self.features // self.heads)
        self.multiplier(f"{name}/scores", scores)
        mixed = self.step(f"{name}/mixed")
        self.multiplier(f"{name}/mixed", outs["value"] / (1 << SHARE) / mixed)
        self.dense(f"{name}/out", block["attention"]["out"], mixed, unit, [part[2] for part in parts])
        into, hidden = self.step(f"{name}/norm2"), self.step(f"{name}/hidden", HIDDEN - 1)
        self.norm(f"{name}/norm2", block.get("norm2"), [part[3:5] for part in parts], into)
        self.dense(f"{name}/mlp1", block["mlp1"], into, hidden)
        active = self.step(f"{name}/active")
        self.add(f"{name}/gelu", float_transformer.gelu(np.arange(-HIDDEN, HIDDEN) * hidden) / active)
        self.dense(f"{name}/mlp2", block["mlp2"], active, unit, [part[5] for part in parts])
