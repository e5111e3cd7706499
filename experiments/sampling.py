"""From a trained model to pictures: grid, solver, guidance, batches; for diffusion models and for token priors."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.masks import hide, kept_positions
from experiments.runs import load_run
from jaxgen import diffusion, priors
from jaxgen.cpu import compiler_options
from jaxgen.diffusion import Denoiser
from jaxgen.diffusion.checks import check_fraction, check_positive
from jaxgen.errors import unknown_name
from jaxgen.models import DiffusionModel, LatentDiffusion, TokenPrior
from jaxgen.quantize import Variables
from jaxgen.train import Loaded

GRIDS = ("karras", "exponential", "uniform", *diffusion.SPACINGS)
TOKEN_SOLVERS = ("ancestral", "confidence", "maskgit")
BATCH = 64


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


class Sampler:
    """Pictures of a model; one program serves all seeds, conditions, guidance scales and grids of one length.

    Args:
        model: the model.
        image_shape: [H, W, C].
        sampling: solver, steps and guidance, as `config.sampling` has them.
    """

    def __init__(self, model: Any, image_shape: Sequence[int], sampling: Mapping[str, Any]):
        self.model, self.image_shape, self.sampling = model, tuple(image_shape), sampling

    def __call__(self, variables: Variables, key: jax.Array, ids: jax.Array, cond: Mapping[str, jax.Array]) -> Any:
        """Pictures [B, H, W, C] in [-1, 1] of the samples `ids` [B], with conditions of the same length."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample as the model sees it: a picture, latents (h, w, D) or codes (h, w) or (h, w, levels)."""
        return self.image_shape

    @property
    def evaluations(self) -> int:
        """Network evaluations of one sample without guidance; with it, up to twice as many."""
        raise NotImplementedError

    def many(self, variables: Variables, key: jax.Array, cond: Mapping[str, np.ndarray], count: int, *,
             batch: int = BATCH, bar: bool = False) -> Iterator[Any]:
        """`__call__` for samples 0 to count - 1 in batches of one size; what fills up the last one is cut off."""
        batch = min(batch, count)
        for start in tqdm(range(0, count, batch), unit="batch", disable=None if bar else True):
            ids = np.arange(start, start + batch)
            part = {name: jnp.asarray(value[np.minimum(ids, count - 1)]) for name, value in cond.items()}
            result = self(variables, key, jnp.asarray(ids), part)
            kept = slice(min(batch, count - start))
            yield jax.tree.map(lambda a, kept=kept: np.asarray(a[..., kept, :, :, :]), result)

    def all(self, variables: Variables, key: jax.Array, cond: Mapping[str, np.ndarray], count: int, *,
            batch: int = BATCH, bar: bool = False) -> np.ndarray:
        """The pictures of `many` as one array [count, H, W, C]."""
        return np.concatenate(list(self.many(variables, key, cond, count, batch=batch, bar=bar)))


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
        if sampling["solver"] in ("heun", "rk4") and self.sigmas[0] >= diffusion.MAX_RATIO:
            raise ValueError(f"solver {sampling['solver']!r} overshoots in its first step from pure noise, where grid "
                             f"{sampling['grid']!r} starts: use 'dpmpp_2m', 'unipc' or 'euler', or another grid")

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


class TokenSampler(Sampler):
    """Samples of a token prior: its tokens, decoded by its tokenizer."""

    def __init__(self, model: TokenPrior, image_shape: Sequence[int], sampling: Mapping[str, Any]):
        super().__init__(model, image_shape, sampling)
        check_positive("temperature", sampling["temperature"])

        def run(variables, key, ids, cond, settings, known):
            params, state = variables
            options = {"cond": cond, "sample_ids": ids, **known}
            tokens = self.draw(params, key, (len(ids), prod(model.shape)), settings, options)
            return model.pictures(state, tokens), tokens

        self._run = jax.jit(run, compiler_options=compiler_options())

    @property
    def shape(self):
        return self.model.shape

    def draw(self, params: Any, key: jax.Array, shape: tuple[int, int], settings: Mapping[str, Any],
             options: Mapping[str, Any]) -> jax.Array:
        """Tokens of `shape`; `settings` are the traced numbers of `config.sampling`, less those that change nothing."""
        raise NotImplementedError

    def __call__(self, variables, key, ids, cond):
        return self.tokens(variables, key, ids, cond)[0]

    def tokens(self, variables: Variables, key: jax.Array, ids: jax.Array, cond: Mapping[str, jax.Array],
               **known: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(pictures [B, H, W, C], tokens [B, N]); `known` tokens [B, N] stay where `mask` [B, N] is True, if given."""
        neutral = (("guidance", 1), ("top_p", 1))  # left out: what changes nothing need not be computed
        settings = {name: value for name, value in self.sampling.items()
                    if name not in ("solver", "steps") and (name, value) not in neutral}
        return self._run(variables, key, ids, cond, settings, known)


class MaskedSampler(TokenSampler):
    """Samples of a masked prior, several tokens in each of its steps."""

    def __init__(self, model: TokenPrior, image_shape: Sequence[int], sampling: Mapping[str, Any]):
        super().__init__(model, image_shape, sampling)
        if (solver := sampling["solver"]) not in TOKEN_SOLVERS:
            raise unknown_name("solver of a token prior", solver, TOKEN_SOLVERS)
        check_fraction("remask", sampling["remask"])
        if sampling["remask"] and solver != "ancestral":
            raise ValueError(f"remask={sampling['remask']} belongs to solver 'ancestral', not {solver!r}")
        self.times = diffusion.mask_times(sampling["steps"])

    def draw(self, params, key, shape, settings, options):
        logits = partial(self.model.logits, params)
        if options["cond"] and "guidance" in settings:
            logits = diffusion.cfg(settings["guidance"], self.model.null(shape[0]))(logits)
        options = {"mask_id": self.model.mask_id, "temperature": settings["temperature"], **options}
        if self.sampling["solver"] == "ancestral":
            return diffusion.masked_sample(key, logits, self.times, shape, remask=settings["remask"], **options)
        options |= {"choice_temperature": settings.get("choice_temperature", 1.0)}  # older runs have none
        if self.sampling["solver"] == "confidence":
            return diffusion.confidence_sample(key, logits, self.times, shape, **options)
        share, steps = priors.masking_schedule(), len(self.times) - 1  # the share of masks is the network's time
        return priors.masked_decode(key, lambda tokens, r, cond: logits(tokens, share(r), cond), shape, steps=steps,
                                    **options)

    @property
    def evaluations(self) -> int:
        return len(self.times) - 1


class AutoregressiveSampler(TokenSampler):
    """Samples of an autoregressive prior, one token after the other, with a cache of keys and values."""

    def __init__(self, model: TokenPrior, image_shape: Sequence[int], sampling: Mapping[str, Any]):
        super().__init__(model, image_shape, sampling)
        check_fraction("top_p", sampling["top_p"])

    def draw(self, params, key, shape, settings, options):
        next_fn, count = partial(self.model.next_logits, params), shape[0]
        if options["cond"] and "guidance" in settings:
            next_fn, count = priors.guide(next_fn, settings["guidance"], self.model.null(shape[0])), 2 * count
        return priors.autoregressive_sample(key, next_fn, self.model.init_cache(count), shape,
                                            temperature=settings["temperature"], top_p=settings.get("top_p"), **options)

    @property
    def evaluations(self) -> int:
        return prod(self.model.shape)


TOKEN_SAMPLERS = {"masked": MaskedSampler, "autoregressive": AutoregressiveSampler}
SAMPLERS = {DiffusionModel: DiffusionSampler, LatentDiffusion: LatentSampler,
            TokenPrior: lambda model, *args: TOKEN_SAMPLERS[model.kind](model, *args)}


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
    changed = {name: value for name, value in (changes or {}).items() if value is not None}
    for name, value in changed.items():
        if name not in loaded.config["sampling"]:
            raise ValueError(f"--{name}={value} does not apply to a {loaded.config['model']['name']!r}: "
                             f"its settings are {', '.join(loaded.config['sampling'])}")
    sampling = {**loaded.config["sampling"], **changed}
    return SAMPLERS[type(loaded.model)](loaded.model, loaded.config["image_shape"], sampling), loaded, variables
