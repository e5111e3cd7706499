"""Samples of diffusion models: noise levels, solver, guidance. An `Autoencoder` too is sampled in latents."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgen import diffusion
from jaxgen.core.checks import choose
from jaxgen.core.types import PyTree, Variables
from jaxgen.diffusion import Denoiser, Schedule, Solver
from jaxgen.generate.sampler import Sampler, Work, check_settings, compiled
from jaxgen.models import Autoencoder, Denoising

SETTINGS = {"solver": "heun", "steps": 18, "noise_grid": "karras", "sigma_min": 0.002, "sigma_max": 80.0,
            "guidance": 1.0, "guidance_low": 0.0, "guidance_high": float("inf")}
BOUNDED = {"karras": diffusion.karras_sigmas, "exponential": diffusion.exponential_sigmas}
GRIDS = dict.fromkeys((*BOUNDED, "uniform", *diffusion.SPACINGS))


class DiffusionParts(NamedTuple):
    """What editing needs of a diffusion sampler."""

    solver: Solver
    sigmas: Float[Array, "n+1"]
    guidance: tuple[float, float, float] | None  # (scale, low, high)


def make_sigmas(schedule: Schedule | None, settings: Mapping[str, Any]) -> Float[Array, "n+1"]:
    """Noise levels: "karras" or "exponential" between sigma_min and sigma_max, else of the model's schedule.

    Example:
        >>> settings = {"noise_grid": "karras", "steps": 2, "sigma_min": 0.5, "sigma_max": 80.0}
        >>> make_sigmas(None, settings).tolist()  # a last step to 0
        [80.0, 0.5, 0.0]
    """
    name, steps = settings["noise_grid"], settings["steps"]
    choose("noise_grid", name, GRIDS)
    if name in BOUNDED:
        return BOUNDED[name](steps, settings["sigma_min"], settings["sigma_max"])
    if schedule is None:
        raise ValueError(f"noise_grid {name!r} needs a model with a schedule, but this one is of kind 'edm': use "
                         "'karras'")
    if name == "uniform":
        return diffusion.uniform_sigmas(schedule, steps)
    return diffusion.spaced_sigmas(schedule, steps, spacing=name)


def guided(
    model: Denoising, params: PyTree, cond: Mapping[str, Any], count: int,
    guidance: tuple[Any, Any, Any] | None,
) -> Denoiser:
    """The model's denoiser with classifier-free guidance, where it has conditions and `guidance` is not None.

    Args:
        model: the model.
        params: its parameters.
        cond: tells whether there is a condition; the denoiser takes it encoded (`model.encode`).
        count: samples in a batch.
        guidance: (scale, low, high), guided where low < sigma <= high; None for the conditional model by itself.

    Example:
        >>> from types import SimpleNamespace
        >>> model = SimpleNamespace(  # its x0 is the class, and 0 without one
        ...     denoise=lambda params, x, sigma, cond: 0 * x + cond["classes"][:, None],
        ...     encode=lambda params, cond: cond, null=lambda count: {"classes": jnp.zeros(count)})
        >>> cond = {"classes": jnp.array([1, 2])}
        >>> guided(model, {}, cond, 2, (3.0, 0.1, 80.0))(jnp.zeros((2, 1)), 1.0, cond).tolist()
        [[3.0], [6.0]]
    """

    def denoiser(x, sigma, cond):
        return model.denoise(params, x, sigma, cond)

    if guidance is None or not cond:
        return denoiser
    scale, low, high = guidance
    return diffusion.interval(diffusion.cfg(scale, model.encode(params, model.null(count))), low, high)(denoiser)


def diffusion_sampler(model: Denoising, settings: Mapping[str, Any], *, save_every: int | None = None) -> Sampler:
    """The sampler of a diffusion model.

    Args:
        model: in pixels; or, one that is an `Autoencoder` too, in its latents, which are decoded.
        settings: changes of `SETTINGS`.
        save_every: also return the trajectory, every so many steps.

    Raises:
        ValueError: a setting that does not apply, is unknown or out of its bounds.

    Example:
        >>> from jaxgen.models import build
        >>> model = build("diffusion", shape=(8, 8, 1), network={"name": "unet", "channels": (8,), "down": ("plain",)})
        >>> sampler = diffusion_sampler(model, {"solver": "heun", "steps": 4})
        >>> sampler.work.evaluations(), sampler.settings["guidance"], len(sampler.parts.sigmas)  # one in the step to 0
        (7, 1.0, 5)
    """
    settings = check_settings(settings, SETTINGS)
    low, high, scale = settings["guidance_low"], settings["guidance_high"], settings["guidance"]
    if low > high:
        raise ValueError(f"guidance_low={low} must not be above guidance_high={high}: nothing would be guided")
    parts = DiffusionParts(diffusion.get_solver(settings["solver"]), make_sigmas(model.schedule, settings),
                           None if scale == 1 else (scale, low, high))

    run = compiled(_run, model, solver=settings["solver"], save_every=save_every)

    def draw(variables, key, ids, cond):
        return run(variables, key, ids, cond, parts.sigmas, parts.guidance)

    def lower(variables, key, ids, cond):
        return run.lower(variables, key, ids, cond, parts.sigmas, parts.guidance)

    work = Work(lower, partial(_network, model), partial(_once, model),
                lambda: count_evaluations(parts.solver, parts.sigmas, parts.guidance if model.null(1) else None))
    return Sampler(model=model, settings=settings, draw=draw, parts=parts, work=work)


def count_evaluations(
    solver: Solver, sigmas: Float[Array, "n+1"], guidance: tuple[float, float, float] | None
) -> int:
    """Network evaluations of one sample, counted on a toy; those without the condition, which guidance makes, too.

    Example:
        >>> count_evaluations(diffusion.heun(), jnp.array([80.0, 5.0, 0.5, 0.0]), (2.0, 1.0, 10.0))  # two more at 5
        7
    """
    calls, x, cond = 0, jnp.ones((1, 1)), jnp.ones(1)

    def denoiser(x, sigma, cond):
        nonlocal calls
        calls += len(x)
        return x / (1 + sigma**2)

    if guidance is not None:
        scale, low, high = guidance
        guiding = diffusion.interval(diffusion.cfg(scale, jnp.zeros(1)), low, high)(denoiser)
    with jax.disable_jit():  # loops and branches run in Python, as often as they do in a program
        diffusion.integrate(denoiser if guidance is None else guiding, solver, sigmas, x, lambda step, stream: x,
                            cond=cond)
    return calls


def _network(model, variables, encoded, ids):
    return model.denoise(variables.params, jnp.zeros((len(ids), *model.sample_shape)), jnp.ones(()), encoded)


def _once(model, variables, cond, ids):
    x = jnp.zeros((len(ids), *model.sample_shape))
    return model.encode(variables.params, cond), decode(model, variables, x)


def _run(model, variables, key, ids, cond, sigmas, guidance, *, solver, save_every):
    params = variables.params
    denoiser = guided(model, params, cond, len(ids), guidance)
    x = diffusion.prior_sample(key, (len(ids), *model.sample_shape), sigmas[0], sample_ids=ids)
    result = diffusion.sample(denoiser, diffusion.get_solver(solver), sigmas, x, key, cond=model.encode(params, cond),
                              sample_ids=ids, save_every=save_every)
    if save_every is None:
        return decode(model, variables, result)
    return decode(model, variables, result[0]), shown_trajectory(model, variables, result[1], sigmas)


def encode(model: Denoising, variables: Variables, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """What the model diffuses, of examples."""
    return model.to_latents(variables, x) if isinstance(model, Autoencoder) else x


def decode(model: Denoising, variables: Variables, z: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Examples, of what the model diffuses."""
    return model.from_latents(variables, z) if isinstance(model, Autoencoder) else z


def shown_trajectory(model: Denoising, variables: Variables, trajectory: Array, sigmas: Array) -> Array:
    """The trajectory to show, of x [n, B, ...] after the steps to sigmas[1:]."""
    if not isinstance(model, Autoencoder):
        return trajectory
    # Latents of std 1 with their noise, back at std 1, as the decoder knows them.
    sizes = jnp.sqrt(1 + sigmas[1:] ** 2).reshape(-1, *(1,) * (trajectory.ndim - 1))
    return jax.lax.map(lambda z: decode(model, variables, z), trajectory / sizes)
