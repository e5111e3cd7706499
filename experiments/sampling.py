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

from experiments.runs import load_run
from jaxgen import diffusion, priors
from jaxgen.cpu import compiler_options
from jaxgen.diffusion import Denoiser
from jaxgen.diffusion.checks import check_fraction, check_positive
from jaxgen.errors import unknown_name
from jaxgen.models import DiffusionModel, TokenPrior
from jaxgen.quantize import Variables
from jaxgen.train import Loaded

GRIDS = ("karras", "exponential", "uniform", *diffusion.SPACINGS)
TOKEN_SOLVERS = ("ancestral", "confidence")
BATCH = 64


def make_sigmas(model: DiffusionModel, sampling: Mapping[str, Any]) -> jax.Array:
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


def guided(model: DiffusionModel, params: Any, cond: Mapping[str, Any], count: int, guidance: Any) -> Denoiser:
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

    def __init__(self, model: DiffusionModel, image_shape: Sequence[int], sampling: Mapping[str, Any], *,
                 save_every: int | None = None):
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

        def run(params, key, ids, cond, sigmas, guidance):
            denoiser = guided(model, params, cond, len(ids), guidance)
            x = diffusion.prior_sample(key, (len(ids), *self.image_shape), sigmas[0], sample_ids=ids)
            return diffusion.sample(denoiser, self.solver, sigmas, x, key, cond=model.encode(params, cond),
                                    sample_ids=ids, save_every=save_every)

        self._run = jax.jit(run, compiler_options=compiler_options())

    def __call__(self, variables, key, ids, cond):
        return self._run(variables.params, key, ids, cond, self.sigmas, self.guidance)

    @property
    def evaluations(self) -> int:
        return self.solver.nfe * (len(self.sigmas) - 1) - (self.solver.nfe - 1)


class TokenSampler(Sampler):
    """Samples of a token prior: its tokens, decoded by its tokenizer."""

    def __init__(self, model: TokenPrior, image_shape: Sequence[int], sampling: Mapping[str, Any]):
        super().__init__(model, image_shape, sampling)
        check_positive("temperature", sampling["temperature"])

        def run(variables, key, ids, cond, settings, known):
            options = {"cond": cond, "sample_ids": ids, **known}
            tokens = self.draw(variables.params, key, (len(ids), prod(model.shape)), settings, options)
            return model.pictures(variables.state, tokens), tokens

        self._run = jax.jit(run, compiler_options=compiler_options())

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
        if sampling["solver"] not in TOKEN_SOLVERS:
            raise unknown_name("solver of a token prior", sampling["solver"], TOKEN_SOLVERS)
        check_fraction("remask", sampling["remask"])
        if sampling["remask"] and sampling["solver"] != "ancestral":
            raise ValueError(f"remask={sampling['remask']} belongs to solver 'ancestral', not {sampling['solver']!r}")
        self.times = diffusion.mask_times(sampling["steps"])

    def draw(self, params, key, shape, settings, options):
        def logits(tokens, t, cond):
            return self.model.logits(params, tokens, t, cond)

        if options["cond"] and "guidance" in settings:
            logits = diffusion.cfg(settings["guidance"], self.model.null(shape[0]))(logits)
        options = {"mask_id": self.model.mask_id, "temperature": settings["temperature"], **options}
        if self.sampling["solver"] == "ancestral":
            return diffusion.masked_sample(key, logits, self.times, shape, remask=settings["remask"], **options)
        return diffusion.confidence_sample(key, logits, self.times, shape, **options)

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


def load_sampler(
    workdir: str | Path, changes: Mapping[str, Any] | None = None, *, step: int | None = None
) -> tuple[DiffusionSampler | TokenSampler, Loaded, Variables]:
    """The sampler of a run, the run, and its (averaged) weights.

    Args:
        workdir: of the run.
        changes: values of `config.sampling` to replace; None leaves one as it is.
        step: of the checkpoint; None for the newest.

    Raises:
        ValueError: the run trained nothing that samples, or has no such setting.
    """
    loaded, variables = load_run(workdir, step)
    if not isinstance(loaded.model, (DiffusionModel, TokenPrior)):
        raise ValueError(f"the run in {workdir} trained a {loaded.config['model']['name']!r}, which has no samples of "
                         "its own: give a run of experiments.diffusion or experiments.token_prior")
    sampling = dict(loaded.config["sampling"])
    for name, value in (changes or {}).items():
        if value is not None and name not in sampling:
            raise ValueError(f"--{name}={value} does not apply to a {loaded.config['model']['name']!r}: "
                             f"its settings are {', '.join(loaded.config['sampling'])}")
        if value is not None:
            sampling[name] = value
    prior = isinstance(loaded.model, TokenPrior)
    sampler = TOKEN_SAMPLERS[loaded.model.kind] if prior else DiffusionSampler
    return sampler(loaded.model, loaded.config["image_shape"], sampling), loaded, variables
