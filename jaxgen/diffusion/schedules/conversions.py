"""One table between the things a network may predict about xt = alpha x0 + sigma eps.

    eps        the noise
    x0         the clean sample
    v          alpha eps - sigma x0
    score      d log p(xt) / d xt = -eps / sigma
    velocity   eps - x0, the derivative of a rectified flow's path; what networks of kind "flow" predict

Every entry goes through the pair (x0, eps), which is linear in the prediction for given xt:

    eps:       x0 = (xt - sigma eps) / alpha
    x0:        eps = (xt - alpha x0) / sigma
    v:         x0 = (alpha xt - sigma v) / (alpha² + sigma²),   eps = (sigma xt + alpha v) / (alpha² + sigma²)
    score:     eps = -sigma score,  then as eps
    velocity:  x0 = (xt - sigma u) / (alpha + sigma),           eps = (xt + alpha u) / (alpha + sigma)

Where the information is not in the prediction (x0 from eps at alpha = 0, eps or the score from x0 at sigma = 0)
the answer is 0, the mean of a centred unknown, and never an infinity.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen.core.checks import check_batch, check_same, expand_to
from jaxgen.core.errors import unknown_name

KINDS = ("eps", "x0", "v", "score", "velocity")
ELSEWHERE = {"epsilon": ["eps"], "noise": ["eps"], "sample": ["x0"], "x_start": ["x0"], "v_prediction": ["v"],
             "flow": ["velocity"], "velocity": ["flow"], "flow_prediction": ["velocity", "flow"]}
"""What other libraries call these kinds, and which of ours that is."""


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS, elsewhere=ELSEWHERE)


def _divide(numerator: Array, denominator: Array) -> Array:
    # The inner where keeps the gradient finite too.
    nonzero = denominator != 0
    return jnp.where(nonzero, numerator / jnp.where(nonzero, denominator, 1), 0)


def to_pair(
    prediction: Float[Array, "B ..."],
    xt: Float[Array, "B ..."],
    alpha: Float[Array, "*b"],
    sigma: Float[Array, "*b"],
    *,
    kind: str,
) -> tuple[Float[Array, "B ..."], Float[Array, "B ..."]]:
    """(x0, eps) from a prediction of one kind; see the table of this module.

    Args:
        prediction: [B, ...] the network's output.
        xt: [B, ...] the noisy sample, its input.
        alpha, sigma: [] or [B] the schedule's coefficients.
        kind: one of `KINDS`.

    Raises:
        ValueError: an unknown kind, a prediction that has not xt's shape, or what is no floating-point number.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> velocity, xt = jnp.array([[1.0]]), jnp.array([[2.0]])
        >>> x0, eps = diffusion.to_pair(velocity, xt, 0.5, 0.5, kind="velocity")
        >>> x0.tolist(), eps.tolist()
        ([[1.5]], [[2.5]])
    """
    _check_kind(kind)
    check_batch("xt", xt)
    check_same("prediction", prediction, "xt", xt)
    alpha, sigma = expand_to(alpha, xt, name="alpha"), expand_to(sigma, xt, name="sigma")
    if kind == "x0":
        return prediction, _divide(xt - alpha * prediction, sigma)
    if kind == "v":
        norm = alpha**2 + sigma**2
        return (alpha * xt - sigma * prediction) / norm, (sigma * xt + alpha * prediction) / norm
    if kind == "velocity":
        norm = alpha + sigma
        return (xt - sigma * prediction) / norm, (xt + alpha * prediction) / norm
    eps = prediction if kind == "eps" else -sigma * prediction
    return _divide(xt - sigma * eps, alpha), eps


def from_pair(
    x0: Float[Array, "B ..."],
    eps: Float[Array, "B ..."],
    alpha: Float[Array, "*b"],
    sigma: Float[Array, "*b"],
    *,
    kind: str,
) -> Float[Array, "B ..."]:
    """The training target of a network of this kind, from x0 and eps [B, ...]; see the table of this module.

    Raises:
        ValueError: as `to_pair`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> diffusion.from_pair(jnp.array([[1.5]]), jnp.array([[2.5]]), 0.5, 0.5, kind="velocity").tolist()
        [[1.0]]
    """
    _check_kind(kind)
    check_batch("x0", x0)
    check_same("eps", eps, "x0", x0)
    alpha, sigma = expand_to(alpha, x0, name="alpha"), expand_to(sigma, x0, name="sigma")
    if kind == "x0":
        return x0
    if kind == "v":
        return alpha * eps - sigma * x0
    if kind == "velocity":
        return eps - x0
    return eps if kind == "eps" else -_divide(eps, sigma)


def convert(
    prediction: Float[Array, "B ..."],
    xt: Float[Array, "B ..."],
    alpha: Float[Array, "*b"],
    sigma: Float[Array, "*b"],
    *,
    source: str,
    target: str,
) -> Float[Array, "B ..."]:
    """A prediction of kind `source` as one of kind `target`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxgen import diffusion
        >>> eps, xt = jnp.array([[2.5]]), jnp.array([[2.0]])
        >>> diffusion.convert(eps, xt, 0.5, 0.5, source="eps", target="x0").tolist()
        [[1.5]]
    """
    x0, eps = to_pair(prediction, xt, alpha, sigma, kind=source)
    return from_pair(x0, eps, alpha, sigma, kind=target)
