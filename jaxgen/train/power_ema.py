"""Power-function averages of parameters, and reconstruction of any other average after training.

    average(t) = (gamma + 1) / t^(gamma + 1) * integral of s^gamma theta(s) over 0 .. t

The profile's width relative to t is sigma_rel = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)). From a few snapshots
of two such averages an average of any other width, at any earlier time, is their least-squares combination.

Karras et al., "Analyzing and improving the training dynamics of diffusion models" (2024), section 3.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


def power_gamma(sigma_rel: float) -> float:
    """The exponent gamma of a relative width: the real root of g³ + 7 g² + (16 - s^-2) g + (12 - s^-2) = 0.

    sigma_rel .05 -> 16.9721986, .10 -> 6.9372039.

    Raises:
        ValueError: sigma_rel is not in (0, 1 / sqrt(12)), the width of the uniform average.
    """
    if not 0 < sigma_rel < 12**-0.5:
        raise ValueError(f"sigma_rel must be in (0, 0.2886...), the width of a uniform average; got {sigma_rel}")
    inverse = sigma_rel**-2.0
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(roots.real.max())


def power_ema_update(average: PyTree, params: PyTree, step: Any, gamma: float) -> PyTree:
    """average <- beta average + (1 - beta) params,  beta = (1 - 1 / step)^(gamma + 1).

    Args:
        average: what was returned at the step before; its value at step 1 does not matter (beta is 0).
        params: the parameters after optimizer step number `step`.
        step: [] from 1 on.
        gamma: of `power_gamma`; static or traced.
    """
    beta = (1 - 1 / jnp.asarray(step, jnp.result_type(float))) ** (gamma + 1)
    return jax.tree.map(lambda a, p: p + (beta * (a - p)).astype(p.dtype), average, params)


def _inner(t_a, gamma_a, t_b, gamma_b) -> np.ndarray:
    """Inner products of two profiles, each of unit area on 0 .. t."""
    t_a, gamma_a, t_b, gamma_b = np.broadcast_arrays(t_a, gamma_a, t_b, gamma_b)
    # On 0 .. min(t) the product is (s / t_a)^gamma_a (s / t_b)^gamma_b; a ratio below 1 cannot overflow.
    low = np.minimum(t_a, t_b)
    scale = (low / t_a) ** gamma_a * (low / t_b) ** gamma_b
    return (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * low / (t_a * t_b) * scale


def reconstruction_weights(snapshot_steps, snapshot_gammas, step: float, gamma: float) -> np.ndarray:
    """Weights [N] whose combination of the snapshots' profiles is nearest (L2) to the profile (step, gamma).

    Args:
        snapshot_steps: [N] training steps at which the averages were stored.
        snapshot_gammas: [N] their exponents.
        step, gamma: the average that is wanted; step <= max(snapshot_steps).

    Raises:
        ValueError: lengths differ, or a step after the last snapshot is asked for.
    """
    t, g = np.asarray(snapshot_steps, np.float64), np.asarray(snapshot_gammas, np.float64)
    if t.ndim != 1 or t.shape != g.shape or not t.size:
        raise ValueError(f"snapshot_steps and snapshot_gammas must be vectors of one length, got {t.shape}, {g.shape}")
    if step > t.max():
        raise ValueError(f"step {step} lies after the last snapshot, {t.max():g}; no average of it is known")
    gram = _inner(t[:, None], g[:, None], t[None, :], g[None, :])
    return np.linalg.lstsq(gram, _inner(t, g, step, gamma), rcond=1e-14)[0]


def reconstruct(snapshots: list[PyTree], weights) -> PyTree:
    """sum_i weights[i] snapshots[i], added up in float64 on the host."""
    if len(snapshots) != len(weights):
        raise ValueError(f"{len(snapshots)} snapshots but {len(weights)} weights")

    def combine(*leaves):
        total = sum(float(w) * np.asarray(leaf, np.float64) for w, leaf in zip(weights, leaves, strict=True))
        return jnp.asarray(total, leaves[0].dtype)

    return jax.tree.map(combine, *snapshots)
