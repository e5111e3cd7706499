"""Embeddings of times, classes and grid positions, as the networks of diffusion models use them.

Angles are computed in float32 whatever the networks compute in: bfloat16 cannot tell time 999 from 1000.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int


def sinusoidal_embedding(
    time: Float[Array, "B"],
    dim: int,
    *,
    max_period: float = 10000.0,
    flip_sin_to_cos: bool = True,
    downscale_freq_shift: float = 0.0,
) -> Float[Array, "B dim"]:
    """Sines and cosines of time at geometric frequencies.

        w_i = max_period^(-i / (half - downscale_freq_shift)),  i = 0 .. half - 1,  half = dim // 2
        embedding = [cos(time w), sin(time w)], or [sin, cos] without the flip; an odd dim ends in a zero

    Args:
        time: [B] times, positions or log noise levels; fractions are allowed.
        dim: size of the embedding.
        max_period: the slowest sine has about this period over 2 pi.
        flip_sin_to_cos: cosines first.
        downscale_freq_shift: 0 as in DiT; 1 as in DDPM, where the last frequency is 1 / max_period exactly.

    Returns:
        [B, dim] float32 (or wider).

    Raises:
        ValueError: `time` is no vector, or `dim` leaves no frequency.

    Vaswani et al., "Attention is all you need" (2017); Ho, Jain & Abbeel, "Denoising diffusion probabilistic
    models" (2020).
    """
    half = dim // 2
    if half < 1 or half == downscale_freq_shift:
        raise ValueError(f"dim={dim} is too small for downscale_freq_shift={downscale_freq_shift}: use dim=4 or more")
    time = _times(time)
    exponents = -math.log(max_period) * jnp.arange(half, dtype=time.dtype) / (half - downscale_freq_shift)
    angles = time[:, None] * jnp.exp(exponents)
    sine, cosine = jnp.sin(angles), jnp.cos(angles)
    embedding = jnp.concatenate([cosine, sine] if flip_sin_to_cos else [sine, cosine], axis=-1)
    return jnp.pad(embedding, ((0, 0), (0, dim % 2)))


def grid_positions(height: int, width: int, dim: int) -> Float[Array, "height*width dim"]:
    """Fixed positions of a grid in row-major order: half of the embedding tells the column, half the row.

        [sin(column w), cos(column w), sin(row w), cos(row w)],  w_i = 10000^(-4 i / dim)

    Raises:
        ValueError: 4 does not divide `dim`.

    The column comes first, as in the published weights of DiT (Peebles & Xie, 2023).
    """
    if dim % 4:
        raise ValueError(f"4 must divide the embedding size of a 2-D position, got dim={dim}")
    rows, columns = (
        sinusoidal_embedding(jnp.arange(size), dim // 2, flip_sin_to_cos=False) for size in (height, width)
    )
    shape = (height, width, dim // 2)
    parts = [jnp.broadcast_to(columns, shape), jnp.broadcast_to(rows[:, None], shape)]
    return jnp.concatenate(parts, axis=-1).reshape(height * width, dim)


def _times(time) -> Array:
    if jnp.ndim(time) != 1:
        raise ValueError(f"time must be a vector [B], got shape {jnp.shape(time)}: use jnp.broadcast_to(time, (B,))")
    return jnp.asarray(time, jnp.promote_types(jnp.result_type(time), jnp.float32))


class GaussianFourier(nn.Module):
    """Sines and cosines of time at random frequencies that are drawn once and stay: [B] -> [B, 2 features].

        angles = 2 pi W u,  u = log(time), or time itself without `log`;  W ~ N(0, scale^2)
        embedding = [sin(angles), cos(angles)], or [cos, sin] with the flip

    W is the parameter "weight" [features], so that checkpoints hold it; no gradient reaches it. (An optimizer that
    decays vectors, which `jaxgen.train`'s do not, must leave it out.)

    Attributes:
        features: the number of frequencies.
        scale: their standard deviation, in periods per unit of u.
        log: embed log(time), for noise levels above 0.
        flip_sin_to_cos: cosines first.

    Tancik et al., "Fourier features let networks learn high frequency functions in low dimensional domains" (2020);
    Song et al., "Score-based generative modeling through stochastic differential equations" (2021).
    """

    features: int
    scale: float = 1.0
    log: bool = True
    flip_sin_to_cos: bool = False

    @nn.compact
    def __call__(self, time: Float[Array, "B"]) -> Float[Array, "B 2*features"]:
        time = _times(time)
        weight = self.param("weight", nn.initializers.normal(self.scale), (self.features,), jnp.float32)
        u = jnp.log(time) if self.log else time
        angles = 2 * jnp.pi * u[:, None] * jax.lax.stop_gradient(weight)
        sine, cosine = jnp.sin(angles), jnp.cos(angles)
        return jnp.concatenate([cosine, sine] if self.flip_sin_to_cos else [sine, cosine], axis=-1)


class TimeEmbedding(nn.Module):
    """dense(swish(dense(sinusoidal_embedding(scale time)))): [B] -> [B, features].

    Attributes:
        features: size of the result and of the layer between.
        scale: multiplies time first; 1000 spreads times in [0, 1] over the sinusoids' periods.
        frequencies: size of the sinusoidal embedding.
    """

    features: int
    scale: float = 1.0
    frequencies: int = 256
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, time: Float[Array, "B"]) -> Float[Array, "B features"]:
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = sinusoidal_embedding(self.scale * _times(time), self.frequencies)
        x = nn.swish(nn.Dense(self.features, name="dense1", **types)(x))
        return nn.Dense(self.features, name="dense2", **types)(x)


class ClassEmbedding(nn.Module):
    """A learned vector per class and one more, row `num_classes`, for "no class": [B] -> [B, features].

    The last row is what classifier-free guidance trains and samples without a class (Ho & Salimans, 2022). A class
    above `num_classes` gives NaN.
    """

    num_classes: int
    features: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, classes: Int[Array, "B"]) -> Float[Array, "B features"]:
        if jnp.ndim(classes) != 1:
            raise ValueError(f"classes must be a vector [B], got shape {jnp.shape(classes)}")
        # Of unit size: a class much smaller than the time added to it goes unheard for thousands of steps.
        return nn.Embed(self.num_classes + 1, self.features, embedding_init=nn.initializers.normal(1.0),
                        dtype=self.dtype, param_dtype=self.param_dtype, name="table")(classes)


class Condition(nn.Module):
    """The sum of what a batch is conditioned on, `TimeEmbedding` and `ClassEmbedding`: [B, features], or None.

    Attributes:
        features: size of the embedding.
        num_classes: 0 takes no classes; otherwise classes that are left out are all "no class".
        time_scale: see `TimeEmbedding`.

    Raises:
        ValueError: classes are given where num_classes is 0, or time at only one of `init` and `apply`.
    """

    features: int
    num_classes: int = 0
    time_scale: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, batch: int, time: Float[Array, "B"] | None = None, classes: Int[Array, "B"] | None = None
    ) -> Float[Array, "B features"] | None:
        if classes is not None and not self.num_classes:
            raise ValueError("classes are given but num_classes=0: set num_classes, or leave classes out")
        if not self.is_initializing() and self.has_variable("params", "time") != (time is not None):
            given = "given" if time is not None else "None"
            raise ValueError(f"time is {given}, and was not so at init: give time to both init and apply, or neither")
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        parts = []
        if time is not None:
            parts.append(TimeEmbedding(self.features, self.time_scale, name="time", **types)(time))
        if self.num_classes:
            if classes is None:
                classes = jnp.full((batch,), self.num_classes, jnp.int32)
            parts.append(ClassEmbedding(self.num_classes, self.features, name="class", **types)(classes))
        return sum(parts) if parts else None
