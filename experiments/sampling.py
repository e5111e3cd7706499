"""From a trained model to pictures: grid, solver, guidance, batches; for diffusion models and for token priors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.masks import hide, kept_positions
from experiments.runs import load_run
from experiments.sampler import Sampler
from experiments.token_sampling import TOKEN_SAMPLERS, TokenSampler
from jaxgen import diffusion
from jaxgen.core.cpu import compiler_options
from jaxgen.core.errors import unknown_name
from jaxgen.core.types import Variables
from jaxgen.diffusion import Denoiser
from jaxgen.models import DiffusionModel, LatentDiffusion, TokenPrior
from jaxgen.runs import Loaded

GRIDS = ("karras", "exponential", "uniform", *diffusion.SPACINGS)


def make_sigmas(model: DiffusionModel | LatentDiffusion, sampling: Mapping[str, Any]) -> jax.Array:
    """[n + 1] noise levels: "karras" or "exponential" between sigma_min and sigma_max, else of the model's schedule."""
    name, steps = sampling["grid"], sampling["steps"]
    if name not in GRIDS:
        raise unknown_name("grid", name, GRIDS)
    if name in ("karras", "exponential"):
        grid = diffusion.karras_sigmas if name == "karras" else diffusion.exponential_sigmas
        return grid(steps, sampling["sigma_min"], sampling["sigma_max"])
    if model.schedule is None:
        raise ValueError(f"grid {name!r} needs a model with a schedule, but this one is of kind 'edm': use 'karras'")
    if name == "uniform":
        return diffusion.uniform_sigmas(model.schedule, steps)
    return diffusion.spaced_sigmas(model.schedule, steps, spacing=name)


def guided(
    model: DiffusionModel | LatentDiffusion, params: Any, cond: Mapping[str, Any], count: int, guidance: Any
) -> Denoiser:
    """The model's denoiser with classifier-free guidance, where it has conditions and `guidance` is not None.

    Args:
        model: the model.
        params: its parameters.
        cond: tells whether there is a condition; the denoiser takes it encoded (`model.encode`).
        count: samples in a batch.
        guidance: (scale, low, high), guided where low < sigma <= high; None for the conditional model alone.
    """

    def denoiser(x, sigma, cond):
        return model.denoise(params, x, sigma, cond)

    if guidance is None or not cond:
        return denoiser
    scale, low, high = guidance
    return diffusion.interval(diffusion.cfg(scale, model.encode(params, model.null(count))), low, high)(denoiser)


class DiffusionSampler(Sampler):
    """Samples of a diffusion model. With `save_every` also the trajectory [steps / save_every, B, H, W, C]."""

    def __init__(self, model: DiffusionModel | LatentDiffusion, image_shape: Sequence[int],
                 sampling: Mapping[str, Any], *, save_every: int | None = None):
        super().__init__(model, image_shape, sampling)
        self.sigmas = make_sigmas(model, sampling)
        self.solver = diffusion.get_solver(sampling["solver"])
        scale = sampling["guidance"]
        self.guidance = None if scale == 1 else (scale, sampling["guidance_low"], sampling["guidance_high"])
        if sampling["guidance_low"] > sampling["guidance_high"]:
            raise ValueError(f"guidance_low={sampling['guidance_low']} must not be above "
                             f"guidance_high={sampling['guidance_high']}: nothing would be guided")

        def run(variables, key, ids, cond, sigmas, guidance):
            params, state = variables
            denoiser = guided(model, params, cond, len(ids), guidance)
            x = diffusion.prior_sample(key, (len(ids), *self.shape), sigmas[0], sample_ids=ids)
            found = diffusion.sample(denoiser, self.solver, sigmas, x, key, cond=model.encode(params, cond),
                                     sample_ids=ids, save_every=save_every)
            if save_every is None:
                return self.pictures(state, found)
            return self.pictures(state, found[0]), self.trajectory(state, found[1], sigmas)

        self._run = jax.jit(run, compiler_options=compiler_options())

    def __call__(self, variables, key, ids, cond):
        return self._run(variables, key, ids, cond, self.sigmas, self.guidance)

    @property
    def evaluations(self) -> int:
        return self.solver.nfe * (len(self.sigmas) - 1) - (self.solver.nfe - 1)

    def diffused(self, state: Any, pictures: jax.Array) -> jax.Array:
        """What the model diffuses, of pictures [B, H, W, C]: these themselves."""
        return pictures

    def pictures(self, state: Any, x: jax.Array) -> jax.Array:
        """The pictures [B, H, W, C] of what the model diffuses."""
        return x

    def known(self, state: Any, pictures: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the model diffuses, and which of it is kept, of pictures and a mask [B, H, W, 1], True where kept."""
        return pictures, mask

    def trajectory(self, state: Any, trajectory: jax.Array, sigmas: jax.Array) -> jax.Array:
        """The trajectory to show, of x [n, B, ...] after the steps to sigmas[1:]."""
        return trajectory


class LatentSampler(DiffusionSampler):
    """Samples of a latent diffusion model, decoded."""

    @property
    def shape(self):
        return self.model.shape

    def diffused(self, state, pictures):
        return self.model.latents(state, pictures)

    def pictures(self, state, x):
        return self.model.pictures(state, x)

    def known(self, state, pictures, mask):
        return self.diffused(state, hide(pictures, mask)), kept_positions(mask, self.shape)[..., None]

    def trajectory(self, state, trajectory, sigmas):
        # Latents of deviation 1 with their noise, back at deviation 1, as the decoder knows them.
        sizes = jnp.sqrt(1 + sigmas[1:] ** 2).reshape(-1, *(1,) * (trajectory.ndim - 1))
        return jax.lax.map(lambda x: self.pictures(state, x), trajectory / sizes)


SAMPLERS = {DiffusionModel: DiffusionSampler, LatentDiffusion: LatentSampler,
            TokenPrior: lambda model, *args: TOKEN_SAMPLERS[model.kind](model, *args)}
# Settings that runs of priors from before them lack.
OLDER = {"masked": {"choice_temperature": 1.0}, "autoregressive": {"top_k": 0}}


def load_sampler(
    workdir: str | Path, changes: Mapping[str, Any] | None = None, *, step: int | None = None
) -> tuple[DiffusionSampler | LatentSampler | TokenSampler, Loaded, Variables]:
    """The sampler of a run, the run, and its (averaged) weights.

    Args:
        workdir: of the run.
        changes: values of `config.sampling` to replace; None leaves one as it is.
        step: of the checkpoint; None for the newest.

    Raises:
        ValueError: the run trained nothing that samples, or has no such setting.
    """
    loaded, variables = load_run(workdir, step)
    if type(loaded.model) not in SAMPLERS:
        raise ValueError(f"the run in {workdir} trained a {loaded.config['model']['name']!r}, which has no samples of "
                         "its own: give a run of experiments.diffusion, .latent_diffusion or .token_prior")
    kind = loaded.model.kind if isinstance(loaded.model, TokenPrior) else ""
    own = {**OLDER.get(kind, {}), **loaded.config["sampling"]}
    changed = {name: value for name, value in (changes or {}).items() if value is not None}
    for name, value in changed.items():
        if name not in own:
            what = f"{kind} {loaded.config['model']['name']!r}".strip()
            raise ValueError(f"--{name}={value} does not apply to the {what}: its settings are "
                             f"{', '.join(sorted(own))}")
    sampler = SAMPLERS[type(loaded.model)](loaded.model, loaded.config["image_shape"], {**own, **changed})
    return sampler, loaded, variables
