"""Which times or noise levels to train on; every function draws [B] values from a key.

Each raises ValueError for what is no key, and for a setting out of its bounds.
"""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxgen.core.checks import check_count, check_finite, check_key, check_positive, choose, choose_options
from jaxgen.diffusion.schedules.base import Schedule


def uniform_times(key: PRNGKeyArray, batch: int, *, end: float = 1.0) -> Float[Array, "B"]:
    """t ~ U[0, end), independent.

    Example:
        >>> import jax
        >>> from jaxgen import diffusion
        >>> diffusion.uniform_times(jax.random.key(0), 4).shape
        (4,)
    """
    check_key(key)
    check_positive("end", end)
    return end * jax.random.uniform(key, (batch,))


def stratified_times(key: PRNGKeyArray, batch: int, *, end: float = 1.0) -> Float[Array, "B"]:
    """t_i = end ((i / B + u) mod 1), one u ~ U[0, 1): each is uniform, together they cover [0, end) evenly.

    The loss of a batch then varies less.

    Reference: Kingma et al., "Variational diffusion models", 2021, arXiv:2107.00630, appendix I.1

    Example:
        >>> import jax
        >>> from jaxgen import diffusion
        >>> times = diffusion.stratified_times(jax.random.key(0), 4)
        >>> sorted((4 * times).astype(int).tolist())
        [0, 1, 2, 3]
    """
    check_key(key)
    check_positive("end", end)
    return end * ((jax.random.uniform(key, ()) + jnp.arange(batch) / batch) % 1.0)


def uniform_steps(key: PRNGKeyArray, batch: int, steps: int) -> Int[Array, "B"]:
    """Indices of a discrete schedule, uniform over 0 .. steps - 1."""
    check_key(key)
    return jax.random.randint(key, (batch,), 0, check_count("steps", steps))


def log_normal_sigmas(
    key: PRNGKeyArray, batch: int, *, mean: float = -1.2, std: float = 1.2
) -> Float[Array, "B"]:
    """log sigma ~ N(mean, std²): noise levels, not times; EDM's P_mean and P_std.

    Reference: Karras et al., "Elucidating the design space of diffusion-based generative models", 2022,
    arXiv:2206.00364

    Example:
        >>> import jax
        >>> from jaxgen import diffusion
        >>> diffusion.log_normal_sigmas(jax.random.key(0), 4, mean=0.0).shape
        (4,)
    """
    check_key(key)
    check_finite("mean", mean)
    check_positive("std", std)
    return jnp.exp(mean + std * jax.random.normal(key, (batch,)))


def logit_normal_times(
    key: PRNGKeyArray, batch: int, *, mean: float = 0.0, std: float = 1.0, end: float = 1.0
) -> Float[Array, "B"]:
    """logit(t / end) ~ N(mean, std²): most often in the middle.

    Reference: Esser et al., "Scaling rectified flow transformers for high-resolution image synthesis", 2024,
    arXiv:2403.03206, section 3.1

    Example:
        >>> import jax
        >>> from jaxgen import diffusion
        >>> diffusion.logit_normal_times(jax.random.key(0), 4).shape
        (4,)
    """
    check_key(key)
    check_finite("mean", mean)
    check_positive("std", std)
    check_positive("end", end)
    return end * jax.nn.sigmoid(mean + std * jax.random.normal(key, (batch,)))


TIMES: Mapping[str, Callable] = {
    "uniform": uniform_times, "stratified": stratified_times, "logit_normal": logit_normal_times,
}
"""Functions `(key, batch, *, end, ...) -> times [B]` by name."""
LEAST_RATIO = 1e-4


def draw_noise_levels(schedule: Schedule | None, name: str, **options) -> Callable[[PRNGKeyArray, int], Array]:
    """`(key, batch) -> [B]` noise levels by name: "log_normal", or the schedule's ratios at times that `TIMES` names.

    Ratios are at least 1e-4: a time of exactly 0 would be a level without noise, where the loss of eps is infinite.

    Args:
        schedule: of the model; "log_normal" needs none.
        name: "log_normal", "uniform", "stratified" or "logit_normal".
        options: keyword arguments of that function, such as `mean` and `std`. Those that only others of these functions
            take are ignored, so that a configuration can be changed by its name.

    Raises:
        ValueError: an unknown name, an option that none of them takes, or no schedule where times are drawn.

    Example:
        >>> import jax
        >>> from jaxgen import diffusion
        >>> draw = diffusion.draw_noise_levels(diffusion.flow(), "logit_normal", mean=0.5)
        >>> draw(jax.random.key(0), 4).shape
        (4,)
    """
    table = {"log_normal": log_normal_sigmas, **TIMES}
    draw = choose("noise", name, table)
    options = choose_options("noise", name, table, options, taken=("key", "batch", "end"))
    if name == "log_normal":
        return partial(draw, **options)
    if schedule is None:
        raise ValueError(f"noise {name!r} draws times of the model's schedule, and it has none: use 'log_normal'")

    def levels(key: PRNGKeyArray, batch: int) -> Array:
        return jnp.maximum(schedule.ratio(draw(key, batch, end=schedule.end, **options)), LEAST_RATIO)

    return levels
