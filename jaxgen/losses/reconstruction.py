"""Reconstruction losses: one number per example, the mean over everything but the first axis, in float32."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.checks import check_alike


def _mean_per_example(x: Array) -> Array:
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))


def _difference(x: Array, x_r: Array) -> Array:
    check_alike(x=x, x_r=x_r)
    return x.astype(jnp.float32) - x_r.astype(jnp.float32)


def l1(x: Float[Array, "B ..."], x_r: Float[Array, "B ..."]) -> Float[Array, "B"]:
    """mean |x - x_r| per example.

    Args:
        x: originals [B, ...].
        x_r: reconstructions, same shape.

    Returns:
        [B] float32.

    Raises:
        ValueError: the shapes differ, or an array holds bytes or other whole numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import l1
        >>> l1(jnp.zeros((2, 4)), jnp.array([[1.0, 1, 1, 1], [0, 0, 0, 2]])).tolist()
        [1.0, 0.5]
    """
    return _mean_per_example(jnp.abs(_difference(x, x_r)))


def l2(x: Float[Array, "B ..."], x_r: Float[Array, "B ..."]) -> Float[Array, "B"]:
    """mean (x - x_r)² per example, without a factor 1/2.

    Arguments, result and errors are those of `l1`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import l2
        >>> l2(jnp.zeros((2, 4)), jnp.array([[1.0, 1, 1, 1], [0, 0, 0, 2]])).tolist()
        [1.0, 1.0]
    """
    return _mean_per_example(jnp.square(_difference(x, x_r)))


def huber(
    x: Float[Array, "B ..."], x_r: Float[Array, "B ..."], *, delta: float = 1.0
) -> Float[Array, "B"]:
    """mean of d² / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = x - x_r.

    Args:
        x: originals [B, ...].
        x_r: reconstructions, same shape.
        delta: where the quadratic becomes linear, positive, in the images' unit.

    Returns:
        [B] float32.

    Raises:
        ValueError: the shapes differ, an array holds whole numbers, or `delta` is not positive.

    Reference: Huber, "Robust estimation of a location parameter", 1964

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import huber
        >>> huber(jnp.zeros((1, 2)), jnp.array([[1.0, 3.0]]), delta=1.0).tolist()
        [1.5]
    """
    if not isinstance(delta, jax.core.Tracer) and not delta > 0:
        raise ValueError(f"delta must be positive, got {delta}")
    size = jnp.abs(_difference(x, x_r))
    inner = jnp.minimum(size, delta)
    return _mean_per_example(0.5 * inner**2 + delta * (size - inner))


def logit_laplace(
    x: Float[Array, "B ... C"], prediction: Float[Array, "B ... 2*C"], *, margin: float = 0.1
) -> Float[Array, "B"]:
    """Negative log-density of a logit-Laplace distribution, in nats per value.

    With p = (1 - 2 margin)(x + 1) / 2 + margin in (0, 1):
    -log f(p) = log(2 b p (1 - p)) + |logit(p) - mu| / b, where prediction = [mu, log b] along the last axis.

    Args:
        x: originals in [-1, 1], [B, ..., C].
        prediction: location and log-scale, [B, ..., 2 C].
        margin: keeps p off 0 and 1; in (0, 1/2).

    Returns:
        [B] float32.

    Raises:
        ValueError: `prediction` does not have twice x's channels, an array holds whole numbers, or `margin` lies
            outside (0, 1/2).

    Reference: Ramesh et al., "Zero-shot text-to-image generation", 2021, arXiv:2102.12092, appendix A.3

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import logit_laplace
        >>> losses = logit_laplace(jnp.zeros((2, 8, 8, 3)), jnp.zeros((2, 8, 8, 6)))
        >>> [round(loss, 3) for loss in losses.tolist()]  # log(1 / 2)
        [-0.693, -0.693]
    """
    _check_margin(margin)
    check_alike(x=x)
    check_alike(prediction=prediction)
    if x.ndim < 2 or prediction.shape != (*x.shape[:-1], 2 * x.shape[-1]):
        raise ValueError(f"prediction must have shape {(*x.shape[:-1], 2 * x.shape[-1])} (location and log-scale for "
                         f"each channel of x [B, ..., C]), got {prediction.shape}")
    mu, log_b = jnp.split(prediction.astype(jnp.float32), 2, axis=-1)
    p = (1 - 2 * margin) * (x.astype(jnp.float32) + 1) / 2 + margin
    distance = jnp.abs(jax.scipy.special.logit(p) - mu)
    return _mean_per_example(math.log(2) + log_b + jnp.log(p) + jnp.log1p(-p) + distance * jnp.exp(-log_b))


def logit_laplace_mean(
    prediction: Float[Array, "B ... 2*C"], *, margin: float = 0.1
) -> Float[Array, "B ... C"]:
    """The image in [-1, 1] of a `logit_laplace` prediction: its location mapped back and clipped.

    Args:
        prediction: location and log-scale, [B, ..., 2 C].
        margin: as in `logit_laplace`.

    Returns:
        [B, ..., C] in [-1, 1].

    Raises:
        ValueError: whole numbers, an odd number of channels, or `margin` lies outside (0, 1/2).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen.losses import logit_laplace_mean
        >>> logit_laplace_mean(jnp.zeros((2, 8, 8, 6))).shape
        (2, 8, 8, 3)
    """
    _check_margin(margin)
    check_alike(prediction=prediction)
    if prediction.shape[-1] % 2:
        raise ValueError(f"prediction must have a location and a log-scale for each channel, [B, ..., 2 C]; got "
                         f"{prediction.shape}")
    mu = jnp.split(prediction.astype(jnp.float32), 2, axis=-1)[0]
    return jnp.clip(2 * (jax.nn.sigmoid(mu) - margin) / (1 - 2 * margin) - 1, -1, 1)


def _check_margin(margin: float) -> None:
    if not 0 < margin < 0.5:
        raise ValueError(f"margin must lie between 0 and 1/2, got {margin}")


RECONSTRUCTIONS = {"l1": l1, "l2": l2, "huber": huber}
"""Losses (x, x_r) -> [B] by name: `choose("reconstruction", name, RECONSTRUCTIONS)`."""
